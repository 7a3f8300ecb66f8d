"""A configuration that is watched: edits of every kind are seen, in forked children too, and SIGHUP is heard."""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from children import run, served
from conftest import PATIENCE, Notices, events, logging_config, messages_of, until
from freezegun import freeze_time

from jsonl_handler import ConfigError, Configuration
from jsonl_handler._config_file import Look, look

Configure = Callable[..., Configuration]

INTERVAL = 0.02
log = logging.getLogger("app")


def text(logs: Path, **settings: Any) -> str:
    return json.dumps(logging_config(logs, **settings))


def max_files() -> int | None:
    return events().settings.max_files


def watchers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "jsonl-handler-watch"]


@pytest.fixture
def path(tmp_path: Path, logs: Path) -> Path:
    made = tmp_path / "logging.json"
    made.write_text(text(logs))
    return made


def write_in_place(path: Path, content: str) -> None:
    path.write_text(content)


def write_and_rename(path: Path, content: str) -> None:
    beside = path.with_name("beside")
    beside.write_text(content)
    os.replace(beside, path)


def same_size_and_time(path: Path, content: str) -> None:
    before = path.stat()
    write_in_place(path, content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("write", [write_in_place, write_and_rename, same_size_and_time])
def test_an_edit_is_seen(
    configured: Configure, path: Path, logs: Path, write: Callable[[Path, str], None], notices: Notices
) -> None:
    """An edit is applied by itself, in whatever way an editor writes the file, and no half of it is ever applied."""
    configuration = configured(path, watch=INTERVAL)

    for generation in (2, 3):
        write(path, text(logs, max_files=generation))
        until(lambda generation=generation: configuration.generation == generation)
        assert max_files() == generation

    assert configuration.last_error is None
    if write is write_and_rename:
        # In place a file is empty for a moment: a slow machine may look twice, and refuse it, just then.
        assert notices.texts() == []


class Looks:
    """Counts how often the file is looked at."""

    def __init__(self) -> None:
        self.count = 0

    def look(self, path: Path) -> Look | None:
        self.count += 1
        return look(path)

    def wait_for(self, more: int) -> None:
        wanted = self.count + more
        until(lambda: self.count >= wanted)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    counted = Looks()
    monkeypatch.setattr("jsonl_handler.configuration.look", counted.look)
    return counted


def test_half_a_file_is_never_applied(configured: Configure, path: Path, logs: Path, looks: Looks) -> None:
    """A writer that rests in the middle of the file is waited for: half of it is no configuration."""
    configuration = configured(path, watch=INTERVAL)
    content = text(logs, max_files=11)

    with path.open("w") as file:
        file.write(content[:50])
        file.flush()
        looks.wait_for(5)
        assert (configuration.generation, max_files()) == (1, 10_000)
        file.write(content[50:])

    until(lambda: configuration.generation == 2)
    assert max_files() == 11


def test_a_config_map_is_followed(configured: Configure, tmp_path: Path, logs: Path) -> None:
    """Kubernetes swaps a link to a directory: the file behind the links is what counts."""

    def publish(name: str, content: str) -> None:
        (tmp_path / name).mkdir()
        (tmp_path / name / "logging.json").write_text(content)
        (tmp_path / "..data_tmp").symlink_to(name)
        os.replace(tmp_path / "..data_tmp", tmp_path / "..data")

    publish("..first", text(logs))
    (tmp_path / "logging.json").symlink_to("..data/logging.json")
    configured(tmp_path / "logging.json", watch=INTERVAL)

    publish("..second", text(logs, max_files=11))
    shutil.rmtree(tmp_path / "..first")

    until(lambda: max_files() == 11)


def test_a_file_that_is_gone_is_told_once_and_waited_for(
    configured: Configure, path: Path, logs: Path, notices: Notices
) -> None:
    """Without its file all goes on; when it is back, it counts again."""
    configuration = configured(path, watch=INTERVAL)

    path.unlink()
    assert "No such file" in notices.wait_for("refused")
    assert configuration.last_error is not None
    assert max_files() == 10_000
    path.write_text(text(logs, max_files=11))

    notices.wait_for("can be used again")
    until(lambda: max_files() == 11)
    assert len(notices.about("refused")) == 1


def test_a_broken_edit_is_told_once_and_the_next_one_counts(
    configured: Configure, path: Path, logs: Path, notices: Notices, looks: Looks
) -> None:
    """What can't be used is refused once, however often it is looked at."""
    configuration = configured(path, watch=INTERVAL)

    path.write_text("{")
    notices.wait_for("refused")
    # It has not changed: nobody reads it again.
    before = configuration.last_error
    looks.wait_for(5)
    assert configuration.last_error is before
    path.write_text(text(logs, max_files=11))

    until(lambda: max_files() == 11)
    assert len(notices.about("refused")) == 1


def test_no_thread_without_a_wish(configured: Configure, path: Path) -> None:
    """`configure` starts a thread only to watch, and `close` ends it."""
    configured(path)
    assert watchers() == []

    configuration = configured(path, watch=INTERVAL)
    assert len(watchers()) == 1

    configuration.close()
    assert watchers() == []


def test_a_second_configure_ends_the_watch_of_the_first(configured: Configure, path: Path) -> None:
    """Only one thread watches, however often a program configures."""
    for _ in range(3):
        configured(path, watch=INTERVAL)

    assert len(watchers()) == 1


def test_frozen_time_holds_nothing_up(configured: Configure, path: Path, logs: Path) -> None:
    """A program whose clock stands still sees edits all the same."""
    with freeze_time("2026-11-22 12:00:00"):
        configuration = configured(path, watch=INTERVAL)
        write_and_rename(path, text(logs, max_files=11))
        until(lambda: max_files() == 11)
        configuration.close()

    assert max_files() == 11


# Who may write it.


@pytest.mark.parametrize(
    ("mode", "allowed"), [(0o600, True), (0o644, True), (0o664, True), (0o666, False), (0o602, False)], ids=oct
)
def test_a_watched_file_is_its_owners(configured: Configure, path: Path, mode: int, allowed: bool) -> None:
    """A file that everybody may write is not watched: it could name code to run."""
    path.chmod(mode)

    if allowed:
        assert configured(path, watch=INTERVAL).generation == 1
    else:
        with pytest.raises(ConfigError, match="everybody may write it"):
            configured(path, watch=INTERVAL)
        # Reading it once, when the program says so, is the program's own doing.
        assert configured(path).generation == 1


def test_a_directory_that_all_may_write_is_refused(configured: Configure, path: Path) -> None:
    """Who may write the directory may put another file in place; a sticky bit prevents it."""
    path.parent.chmod(0o777)
    with pytest.raises(ConfigError, match="everybody may write the directory"):
        configured(path, watch=INTERVAL)

    path.parent.chmod(0o1777)
    assert configured(path, watch=INTERVAL).generation == 1


def test_a_file_that_others_may_write_from_now_on_is_refused(
    configured: Configure, path: Path, notices: Notices
) -> None:
    """A change of permissions is seen too."""
    configuration = configured(path, watch=INTERVAL)

    path.chmod(0o666)

    assert "chmod o-w" in notices.wait_for("refused")
    assert configuration.last_error is not None


def test_a_file_counts_again_when_its_directory_is_mended(configured: Configure, path: Path, notices: Notices) -> None:
    """Whoever does what the refusal says need not touch the file."""
    configuration = configured(path, watch=INTERVAL)
    path.parent.chmod(0o777)
    assert "everybody may write the directory" in notices.wait_for("refused")

    path.parent.chmod(0o700)

    notices.wait_for("can be used again")
    assert configuration.last_error is None


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may give files away")
def test_a_file_of_another_user_is_refused(configured: Configure, path: Path) -> None:
    """Neither this user's nor root's: somebody else decides what it says."""
    os.chown(path, 12345, -1)

    with pytest.raises(ConfigError, match="belongs to user 12345"):
        configured(path, watch=INTERVAL)


# SIGHUP.


@pytest.fixture
def hangup() -> Iterator[None]:
    before = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hangup")
def test_sighup_reloads(configured: Configure, path: Path, logs: Path) -> None:
    """After `reload_on_sighup` the signal has the file read, also where it is not watched."""
    configuration = configured(path)
    configuration.reload_on_sighup()

    path.write_text(text(logs, max_files=11))
    os.kill(os.getpid(), signal.SIGHUP)

    until(lambda: max_files() == 11)


@pytest.mark.usefixtures("hangup")
def test_sighup_still_does_what_it_did(configured: Configure, path: Path) -> None:
    """The program's own handler is called too, and is there again after `close`."""
    heard = []

    def own(number: int, frame: object) -> None:
        heard.append(number)

    signal.signal(signal.SIGHUP, own)
    configuration = configured(path)
    configuration.reload_on_sighup()
    configuration.reload_on_sighup()
    os.kill(os.getpid(), signal.SIGHUP)
    until(lambda: heard)

    configuration.close()

    assert signal.getsignal(signal.SIGHUP) is own
    assert heard == [signal.SIGHUP]


@pytest.mark.usefixtures("hangup")
def test_a_handler_of_sighup_that_came_later_stays(configured: Configure, path: Path) -> None:
    """`close` takes nothing away that the program has set since."""
    configuration = configured(path)
    configuration.reload_on_sighup()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

    configuration.close()

    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_sighup_is_for_the_main_thread(configured: Configure, path: Path) -> None:
    """Elsewhere no signal can be set, and the error says so."""
    configuration = configured(path)
    caught: list[BaseException] = []

    def call() -> None:
        try:
            configuration.reload_on_sighup()
        except ConfigError as error:
            caught.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()

    assert "main thread" in str(caught[0])


def test_where_there_is_no_sighup_the_error_says_so(
    configured: Configure, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Windows there is no such signal."""
    monkeypatch.delattr(signal, "SIGHUP")

    with pytest.raises(ConfigError, match="no SIGHUP"):
        configured(path).reload_on_sighup()


@pytest.mark.usefixtures("hangup")
def test_a_storm_of_signals_while_it_reloads(configured: Configure, path: Path, logs: Path) -> None:
    """Signals in any number, at any moment, are heard and break nothing."""
    configuration = configured(path)
    configuration.reload_on_sighup()

    for count in range(11, 61):
        path.write_text(text(logs, max_files=count))
        os.kill(os.getpid(), signal.SIGHUP)
        log.info("%s", count)
        configuration.reload()

    until(lambda: max_files() == 60)
    log.handlers[0].flush()
    assert messages_of(logs) == [str(count) for count in range(11, 61)]


# Forks.

FORKING = """
    import json, pathlib, jsonl_handler

    path = pathlib.Path(directory).with_name("logging.json")

    def write(level):
        entry = {"class": "jsonl_handler.JsonlHandler", "directory": directory}
        beside = path.with_name("beside")
        beside.write_text(json.dumps({
            "version": 1, "disable_existing_loggers": False, "handlers": {"events": entry},
            "loggers": {"app": {"level": level, "handlers": ["events"]}},
        }))
        os.replace(beside, path)

    def wait_for_debug():
        while not log.isEnabledFor(logging.DEBUG):
            time.sleep(0.01)
"""


def test_a_forked_child_watches_too(logs: Path) -> None:
    """Each child, and a child's child, sees an edit by itself, whether it logs or not; the parent goes on watching."""
    script = """
    write("INFO")
    jsonl_handler.configure(path, watch=0.02)

    def act():
        grandchild = in_child(lambda: (wait_for_debug(), log.debug("grandchild")))
        wait_for_debug()
        log.debug("child")
        os.waitpid(grandchild, 0)

    children = [in_child(act) for _ in range(3)]
    write("DEBUG")
    wait_for_debug()
    log.debug("parent")
    for child in children:
        os.waitpid(child, 0)
    """
    run(FORKING + script, logs)

    assert sorted(messages_of(logs)) == ["child"] * 3 + ["grandchild"] * 3 + ["parent"]


def test_a_configuration_that_begins_in_a_child(logs: Path) -> None:
    """`configure` in the children of `multiprocessing`, however they are started, and in a forked one."""
    script = """
    import multiprocessing

    def work(number):
        with jsonl_handler.configure(path, watch=0.02) as configuration:
            wait_for_debug()
            log.debug("%s", number)
            assert configuration.generation >= 1

    if __name__ == "__main__":
        write("DEBUG")
        for number, method in enumerate(["fork", "spawn", "forkserver"]):
            child = multiprocessing.get_context(method).Process(target=work, args=(number,))
            child.start()
            child.join()
        def act():
            work(3)
        os.waitpid(in_child(act), 0)
    """
    run(FORKING + script, logs)

    assert sorted(messages_of(logs)) == ["0", "1", "2", "3"]


def test_forks_while_it_reloads(logs: Path) -> None:
    """However busy the watching thread is when the program forks, no child hangs, and each one sees the last edit."""
    script = """
    write("INFO")
    configuration = jsonl_handler.configure(path, watch=0.005)
    children = []
    busy = threading.Event()

    def edit():
        while not busy.is_set():
            for level in ("WARNING", "INFO"):
                write(level)
                configuration.reload()

    editor = threading.Thread(target=edit)
    editor.start()
    for _ in range(15):
        children.append(in_child(wait_for_debug))
        time.sleep(0.01)
    busy.set()
    editor.join()
    write("DEBUG")
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    """
    run(FORKING + script, logs)


APPLICATION = """
    import logging, os
    import jsonl_handler

    jsonl_handler.configure("logging.json", watch={watch})
    log = logging.getLogger("app")

    def application(environ, start_response):
        enabled = log.isEnabledFor(logging.DEBUG)
        log.debug("request", extra={{"by": os.getpid()}})
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [f"{{os.getpid()}} {{enabled:d}}".encode()]
"""


def answers(port: int) -> tuple[int, bool]:
    """Which worker has answered, and whether it logs at DEBUG."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.request("GET", "/")
    worker, enabled = connection.getresponse().read().split()
    connection.close()
    return int(worker), enabled == b"1"


@pytest.mark.app
@pytest.mark.timeout(120)
@pytest.mark.parametrize("preload", [True, False], ids=["--preload", "no preload"])
def test_one_edit_reaches_all_workers_of_gunicorn(tmp_path: Path, preload: bool) -> None:
    """Within twice the interval and a second each of 4 workers goes by the edited file, whoever has loaded it."""
    pytest.importorskip("gunicorn")
    watch = 0.5
    logs = tmp_path / "logs"
    (tmp_path / "logging.json").write_text(text(logs))
    source = "\n".join(line[4:] for line in APPLICATION.format(watch=watch).splitlines())
    (tmp_path / "service.py").write_text(source)
    with contextlib.ExitStack() as serving:
        with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
            port, descriptor = listener.getsockname()[1], listener.fileno()
            command = ["--workers", "4", "--bind", f"fd://{descriptor}", *["--preload"] * preload]
            command += ["--graceful-timeout", "20", "service:application"]
            server = serving.enter_context(served(tmp_path, "gunicorn", *command, pass_fds=[descriptor]))
        workers: set[int] = set()
        while len(workers) < 4:
            workers.add(answers(port)[0])
        (tmp_path / "logging.json").write_text(text(logs).replace('"INFO"', '"DEBUG"'))
        begun = time.monotonic()
        reached: dict[int, float] = {}
        while len(reached) < 4:
            worker, enabled = answers(port)
            if enabled:
                reached.setdefault(worker, time.monotonic() - begun)
            assert time.monotonic() - begun < PATIENCE
    assert max(reached.values()) <= 2 * watch + 1
    assert server.returncode == 0, (tmp_path / "said.txt").read_text()
    assert "request" in messages_of(logs)
