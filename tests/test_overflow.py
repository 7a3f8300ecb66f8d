"""What happens at the limits of the buffer."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE, Disk, Notices, lines_of, messages_of, record

from jsonl_handler import JsonlHandler
from jsonl_handler._waiting import Waiting

Make = Callable[..., JsonlHandler]


@pytest.fixture
def stuck(make: Make, disk: Disk) -> Iterator[Callable[..., JsonlHandler]]:
    """Makes a handler whose writer is stuck in the write of one record."""

    def build(**settings: Any) -> JsonlHandler:
        handler = make(buffer_limit=10, overflow_timeout=0.01, **settings)
        disk.hold()
        handler.handle(record("stuck", logging.ERROR))
        assert disk.stuck.wait(PATIENCE)
        return handler

    yield build
    disk.release()


def fill(handler: JsonlHandler, count: int = 13) -> None:
    for number in range(count):
        handler.handle(record(str(number)))


def test_the_newest_records_survive_when_the_oldest_are_dropped(stuck: Make, disk: Disk, logs: Path) -> None:
    """`drop_oldest`: of 13 records the 10 newest are kept."""
    handler = stuck()
    fill(handler)
    assert handler.stats().dropped == 3
    disk.release()
    assert handler.flush(PATIENCE)
    assert messages_of(logs) == ["stuck", *map(str, range(3, 13))]


def test_the_oldest_records_survive_when_the_newest_are_dropped(stuck: Make, disk: Disk, logs: Path) -> None:
    """`drop_newest`: of 13 records the 10 oldest are kept."""
    handler = stuck(overflow="drop_newest")
    fill(handler)
    assert handler.stats().dropped == 3
    disk.release()
    assert handler.flush(PATIENCE)
    assert messages_of(logs) == ["stuck", *map(str, range(10))]


def test_block_waits_until_there_is_room(stuck: Make, disk: Disk, logs: Path) -> None:
    """`block`: the caller waits however long, and nothing is lost."""
    handler = stuck(overflow="block")
    caller = threading.Thread(target=fill, args=(handler,))
    caller.start()
    while not handler._buffer._waiting.callers:
        caller.join(0.01)
    assert handler.stats().pending == 11
    disk.release()
    caller.join(PATIENCE)
    assert handler.flush(PATIENCE)
    assert messages_of(logs) == ["stuck", *map(str, range(13))]
    assert handler.stats().dropped == 0


def test_a_burst_of_loss_is_one_warning_and_one_line(stuck: Make, disk: Disk, logs: Path, notices: Notices) -> None:
    """Each burst is told once on the logger and once in the stream, with its exact count."""
    handler = stuck()
    fill(handler)
    disk.release()
    assert handler.flush(PATIENCE)
    told = notices.wait_for("dropped")
    assert "3 records dropped" in told
    assert len(notices.about("dropped")) == 1
    own = [line for line in lines_of(logs) if line["logger"] == "jsonl_handler"]
    assert [line["dropped"] for line in own] == [3]
    assert "seq" not in own[0]
    assert own[0]["session"] == handler.session_id
    # It stands where the loss happened: after the record that was stuck, before those that survived.
    assert lines_of(logs)[1] == own[0]


def test_the_count_of_a_loss_is_right_when_writes_fail_meanwhile(
    make: Make, disk: Disk, logs: Path, notices: Notices
) -> None:
    """Drops before, between and after failed writes add up to what the lines in the stream tell."""
    handler = make(buffer_limit=10, overflow_timeout=0.0, flush_interval=3600.0)
    disk.fill()
    fill(handler, 5)
    assert handler.flush(0.05) is False
    fill(handler, 37)
    assert handler.flush(0.05) is False
    fill(handler, 7)
    disk.mend()
    assert handler.flush(PATIENCE)
    stats = handler.stats()
    assert stats.dropped == 34
    assert stats.written == 15
    assert stats.write_errors >= 1
    assert sum(line.get("dropped", 0) for line in lines_of(logs)) == 34
    assert len(messages_of(logs)) == 15


def test_a_caller_waits_only_once_in_a_stall(stuck: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """After `overflow_timeout` has passed once, drops are immediate until the writer moves again."""
    handler = stuck()
    fill(handler, 11)
    waits: list[int] = []
    for_room = Waiting.for_room
    monkeypatch.setattr(Waiting, "for_room", lambda self, me: (waits.append(1), for_room(self, me))[1])
    fill(handler, 5)
    assert handler.stats().dropped == 6
    assert waits == []


def test_the_bytes_of_the_buffer_are_bounded_too(stuck: Make, disk: Disk, logs: Path) -> None:
    """`buffer_bytes` drops the oldest before `buffer_limit` is reached."""
    handler = stuck(buffer_bytes=65536, max_record_bytes=8192)
    for number in range(9):
        handler.handle(record(str(number), blob="x" * 7000))
    stats = handler.stats()
    assert stats.dropped > 0
    assert stats.accepted == 10
    disk.release()
    assert handler.flush(PATIENCE)
    kept = [int(message) for message in messages_of(logs)[1:]]
    assert kept == list(range(9))[-len(kept) :]
    assert len(kept) >= 2


@pytest.mark.parametrize("threads", [1, 8])
def test_a_tight_loop_on_a_healthy_disk_drops_nothing(make: Make, healthy: Path, threads: int) -> None:
    """100,000 records with default settings: every one is written."""
    handler = make(healthy)

    def log(first: int) -> None:
        for number in range(first, first + 100_000 // threads):
            handler.handle(record("tight", number=number))

    callers = [threading.Thread(target=log, args=(index * 100_000 // threads,)) for index in range(threads)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(300)
    assert handler.flush(PATIENCE)
    stats = handler.stats()
    assert (stats.accepted, stats.written, stats.dropped) == (100_000, 100_000, 0)
    assert {line["number"] for line in lines_of(healthy)} == set(range(100_000))
    handler.close()


def test_what_an_interrupt_leaves_aside_is_not_called_safe(stuck: Make, disk: Disk, logs: Path) -> None:
    """A record of a signal handler that finds no room waits outside of the journal, and `crash_safe` says so."""
    handler = stuck(overflow="block")
    safe = handler.stats().crash_safe
    for number in range(10):
        handler.handle(record(str(number)))
    handler._buffer._locked(lambda: handler.handle(record("aside")))
    assert handler.stats().pending == 12
    assert not handler.stats().crash_safe
    disk.release()
    assert handler.flush(PATIENCE)
    assert handler.stats().crash_safe == safe
    assert messages_of(logs)[-1] == "aside"


def test_a_long_outage_keeps_telling(stuck: Make, notices: Notices, monkeypatch: pytest.MonkeyPatch) -> None:
    """While records are dropped and the writer does not move, the loss so far is told again and again."""
    monkeypatch.setattr("jsonl_handler._maintenance._FIRST_WORD", 0.01)
    monkeypatch.setattr("jsonl_handler._maintenance._NEXT_WORD", 0.01)
    handler = stuck()
    fill(handler, 13)
    assert "3 records dropped so far" in notices.wait_for("so far")
    fill(handler, 4)
    assert "4 records dropped so far" in notices.wait_for("4 records")


def test_counts_hold_whenever_they_are_asked(make: Make) -> None:
    """`accepted == written + dropped + pending`, under eight threads that log, and nothing accepted disappears."""
    handler = make(buffer_limit=10, overflow_timeout=0.0)
    logged = threading.Barrier(9)

    def log() -> None:
        logged.wait(PATIENCE)
        for _ in range(2000):
            handler.handle(record())

    callers = [threading.Thread(target=log) for _ in range(8)]
    for caller in callers:
        caller.start()
    logged.wait(PATIENCE)
    before = 0
    while any(caller.is_alive() for caller in callers):
        stats = handler.stats()
        assert stats.accepted == stats.written + stats.dropped + stats.pending
        assert before <= stats.accepted <= 16_000
        before = stats.accepted
    for caller in callers:
        caller.join(PATIENCE)
    assert handler.flush(PATIENCE)
    stats = handler.stats()
    assert (stats.accepted, stats.pending) == (16_000, 0)
