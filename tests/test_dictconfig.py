"""The standard library's own ways to configure behave as documented, however often, and lose nothing of ours."""

from __future__ import annotations

import logging
import logging.config
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from children import run
from conftest import events, lines_of, logging_config, messages_of, rounds, segments_of

log = logging.getLogger("app")


@pytest.fixture(autouse=True)
def named_handlers() -> Iterator[None]:
    yield
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": False, "loggers": {"app": {}}})


def test_again_and_again_goes_on_in_the_session(logs: Path) -> None:
    """Each dictConfig is a new handler in the same session and segment, whose count goes on."""
    sessions = set()
    for number in range(rounds(10, 100)):
        logging.config.dictConfig(logging_config(logs, max_files=100 + number))
        log.info("%s", number)
        assert events().settings.max_files == 100 + number
        sessions.add(events().session_id)
    events().flush()

    assert len(sessions) == len(segments_of(logs)) == 1
    assert [(line["message"], line["seq"]) for line in lines_of(logs)] == [
        (str(number), number) for number in range(rounds(10, 100))
    ]


STORM = """
    import json, logging.config

    def configure():
        entry = {{"class": "jsonl_handler.JsonlHandler", "directory": directory, "overflow": "block"}}
        logging.config.dictConfig({{
            "version": 1, "disable_existing_loggers": False, "handlers": {{"events": entry}},
            "loggers": {{"app": {{"level": "INFO", "handlers": ["events"], "propagate": False}}}},
        }})

    configure()
    stop = threading.Event()
    reached = [[] for _ in range(4)]

    def work(index):
        number = 0
        while not stop.is_set():
            for handler in log.handlers:
                record = log.makeRecord("app", logging.INFO, "", 0, "%s", (number,), None, extra={{"by": index}})
                handler.handle(record)
                reached[index].append(number)
            number += 1
            stop.wait(0.0002)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for _ in range({rounds}):
        configure()
    stop.set()
    for thread in threads:
        thread.join()
    log.info("reached", extra={{"reached": reached}})
"""


def test_threads_that_log_meanwhile(logs: Path) -> None:
    """dictConfig takes handlers off their loggers for a moment; what reached one of them is written exactly once."""
    run(STORM.format(rounds=rounds(30, 300)), logs)

    lines = lines_of(logs)
    (reached,) = (line["reached"] for line in lines if "reached" in line)
    seen = Counter((line["by"], int(line["message"])) for line in lines if "by" in line)
    assert seen == Counter((by, number) for by in range(4) for number in reached[by])


def test_incremental_changes_levels_and_nothing_else(logs: Path) -> None:
    """`incremental: True` changes the levels of handlers and loggers, and leaves the handler as it is."""
    logging.config.dictConfig(logging_config(logs))
    log.info("one")
    handler = events()

    change = {"handlers": {"events": {"level": "ERROR"}}, "loggers": {"app": {"level": "DEBUG", "propagate": True}}}
    logging.config.dictConfig({"version": 1, "incremental": True, **change})
    log.warning("two")
    log.error("three")
    handler.flush()

    assert events() is handler
    assert (handler.level, log.level, log.propagate) == (logging.ERROR, logging.DEBUG, True)
    assert messages_of(logs) == ["one", "three"]


def test_existing_loggers_are_disabled_by_default(logs: Path) -> None:
    """Without `disable_existing_loggers: False` a second dictConfig disables loggers that it does not name."""
    other = logging.getLogger("app_other")
    logging.config.dictConfig({**logging_config(logs), "disable_existing_loggers": True})
    other.error("not heard")
    log.info("heard")
    events().flush()

    assert other.disabled
    assert messages_of(logs) == ["heard"]
    other.disabled = False


FILE = """
[loggers]
keys=root,app

[handlers]
keys=events

[formatters]
keys=ours

[logger_root]
handlers=

[logger_app]
level=INFO
handlers=events
qualname=app
propagate=0

[handler_events]
class=jsonl_handler.JsonlHandler
formatter=ours
args=({directory!r},)
kwargs={{"max_files": 7, "flush_interval": 0.5}}

[formatter_ours]
class=jsonl_handler.JsonlFormatter
"""


def test_file_config_again_and_again(logs: Path, tmp_path: Path) -> None:
    """`fileConfig` makes our handler with its arguments and formatter, and goes on in the same session."""
    path = tmp_path / "logging.ini"
    path.write_text(FILE.format(directory=str(logs)))
    sessions = set()
    for number in range(5):
        logging.config.fileConfig(path, disable_existing_loggers=False)
        log.info("%s", number)
        sessions.add(events().session_id)
    events().flush()

    assert (events().settings.max_files, events().settings.flush_interval) == (7, 0.5)
    assert len(sessions) == len(segments_of(logs)) == 1
    assert [line["seq"] for line in lines_of(logs)] == list(range(5))
    assert messages_of(logs) == [str(number) for number in range(5)]


def test_file_config_after_dict_config_and_back(logs: Path, tmp_path: Path) -> None:
    """The ways to configure may follow each other in any order; the session goes on."""
    path = tmp_path / "logging.ini"
    path.write_text(FILE.format(directory=str(logs)))

    logging.config.dictConfig(logging_config(logs))
    log.info("one")
    logging.config.fileConfig(path, disable_existing_loggers=False)
    log.info("two")
    logging.config.dictConfig(logging_config(logs))
    log.info("three")
    events().flush()

    assert messages_of(logs) == ["one", "two", "three"]
    assert len({line["session"] for line in lines_of(logs)}) == 1
