"""`configure`: what a configuration makes of logging, and what another one changes by the smallest step."""

from __future__ import annotations

import copy
import json
import logging
import logging.config
import logging.handlers
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Notices, events, lines_of, logging_config, messages_of, segments_of

from jsonl_handler import ConfigError, Configuration, RotatingSessionJsonlHandler

Configure = Callable[..., Configuration]

log = logging.getLogger("app")


def mapping(logs: Path, **settings: Any) -> dict[str, Any]:
    return logging_config(logs, **settings) | {"formatters": {"plain": {"format": "%(message)s"}}}


def as_toml(value: dict[str, Any], path: str = "") -> str:
    """Enough of a TOML writer for a configuration."""
    quoted = {json.dumps(key): item for key, item in value.items()}
    plain = [f"{key} = {json.dumps(item)}\n" for key, item in quoted.items() if not isinstance(item, dict)]
    tables = [as_toml(item, f"{path}.{key}" if path else key) for key, item in quoted.items() if isinstance(item, dict)]
    return "".join([f"[{path}]\n" if path else "", *plain, *tables])


# Sources.


@pytest.mark.parametrize("suffix", ["toml", "json", "yaml", "yml", "TOML"])
def test_each_format_says_the_same(configured: Configure, tmp_path: Path, logs: Path, suffix: str) -> None:
    """A configuration is read from TOML, JSON and YAML alike."""
    if suffix.startswith("y"):
        pytest.importorskip("yaml")
    write = as_toml if suffix.lower() == "toml" else json.dumps
    path = tmp_path / f"logging.{suffix}"
    path.write_text(write(mapping(logs, max_file_bytes=4096)), encoding="utf-8")

    configuration = configured(path)
    log.info("hello")
    events().flush()

    assert (configuration.generation, configuration.last_error) == (1, None)
    assert events().settings.max_file_bytes == 4096
    assert messages_of(logs) == ["hello"]


@pytest.mark.parametrize("suffix", ["toml", "json"])
def test_a_table_inside_of_another_file(configured: Configure, tmp_path: Path, logs: Path, suffix: str) -> None:
    """The configuration may be a table of another file, such as pyproject.toml."""
    whole = {"project": {"name": "myapp"}, "tool": {"myapp": {"logging": mapping(logs)}}}
    path = tmp_path / f"pyproject.{suffix}"
    path.write_text((as_toml if suffix == "toml" else json.dumps)(whole))

    configured(path, table="tool.myapp.logging")
    log.info("hello")
    events().flush()

    assert messages_of(logs) == ["hello"]


def test_a_byte_order_mark_is_passed_over(configured: Configure, tmp_path: Path, logs: Path) -> None:
    """What some editors put in front of a file does no harm."""
    path = tmp_path / "logging.toml"
    path.write_text(as_toml(mapping(logs)), encoding="utf-8-sig")

    assert configured(path).generation == 1


def test_without_pyyaml_the_error_says_what_to_install(
    configured: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A YAML file without the extra is refused with the remedy."""
    path = tmp_path / "logging.yaml"
    path.write_text("version: 1\n")
    monkeypatch.setitem(sys.modules, "yaml", None)

    with pytest.raises(ConfigError, match=r"jsonl-handler\[yaml\]"):
        configured(path)


# One step for each change.


def test_nothing_changed_is_no_step(configured: Configure, logs: Path) -> None:
    """Reading the same again is True, and changes neither the generation nor an object."""
    source = mapping(logs)
    configuration = configured(source)
    before = events()

    assert configuration.reload() is True

    assert configuration.generation == 1
    assert events() is before


def test_new_settings_are_applied_in_place(configured: Configure, logs: Path) -> None:
    """Other settings change the handler that is there: same object, session and segment."""
    source = mapping(logs)
    configuration = configured(source)
    log.info("before")
    handler, session = events(), events().session_id

    source["handlers"]["events"].update(flush_interval=0.5, max_files=7)
    del source["handlers"]["events"]["directory"]
    source["handlers"]["events"]["directory"] = str(logs)
    assert configuration.reload() is True
    log.info("after")
    handler.flush()

    assert configuration.generation == 2
    assert events() is handler
    assert (handler.settings.flush_interval, handler.settings.max_files) == (0.5, 7)
    assert handler.session_id == session
    assert len(segments_of(logs)) == 1
    assert messages_of(logs) == ["before", "after"]


def test_a_setting_that_is_taken_out_has_its_default_again(configured: Configure, logs: Path) -> None:
    """What the configuration no longer says no longer counts."""
    source = mapping(logs, max_files=7)
    configuration = configured(source)

    del source["handlers"]["events"]["max_files"]
    configuration.reload()

    assert events().settings.max_files == 10_000


def test_a_new_level_of_a_handler_keeps_it(configured: Configure, logs: Path, tmp_path: Path) -> None:
    """A handler's level changes in place, also one of the standard library's: its file is not opened anew."""
    source = mapping(logs)
    source["handlers"]["file"] = {"class": "logging.FileHandler", "filename": str(tmp_path / "f.txt"), "mode": "w"}
    source["loggers"]["app"]["handlers"] = ["events", "file"]
    configuration = configured(source)
    before = list(log.handlers)
    log.info("kept")

    for name in ("events", "file"):
        source["handlers"][name]["level"] = "ERROR"
    assert configuration.reload() is True
    log.info("not written")

    assert log.handlers == before
    assert [handler.level for handler in before] == [logging.ERROR] * 2
    before[0].flush()
    assert messages_of(logs) == ["kept"]
    assert (tmp_path / "f.txt").read_text() == "kept\n"


def test_a_new_level_of_a_logger_keeps_all_handlers(configured: Configure, logs: Path) -> None:
    """The level of one logger changes, and nothing else."""
    source = mapping(logs)
    configuration = configured(source)
    handler = events()

    source["loggers"]["app"]["level"] = "DEBUG"
    source["loggers"]["app.sub"] = {"level": "ERROR"}
    configuration.reload()
    log.debug("seen")
    logging.getLogger("app.sub").warning("not seen")

    assert events() is handler
    handler.flush()
    assert messages_of(logs) == ["seen"]


def test_what_is_no_longer_said_of_a_logger_is_undone(configured: Configure, logs: Path) -> None:
    """A logger that the configuration does not name any more, or not the level of, is as if it had never been."""
    source = mapping(logs)
    source["loggers"]["app.sub"] = {"level": "DEBUG", "propagate": False, "handlers": ["events"]}
    configuration = configured(source)
    sub = logging.getLogger("app.sub")

    del source["loggers"]["app.sub"]
    del source["loggers"]["app"]["level"], source["loggers"]["app"]["propagate"]
    configuration.reload()

    assert (sub.level, sub.propagate, sub.handlers, sub.disabled) == (logging.NOTSET, True, [], False)
    assert (log.level, log.propagate) == (logging.NOTSET, True)


def test_another_formatter_builds_a_handler_that_goes_on_in_the_session(configured: Configure, logs: Path) -> None:
    """A handler that is built anew goes on with the session, the segment and the count of the one it replaces."""
    source = mapping(logs)
    configuration = configured(source)
    log.info("before")
    old = events()

    source["formatters"]["ours"] = {"()": "jsonl_handler.JsonlFormatter", "static_fields": {"app": "shop"}}
    source["handlers"]["events"]["formatter"] = "ours"
    configuration.reload()
    log.info("after")
    events().flush()

    assert events() is not old
    assert events().session_id == old.session_id
    assert len(segments_of(logs)) == 1
    assert [(line["seq"], line.get("app")) for line in lines_of(logs)] == [(0, None), (1, "shop")]


def test_another_directory_begins_another_session(configured: Configure, logs: Path, tmp_path: Path) -> None:
    """A new directory is a new handler; what was logged before stays where it is."""
    source = mapping(logs)
    configuration = configured(source)
    log.info("before")
    old = events()

    source["handlers"]["events"]["directory"] = str(tmp_path / "other")
    configuration.reload()
    log.info("after")
    events().flush()

    assert messages_of(logs) == ["before"]
    assert messages_of(tmp_path / "other") == ["after"]
    assert old.stats().pending == 0


def test_another_session_id_begins_that_session(configured: Configure, logs: Path) -> None:
    """A new `session_id` is not ignored because a session could be inherited."""
    source = mapping(logs)
    configuration = configured(source)
    log.info("before")

    source["handlers"]["events"]["session_id"] = "mine"
    configuration.reload()
    log.info("after")
    events().flush()

    assert events().session_id == "mine"
    assert messages_of(logs) == ["before", "after"]


def test_the_file_side_alone_changes_in_place_too(configured: Configure, logs: Path) -> None:
    """`RotatingSessionJsonlHandler` keeps its object and session when only its settings change."""
    source = mapping(logs)
    source["handlers"]["events"] = {"()": "jsonl_handler.RotatingSessionJsonlHandler", "directory": str(logs)}
    configuration = configured(source)
    log.info("before")
    (handler,) = log.handlers
    assert isinstance(handler, RotatingSessionJsonlHandler)
    session = handler.session_id

    source["handlers"]["events"]["max_file_bytes"] = 4096
    configuration.reload()
    log.info("after")

    assert log.handlers == [handler]
    assert (handler.settings.max_file_bytes, handler.session_id) == (4096, session)
    assert messages_of(logs) == ["before", "after"]


def test_a_handler_that_did_not_change_is_kept_beside_new_ones(
    configured: Configure, logs: Path, tmp_path: Path
) -> None:
    """A file that is opened for writing anew would be emptied: a handler whose entry stays is not made again."""
    source = mapping(logs)
    file = {"class": "logging.FileHandler", "filename": str(tmp_path / "f.txt"), "mode": "w", "formatter": "plain"}
    source["handlers"]["file"] = file
    source["loggers"]["app"]["handlers"] = ["events", "file"]
    configuration = configured(source)
    before = list(log.handlers)
    log.info("one")

    source["handlers"]["console"] = {"class": "logging.StreamHandler", "stream": "ext://sys.stderr"}
    source["loggers"]["app"]["handlers"].append("console")
    configuration.reload()
    log.info("two")

    assert log.handlers[:2] == before
    assert (tmp_path / "f.txt").read_text() == "one\ntwo\n"


def test_a_formatter_that_changes_takes_its_handlers_along(configured: Configure, logs: Path, tmp_path: Path) -> None:
    """A handler is made again when the formatter that it names says something else."""
    source = mapping(logs)
    file = {"class": "logging.FileHandler", "filename": str(tmp_path / "f.txt"), "formatter": "plain"}
    source["handlers"]["file"] = file
    source["loggers"]["app"]["handlers"] = ["events", "file"]
    configuration = configured(source)
    ours, theirs = log.handlers
    log.info("one")

    source["formatters"]["plain"]["format"] = "<%(message)s>"
    configuration.reload()
    log.info("two")

    assert log.handlers[0] is ours
    assert log.handlers[1] is not theirs
    assert (tmp_path / "f.txt").read_text() == "one\n<two>\n"


def test_a_memory_handler_follows_its_target(configured: Configure, logs: Path, tmp_path: Path) -> None:
    """A handler that passes records on is made again with its target, and what it held is passed on first."""
    source = mapping(logs)
    source["handlers"]["file"] = {"class": "logging.FileHandler", "filename": str(tmp_path / "f.txt")}
    source["handlers"]["a_memory"] = {"class": "logging.handlers.MemoryHandler", "capacity": 100, "target": "file"}
    source["loggers"]["app"]["handlers"] = ["a_memory"]
    configuration = configured(source)
    log.info("one")

    source["handlers"]["file"]["filename"] = str(tmp_path / "g.txt")
    configuration.reload()
    log.info("two")
    log.error("three")

    (memory,) = log.handlers
    assert isinstance(memory, logging.handlers.MemoryHandler)
    assert memory.target is logging._handlers["file"]
    assert (tmp_path / "f.txt").read_text() == "one\n"
    assert (tmp_path / "g.txt").read_text() == "two\nthree\n"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="dictConfig makes no listeners before 3.12")
def test_a_queue_handler_that_is_replaced_loses_nothing(configured: Configure, logs: Path) -> None:
    """A stock listener that was started is stopped when its queue is empty, and the new one is started."""
    source = mapping(logs)
    source["handlers"]["file"] = {"class": "jsonl_handler.RotatingSessionJsonlHandler", "directory": str(logs)}
    source["handlers"]["queue"] = {"class": "logging.handlers.QueueHandler", "handlers": ["file"]}
    del source["handlers"]["events"]
    source["loggers"]["app"]["handlers"] = ["queue"]
    configuration = configured(source)
    (first,) = log.handlers
    first.listener.start()
    log.info("one")

    source["handlers"]["queue"]["respect_handler_level"] = True
    configuration.reload()
    log.info("two")
    (second,) = log.handlers
    second.listener.stop()

    assert second is not first
    assert messages_of(logs) == ["one", "two"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="dictConfig makes no listeners before 3.12")
def test_a_new_listener_may_need_loggings_lock_to_start(
    configured: Configure, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its thread may collect a handler as it begins, which takes that lock: a reload must not hold it meanwhile."""
    source = mapping(logs)
    source["handlers"]["queue"] = {"class": "logging.handlers.QueueHandler", "handlers": ["events"]}
    source["loggers"]["app"]["handlers"] = ["queue"]
    configuration = configured(source)
    (first,) = log.handlers
    first.listener.start()
    start, waits = logging.handlers.QueueListener.start, []

    def start_with_the_lock(self: logging.handlers.QueueListener) -> None:
        needy = threading.Thread(target=logging.getLogger, args=("made by a thread that begins",))
        needy.start()
        needy.join(1.0)
        waits.append(needy.is_alive())
        start(self)

    monkeypatch.setattr(logging.handlers.QueueListener, "start", start_with_the_lock)
    source["handlers"]["queue"]["respect_handler_level"] = True
    configuration.reload()
    log.handlers[0].listener.stop()

    assert waits == [False]


def test_what_code_has_added_stays(configured: Configure, logs: Path) -> None:
    """A handler and a filter that code has put on a logger since stay there when the configuration changes."""
    source = mapping(logs)
    configuration = configured(source)
    added, only = logging.NullHandler(), logging.Filter("app")
    log.addHandler(added)
    log.addFilter(only)

    source["loggers"]["app"]["level"] = "DEBUG"
    configuration.reload()

    assert added in log.handlers
    assert log.filters == [only]


def test_the_names_mean_the_new_handlers(configured: Configure, logs: Path) -> None:
    """After a reload an incremental dictConfig finds the handlers that run under their names."""
    source = mapping(logs)
    configuration = configured(source)
    source["handlers"]["events"]["formatter"] = "plain"
    configuration.reload()

    logging.config.dictConfig({"version": 1, "incremental": True, "handlers": {"events": {"level": "ERROR"}}})

    assert events().level == logging.ERROR
    assert events().name == "events"


def test_references_within_the_configuration(configured: Configure, logs: Path) -> None:
    """`cfg://` takes values from elsewhere in it, and is followed when they change; such a key may have any name."""
    source = mapping(logs, max_files="cfg://common.files")
    source["common"] = {"files": 7, "level": "DEBUG"}
    source["loggers"]["app"]["level"] = "cfg://common.level"
    configuration = configured(source)
    assert (events().settings.max_files, log.level) == (7, logging.DEBUG)

    source["common"] = {"files": 8, "level": "INFO"}
    assert configuration.reload()

    assert (events().settings.max_files, log.level) == (8, logging.INFO)


def test_incremental_changes_levels_alone(configured: Configure, logs: Path) -> None:
    """`incremental: true` changes levels and `propagate` alone; without it all is set again."""
    source = mapping(logs)
    configuration = configured(source)
    handler = events()
    whole = copy.deepcopy(source)

    source.clear()
    source.update(
        {
            "version": 1,
            "incremental": True,
            "handlers": {"events": {"level": "ERROR"}},
            "loggers": {"app": {"level": "DEBUG"}},
        }
    )
    assert configuration.reload()
    assert (handler.level, log.level, events()) == (logging.ERROR, logging.DEBUG, handler)
    assert configuration.generation == 2
    assert configuration.reload()
    assert configuration.generation == 2

    source.clear()
    source.update(whole)
    assert configuration.reload()

    assert (handler.level, log.level, events()) == (logging.NOTSET, logging.INFO, handler)


def test_existing_loggers_are_disabled_as_the_standard_library_has_it(configured: Configure, logs: Path) -> None:
    """At the call loggers that are not named are disabled, but for children; those that come later never are."""
    other, child = logging.getLogger("other"), logging.getLogger("app.child")
    source = mapping(logs)
    del source["disable_existing_loggers"]
    configuration = configured(source)
    assert (other.disabled, child.disabled) == (True, False)
    late = logging.getLogger("late")

    source["loggers"]["app"]["level"] = "DEBUG"
    configuration.reload()
    assert not late.disabled

    source["disable_existing_loggers"] = False
    configuration.reload()
    assert not other.disabled


def test_a_second_configure_goes_on_from_the_first(configured: Configure, logs: Path) -> None:
    """A later call takes over: what both have in common stays, and the earlier one reloads no more."""
    first = configured(mapping(logs))
    handler = events()

    second = configured(mapping(logs, max_files=7))

    assert events() is handler
    assert handler.settings.max_files == 7
    assert (second.generation, second.reload()) == (1, True)
    assert first.reload() is False
    assert "closed" in str(first.last_error)


def test_the_first_configuration_takes_the_session_of_a_plain_one_over(configured: Configure, logs: Path) -> None:
    """After a plain dictConfig the handlers that `configure` makes go on in the sessions that are there."""
    logging.config.dictConfig(mapping(logs))
    log.info("before")
    session = events().session_id

    configured(mapping(logs))
    log.info("after")
    events().flush()

    assert events().session_id == session
    assert messages_of(logs) == ["before", "after"]
    assert len(segments_of(logs)) == 1


# What runs is looked at, not remembered.


def test_a_plain_configuration_in_between_is_noticed(configured: Configure, logs: Path) -> None:
    """A dictConfig that replaced the handlers does not make a reload believe that they still run."""
    configuration = configured(mapping(logs))
    log.info("one")
    session = events().session_id
    logging.config.dictConfig(mapping(logs, max_files=9))
    log.info("two")

    assert configuration.reload() is True
    log.info("three")
    events().flush()

    assert configuration.generation == 2
    assert events().settings.max_files == 10_000
    assert events().session_id == session
    assert messages_of(logs) == ["one", "two", "three"]


def test_handlers_that_were_closed_but_stay_attached_are_replaced(configured: Configure, logs: Path) -> None:
    """A framework's dictConfig closes all handlers; the next reload makes them anew, in the same session."""
    configuration = configured(mapping(logs))
    log.info("one")
    before = events()
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": False})
    log.info("two")

    assert configuration.reload() is True
    log.info("three")
    events().flush()

    assert events() is not before
    assert events().session_id == before.session_id
    assert messages_of(logs) == ["one", "two", "three"]


# Refused.


def test_a_refused_configuration_changes_nothing_and_is_told_once(
    configured: Configure, tmp_path: Path, logs: Path, notices: Notices
) -> None:
    """A syntax error leaves all as it is, is told once with its line, and told again when it is mended."""
    path = tmp_path / "logging.toml"
    path.write_text(as_toml(mapping(logs)))
    configuration = configured(path)
    handler = events()

    path.write_text(as_toml(mapping(logs)) + "\n[[[")
    assert [configuration.reload(), configuration.reload()] == [False, False]

    assert "line" in str(configuration.last_error)
    assert (configuration.generation, events()) == (1, handler)
    assert len(notices.about("refused")) == 1
    path.write_text(as_toml(mapping(logs, max_files=7)))
    assert configuration.reload() is True
    assert configuration.last_error is None
    assert len(notices.about("can be used again")) == 1
    assert handler.settings.max_files == 7


def test_a_first_configuration_that_is_refused_raises(configured: Configure, tmp_path: Path) -> None:
    """`configure` itself raises what is wrong: file, key path, rule and value."""
    path = tmp_path / "logging.json"
    path.write_text(json.dumps({"version": 2, "handlers": []}))

    with pytest.raises(ConfigError) as caught:
        configured(path)

    assert caught.value.path == str(path)
    assert caught.value.where == "version"
    assert str(caught.value) == f"{path}: version: must be 1, got 2; handlers: must be a mapping, got []"


def test_a_problem_is_applied_and_told_with_its_place(
    configured: Configure, tmp_path: Path, logs: Path, notices: Notices
) -> None:
    """A value that breaks its rule takes its default, and is told with file and key path, at first and later on."""
    path = tmp_path / "logging.toml"
    path.write_text(as_toml(mapping(logs, max_file_bytes=12)))
    configuration = configured(path)
    rule = "must be at least 4096, got 12; the default 5242880 is used instead"
    assert notices.texts() == [f"{path}: handlers.events.max_file_bytes: {rule}"]

    path.write_text(as_toml(mapping(logs, max_files=0)))
    assert configuration.reload() is True

    assert notices.about("handlers.events.max_files: must be at least 1")
    assert configuration.generation == 2


def test_a_problem_refuses_a_strict_entry(configured: Configure, tmp_path: Path, logs: Path) -> None:
    """With `strict` a value that breaks its rule refuses the whole configuration, and nothing has changed."""
    path = tmp_path / "logging.toml"
    path.write_text(as_toml(mapping(logs, strict=True)))
    configuration = configured(path)
    broken = mapping(logs, strict=True, max_file_bytes=12, max_files=7)
    broken["loggers"]["app"]["level"] = "DEBUG"

    path.write_text(as_toml(broken))
    assert configuration.reload() is False

    assert str(configuration.last_error) == (f"{path}: handlers.events.max_file_bytes: must be at least 4096, got 12")
    assert events().settings.max_files == 10_000
    assert log.level == logging.INFO


class Failing(logging.Handler):
    """Can't be made."""

    def __init__(self) -> None:
        super().__init__()
        raise RuntimeError("no such device")


def test_a_constructor_that_fails_changes_nothing(configured: Configure, logs: Path) -> None:
    """When a handler can't be made, those already made are closed, and what runs goes on as it is."""
    source = mapping(logs)
    configuration = configured(source)
    log.info("before")
    before, threads = events(), threading.active_count()

    source["handlers"]["events"].update(formatter="plain", max_files=7)
    source["handlers"]["failing"] = {"()": Failing}
    source["loggers"]["app"]["level"] = "DEBUG"
    assert configuration.reload() is False
    log.info("after")
    before.flush()

    assert str(configuration.last_error) == "handlers.failing: can't be made: RuntimeError: no such device"
    assert events() is before
    assert (before.settings.max_files, log.level) == (10_000, logging.INFO)
    assert threading.active_count() == threads
    assert messages_of(logs) == ["before", "after"]


def test_a_handler_in_use_is_not_closed_by_a_refusal(configured: Configure, logs: Path) -> None:
    """A factory that gives out the same handler each time does not lose it when something else is refused."""
    shared = logging.NullHandler()
    source = mapping(logs)
    source["handlers"]["shared"] = {"()": lambda **_: shared}
    source["loggers"]["app"]["handlers"] = ["events", "shared"]
    configuration = configured(source)

    source["handlers"]["shared"] = {"()": lambda **_: shared, "another": True}
    source["handlers"]["z_failing"] = {"()": Failing}
    assert configuration.reload() is False
    assert not shared._closed

    del source["handlers"]["z_failing"]
    assert configuration.reload() is True
    assert log.handlers[1] is shared
    assert not shared._closed


def test_what_is_no_handler_is_refused(configured: Configure, logs: Path) -> None:
    """A factory must make a handler."""
    source = mapping(logs)
    source["handlers"]["x"] = {"()": dict}

    with pytest.raises(ConfigError) as caught:
        configured(source)

    assert str(caught.value) == "handlers.x: must make a logging.Handler, got {}"


def test_handlers_of_one_directory_keep_their_own_sessions(configured: Configure, logs: Path) -> None:
    """Where two handlers write to the same directory, each goes on in its own session, under its own name."""
    source = mapping(logs)
    source["handlers"]["a_second"] = {"class": "jsonl_handler.JsonlHandler", "directory": str(logs)}
    source["loggers"]["app"]["handlers"] = ["events", "a_second"]
    configuration = configured(source)
    log.info("before")
    before = [handler.session_id for handler in log.handlers]

    for name in ("events", "a_second"):
        source["handlers"][name]["formatter"] = "plain"
    configuration.reload()
    log.info("after")

    assert [handler.session_id for handler in log.handlers] == before
    assert len(set(before)) == 2


def test_strictness_changes_in_place(configured: Configure, logs: Path) -> None:
    """A new `strict` counts for the handler that is there, and for what the code changes later."""
    source = mapping(logs)
    configuration = configured(source)
    handler = events()

    source["handlers"]["events"]["strict"] = True
    assert configuration.reload()

    assert events() is handler
    with pytest.raises(ConfigError):
        handler.reconfigure(max_files=0)


LEVEL: Any = logging.ERROR


def test_a_level_from_elsewhere(configured: Configure, logs: Path) -> None:
    """A level may be named by `ext://`; one that is none is refused before anything has changed."""
    global LEVEL
    source = mapping(logs)
    configuration = configured(source)

    LEVEL = logging.ERROR
    source["handlers"]["events"]["level"] = f"ext://{__name__}.LEVEL"
    assert configuration.reload()
    assert events().level == logging.ERROR

    LEVEL = "nonsense"
    source["handlers"]["events"]["level"] = f"ext://{__name__}.LEVEL "
    source["loggers"]["app"]["level"] = "DEBUG"
    assert configuration.reload() is False
    assert log.level == logging.INFO


def test_other_peoples_handlers_are_made_last(configured: Configure, logs: Path, tmp_path: Path) -> None:
    """A file that a handler would empty keeps its content when anything else is refused."""
    kept = tmp_path / "kept.txt"
    kept.write_text("kept")
    source = mapping(logs)
    configuration = configured(source)

    source["handlers"]["file"] = {"class": "logging.FileHandler", "filename": str(kept), "mode": "w"}
    source["handlers"]["events"]["directory"] = "\0"
    assert configuration.reload() is False

    assert kept.read_text() == "kept"


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"handler": {}}, "handler: unknown key; did you mean handlers?"),
    ({"version": True}, "version: must be 1, got True"),
    ({"root": {"handlers": ["nobody"]}}, "root.handlers: must name one of the handlers (events), got 'nobody'"),
    ({"root": {"handlers": "events"}}, "root.handlers: must be a list of names, got 'events'"),
    ({"root": {"level": "info"}}, "root.level: must be the name or number of a logging level (levels are in upper"),
    ({"root": {"level": True}}, "root.level: must be the name or number of a logging level, got True"),
    ({"root": {"propagate": False}}, "root.propagate: unknown key"),
    ({"loggers": {"app": {"levle": "INFO"}}}, "loggers.app.levle: unknown key; did you mean level?"),
    ({"loggers": {"app": None}}, "loggers.app: must be a mapping, got None"),
    ({"loggers": {"app": {"propagate": "no"}}}, "loggers.app.propagate: must be true or false, got 'no'"),
    ({"loggers": {"app": {"filters": ["x"]}}}, "loggers.app.filters: must name one of the filters (none), got 'x'"),
    ({"handlers": {"x": {"level": "INFO"}}}, "handlers.x: needs a class"),
    ({"handlers": {"x": {"class": "no spaces"}}}, "handlers.x.class: must be a dotted name"),
    ({"handlers": {"x": {"class": "nowhere.Handler"}}}, "handlers.x.class: 'nowhere.Handler' can't be had: Module"),
    ({"handlers": {"x": {"class": "logging.Nothing"}}}, "handlers.x.class: 'logging.Nothing' can't be had"),
    ({"handlers": {"x": {"class": "logging.raiseExceptions"}}}, "handlers.x.class: must be a class or a function"),
    ({"handlers": {"x": {"class": "logging.NullHandler", "a-b": 1}}}, "handlers.x.a-b: must be the name of an arg"),
    ({"handlers": {"x": {"class": "logging.NullHandler", "formatter": "y"}}}, "handlers.x.formatter: must name one"),
    ({"handlers": {"x": {"class": "jsonl_handler.JsonlHandler"}}}, "handlers.x.directory: is missing"),
    ({"handlers": {"x": {"class": "logging.StreamHandler", "stream": "ext://sys.nothing"}}}, "handlers.x.stream: "),
    ({"handlers": {"x": {"class": "logging.StreamHandler", "stream": "cfg://y"}}}, "handlers.x.stream: 'cfg://y'"),
    ({"formatters": {"x": {"fmt": "%(message)s"}}}, "formatters.x.fmt: unknown key; did you mean format?"),
    ({"formatters": {"x": {"format": "%(nonsense"}}}, "formatters.x: can't be made: ValueError: "),
    ({"formatters": {"x": {"()": "jsonl_handler.nothing"}}}, "formatters.x.(): 'jsonl_handler.nothing' can't be had"),
    ({"filters": {"x": {"names": "app"}}}, "filters.x.names: unknown key; did you mean name?"),
    ({"disable_existing_loggers": "no"}, "disable_existing_loggers: must be true or false, got 'no'"),
]


@pytest.mark.parametrize(("wrong", "said"), WRONG, ids=[said.split(": ")[0] for _, said in WRONG])
def test_what_is_wrong_is_named(configured: Configure, logs: Path, wrong: dict[str, Any], said: str) -> None:
    """Each thing that can't be used is refused with the key path to it, the rule and the value."""
    source = mapping(logs)
    for section, entry in wrong.items():
        if isinstance(entry, dict) and section in source:
            source[section] = source[section] | entry
        else:
            source[section] = entry

    with pytest.raises(ConfigError) as caught:
        configured(source)

    assert str(caught.value).startswith(said)
    assert log.handlers == []


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("maxBytes", 1, "unknown setting; use max_file_bytes (bytes)"),
        ("prefix", "../x", "must be 1 to 64 of the characters"),
        ("file_mode", 0o777, "must lie in 0o600 to 0o666"),
        ("strict", "yes", "must be true or false, got 'yes'"),
        ("directory", 7, "must be a path, got 7"),
    ],
)
def test_what_is_wrong_in_our_entry_is_named(
    configured: Configure, logs: Path, key: str, value: Any, said: str
) -> None:
    """An unknown or unusable key of our own handlers refuses the configuration too."""
    with pytest.raises(ConfigError) as caught:
        configured(mapping(logs, **{key: value}))

    assert caught.value.where == f"handlers.events.{key}"
    assert caught.value.problem.startswith(said)


def test_all_that_is_wrong_is_said_at_once(configured: Configure, logs: Path) -> None:
    """One error names every finding, not only the first."""
    source = mapping(logs, maxBytes=1, filename="x")
    source["loggers"]["app"] = {"level": "LOUD", "handlers": ["nobody"]}

    with pytest.raises(ConfigError) as caught:
        configured(source)

    for where in ("handlers.events.maxBytes", "handlers.events.filename", "loggers.app.level", "loggers.app.handlers"):
        assert where in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.toml", b"version = 1\nhandlers = 1 2", "line 2"),
        ("a.json", b'{"version": 1,\n', "line 2"),
        ("a.json", b'{"version": 1, "version": 2}', "'version' stands twice"),
        ("a.json", b'{"version": NaN}', "NaN is no JSON"),
        ("a.json", b"[1]", "must be a mapping, got list"),
        ("a.json", b"\xff\xfe", "must be UTF-8 text, and is not in line 1"),
        ("a.json", b"[" * 100_000, "nest deeper"),
        ("a.json", b'{"x": ' + b"[" * 200 + b"]" * 200 + b"}", "nest deeper"),
        ("a.json", b" " * 1_100_000, "at most 1048576 bytes"),
        ("a.toml", b"x = " + b"[" * 100_000, "nest deeper"),
        ("a.toml", b"x = [" + b"1," * 20_000 + b"]", "hold more than 10000 values"),
        ("a.ini", b"", "must end in .toml"),
        ("gone/a.toml", None, "No such file"),
        ("a.json", None, "Is a directory"),
    ],
)
def test_what_can_not_be_read_is_refused(
    configured: Configure, tmp_path: Path, name: str, content: bytes | None, said: str
) -> None:
    """What is no configuration at all is refused with the file's name, and the line where there is one."""
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    elif path.parent.exists():
        path.mkdir()

    with pytest.raises(ConfigError) as caught:
        configured(path)

    assert caught.value.path == str(path)
    assert said in caught.value.problem


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = "a: &a {x: 1}\n" + "".join(
    f"{name}: &{name} {{<<: [{', '.join([f'*{before}'] * 9)}]}}\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, "hold more than"),
        (MERGES, "hold more than"),
        ("a: &a [*a]", "must not contain itself"),
        ("a: " + "[" * 5000, ""),
        ("a: " + "[" * 500 + "]" * 500, ""),
        ("a: !!python/object/apply:os.system ['true']", "could not determine a constructor"),
        ("a: [1,\nb: }", "line 2"),
        ("a: 1\n---\nb: 2", "expected a single document"),
        ("on: 1\nversion: 1", "True: unknown key"),
        ("", "version: is missing"),
    ],
    ids=["aliases", "merges", "cycle", "open", "deep", "code", "syntax", "two", "key", "empty"],
)
def test_yaml_that_would_explode_is_refused(configured: Configure, tmp_path: Path, text: str, said: str) -> None:
    """A few lines of anchors that stand for billions of values cost neither time nor memory, and no tag runs code."""
    pytest.importorskip("yaml")
    path = tmp_path / "a.yaml"
    path.write_text(text)

    with pytest.raises(ConfigError) as caught:
        configured(path)

    assert said in str(caught.value)


@pytest.mark.parametrize("watch", [0, -1, True, "2", float("nan"), float("inf")])
def test_an_interval_that_is_none_is_refused(configured: Configure, tmp_path: Path, watch: Any) -> None:
    """`watch` is a number of seconds over 0."""
    with pytest.raises(ConfigError, match="watch: must be a number of seconds over 0"):
        configured(tmp_path / "a.toml", watch=watch)


def test_a_mapping_can_not_be_watched(configured: Configure, logs: Path) -> None:
    """Only a file has something to look at."""
    with pytest.raises(ConfigError, match="only a file can be watched"):
        configured(mapping(logs), watch=1.0)


@pytest.mark.parametrize("source", [None, 7, b"logging.toml", ["a"]])
def test_what_is_no_source_is_refused(configured: Configure, source: Any) -> None:
    """A source is a mapping or a path."""
    with pytest.raises(ConfigError, match="must be a mapping or a path"):
        configured(source)


def test_a_table_that_is_not_there_is_named(configured: Configure, logs: Path) -> None:
    """A wrong `table` is told with the part of it that is missing."""
    with pytest.raises(ConfigError) as caught:
        configured({"tool": {"myapp": mapping(logs)}}, table="tool.other.logging")

    assert (caught.value.where, caught.value.problem) == ("tool.other", "there is no such table")


def test_reload_never_raises(configured: Configure, logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong while it applies a configuration, `reload` is False and logging goes on."""
    source = mapping(logs)
    configuration = configured(source)
    monkeypatch.setattr("jsonl_handler.configuration.apply", lambda *_, **__: 1 / 0)

    assert configuration.reload() is False

    assert "ZeroDivisionError" in str(configuration.last_error)


def test_a_module_that_ends_the_program_is_refused(
    configured: Configure, logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A script without a guard, named as a class, does not end the program by its `sys.exit`."""
    (tmp_path / "a_script_that_ends.py").write_text("import sys; sys.exit('done')")
    monkeypatch.syspath_prepend(tmp_path)
    source = mapping(logs)
    configuration = configured(source)

    source["handlers"]["x"] = {"class": "a_script_that_ends.Handler"}
    assert configuration.reload() is False

    assert "SystemExit: done" in str(configuration.last_error)


def test_a_handler_that_hangs_at_its_close_holds_nobody_up(
    configured: Configure, logs: Path, monkeypatch: pytest.MonkeyPatch, notices: Notices
) -> None:
    """An old handler that does not end is left to its thread, and that is told."""
    monkeypatch.setattr("jsonl_handler._retire._PATIENCE", 0.05)
    release = threading.Event()

    class Hanging(logging.NullHandler):
        def close(self) -> None:
            release.wait(30)
            super().close()

    source = mapping(logs)
    source["handlers"]["hanging"] = {"()": Hanging}
    source["loggers"]["app"]["handlers"] = ["events", "hanging"]
    configuration = configured(source)
    del source["handlers"]["hanging"]
    source["loggers"]["app"]["handlers"] = ["events"]

    assert configuration.reload() is True
    assert notices.about("left to itself (Hanging)")
    assert len(log.handlers) == 1
    release.set()


def test_close_leaves_the_handlers(configured: Configure, logs: Path) -> None:
    """After `close`, or the end of a with block, logging goes on."""
    with configured(mapping(logs)):
        log.info("inside")
    log.info("outside")
    events().flush()

    assert messages_of(logs) == ["inside", "outside"]


def test_a_pipe_is_refused_at_once(configured: Configure, tmp_path: Path) -> None:
    """A named pipe in place of the file does not make anybody wait for its writer."""
    os.mkfifo(tmp_path / "a.json")

    with pytest.raises(ConfigError, match="must be a file"):
        configured(tmp_path / "a.json")


def test_a_file_that_is_emptied_when_opened_is_opened_last(configured: Configure, logs: Path, tmp_path: Path) -> None:
    """A reload that is refused for another handler leaves what a `FileHandler(mode="w")` has written."""
    emptied = {"class": "logging.FileHandler", "filename": str(tmp_path / "a.log"), "mode": "w"}
    configuration = configured(described := mapping(logs))
    described["handlers"]["a"] = emptied
    described["root"] = {"level": "INFO", "handlers": ["a"]}
    assert configuration.reload() is True
    logging.getLogger("other").info("kept")
    emptied["encoding"] = "utf-8"
    described["handlers"]["b"] = {"class": "logging.FileHandler", "filename": str(tmp_path / "nowhere" / "b.log")}

    assert configuration.reload() is False

    assert "kept" in (tmp_path / "a.log").read_text()


def test_a_table_that_is_no_text_is_refused(configured: Configure, tmp_path: Path) -> None:
    """All bad arguments raise the same error."""
    with pytest.raises(ConfigError, match="must be a text with dots, got 5"):
        configured(tmp_path / "x.toml", table=5)
