"""Ctrl-C anywhere while a handler opens, closes or flushes: it passes, and the handler goes on as if nothing was."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE, journals_mapped, messages_of, record, rounds, until
from interrupting import at_event, can_not_be_helped, stop_here

from jsonl_handler import JsonlHandler, _lineage
from jsonl_handler._held import owns, within
from jsonl_handler._worker import Worker

pytestmark = pytest.mark.untraced

Make = Callable[..., JsonlHandler]

ACTS: dict[str, tuple[str, Callable[[JsonlHandler], object]]] = {
    "the first record": ("new", lambda handler: handler.handle(record("in the middle"))),
    "a late record": ("closed", lambda handler: handler.handle(record("in the middle"))),
    "close": ("open", lambda handler: handler.close()),
    "close, after a late record": ("reopened", lambda handler: handler.close()),
    "flush": ("open", lambda handler: handler.flush()),
    "reconfigure": ("open", lambda handler: handler.reconfigure(buffer_bytes=65536)),
}


def ready(handler: JsonlHandler, state: str) -> list[str]:
    """Bring a handler into a state; the messages that it has accepted."""
    if state == "new":
        return []
    handler.handle(record("first"))
    if state == "open":
        return ["first"]
    handler.close()
    if state == "closed":
        return ["first"]
    handler.handle(record("reopened"))
    return ["first", "reopened"]


def left_in(directory: Path) -> list[str]:
    """Session files, and drafts of such."""
    folder = directory / ".jsonl-handler"
    return [name for name in os.listdir(folder) if name.endswith((".session", ".new"))] if folder.is_dir() else []


# It is closed when it is collected.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <posix.ScandirIterator")
@pytest.mark.usefixtures("frozen_garbage")
@pytest.mark.parametrize("act", ACTS)
def test_ctrl_c_anywhere_in(act: str, make: Make, tmp_path: Path) -> None:
    """What was accepted is written once, what comes later too, and neither a thread, a session nor memory is left."""
    logging.getLogger("jsonl_handler").addHandler(logging.NullHandler())
    state, do = ACTS[act]
    mapped, threads = journals_mapped(), threading.active_count()
    for number in range(0, 2000, rounds(7, 1)):
        logs = tmp_path / str(number)
        handler = make(logs, flush_interval=600.0, flush_level=None, close_timeout=PATIENCE)
        accepted = ready(handler, state)
        try:
            more = at_event(number, lambda handler=handler: do(handler), stop_here, can_not_be_helped)  # type: ignore[misc]
        except KeyboardInterrupt:
            more = True
        handler.handle(record("later"))
        handler.close()
        handler.handle(record("last"))
        handler.close()

        found = Counter(messages_of(logs))
        assert found.pop("in the middle", 0) <= 1
        assert found == Counter([*accepted, "later", "last"]), number
        stats = handler.stats()
        assert (stats.pending, stats.accepted) == (0, stats.written)
        assert left_in(logs) == []
        until(lambda: journals_mapped() <= mapped and threading.active_count() <= threads)
        if not more:
            return
    raise AssertionError("there was no end")


def test_a_signal_handler_that_closes_while_the_session_opens(make: Make, logs: Path) -> None:
    """It is closed when it is open; the record that opened it is written all the same, once."""
    handler = make()
    real = handler._files.open
    opened: list[object] = []

    def open_and_be_interrupted() -> _lineage.Lineage:
        lineage = real()
        opened.append(lineage)
        if len(opened) == 1:
            handler.close()
            assert handler.stats().written == 0
        return lineage

    handler._files.open = open_and_be_interrupted  # type: ignore[method-assign]
    handler.handle(record("first"))

    assert messages_of(logs) == ["first"]
    handler.handle(record("second"))
    handler.close()
    assert messages_of(logs) == ["first", "second"]
    assert left_in(logs) == []


@pytest.mark.timeout(60)
def test_a_signal_handler_that_logs_while_a_session_changes_hands(make: Make, logs: Path) -> None:
    """Whoever holds the lock of all sessions may be interrupted by a record of the same thread."""
    handler = make()
    with _lineage._lock:
        handler.handle(record("first"))
        handler.close()
    assert messages_of(logs) == ["first"]


class Interrupted(Exception):
    """Raised by the signal handler."""


@pytest.fixture
def alarm() -> Iterator[Callable[[float], Any]]:
    """Raises `Interrupted` in so many seconds."""

    def strike(number: int, frame: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, strike)
    yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer that sends a signal")
def test_a_thread_whose_join_is_interrupted_still_runs(alarm: Callable[[float], Any]) -> None:
    """Before 3.13 a `Thread` says that it has ended then; a second writer would be started beside it."""
    done = threading.Event()
    worker = Worker(lambda: done.wait(PATIENCE) and None, "jsonl-handler-test")
    assert worker.start()
    for _ in range(3):
        alarm(0.01)
        with pytest.raises(Interrupted):
            worker.join(None)
        assert worker.running

    done.set()

    assert worker.join(PATIENCE)
    assert not worker.running


def test_ctrl_c_anywhere_leaves_no_lock_held() -> None:
    """Also right behind the `acquire`, where no `try` can be yet."""
    for number in range(100):
        lock = threading.RLock()
        try:
            more = at_event(number, lambda lock=lock: within(lock, 1.0, lambda: None), stop_here)  # type: ignore[misc]
        except KeyboardInterrupt:
            more = True
        assert not owns(lock)
        if not more:
            return
    raise AssertionError("there was no end")
