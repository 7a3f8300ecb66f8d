"""When the writer writes: by interval, by number, by level, on demand."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import PATIENCE, Disk, lines_of, messages_of, record

from jsonl_handler import JsonlHandler, RecordBuffer

Make = Callable[..., JsonlHandler]


def wait_written(handler: JsonlHandler, count: int) -> None:
    """Wait until *count* records are written, without asking for it: a flush would."""
    ended = threading.Event()
    for _ in range(int(PATIENCE * 100)):
        if handler.stats().written >= count:
            return
        ended.wait(0.01)
    raise AssertionError(handler.stats())


def test_a_record_waits_no_longer_than_the_interval(make: Make, logs: Path) -> None:
    """One lonely record is written after `flush_interval`, and so is one that comes after a long rest."""
    handler = make(flush_interval=0.05)
    handler.handle(record("first"))
    wait_written(handler, 1)
    handler.handle(record("second"))
    wait_written(handler, 2)
    assert messages_of(logs) == ["first", "second"]


def test_below_all_limits_nothing_is_written_yet(make: Make, logs: Path) -> None:
    """Records wait in the buffer until there is a reason to write."""
    handler = make(flush_interval=3600.0, flush_batch_size=100)
    for _ in range(99):
        handler.handle(record())
    assert handler.stats().pending == 99
    assert lines_of(logs) == []


def test_enough_waiting_records_start_a_write_at_once(make: Make) -> None:
    """`flush_batch_size` records don't wait for the interval."""
    handler = make(flush_interval=3600.0, flush_batch_size=10)
    for _ in range(10):
        handler.handle(record())
    wait_written(handler, 10)


def test_a_record_at_the_flush_level_starts_a_write_at_once(make: Make, logs: Path) -> None:
    """An error takes along what waits before it."""
    handler = make(flush_interval=3600.0)
    handler.handle(record("before"))
    handler.handle(record("trouble", logging.ERROR))
    wait_written(handler, 2)
    assert messages_of(logs) == ["before", "trouble"]


def test_without_a_flush_level_errors_wait_like_the_rest(make: Make) -> None:
    """`flush_level=None` makes no level urgent."""
    handler = make(flush_interval=3600.0, flush_level=None)
    handler.handle(record("trouble", logging.CRITICAL))
    assert handler.stats().pending == 1


def test_with_no_interval_a_record_is_written_as_soon_as_the_writer_is_free(make: Make) -> None:
    """`flush_interval=0` writes each record at once."""
    handler = make(flush_interval=0)
    for count in range(1, 6):
        handler.handle(record())
        wait_written(handler, count)


def test_records_that_come_during_a_write_make_the_next_batch(make: Make, disk: Disk, logs: Path) -> None:
    """While the writer writes, callers go on; all that came meanwhile is one more batch."""
    handler = make(flush_interval=3600.0)
    disk.hold()
    handler.handle(record("first", logging.ERROR))
    assert disk.stuck.wait(PATIENCE)
    for number in range(50):
        handler.handle(record(f"during {number}"))
    disk.release()
    assert handler.flush(PATIENCE)
    assert handler.stats().batches == 2
    assert len(messages_of(logs)) == 51


def test_flushes_made_together_cost_one_more_write(make: Make, disk: Disk) -> None:
    """Eight threads that flush while a write is under way share the next one."""
    handler = make(flush_interval=3600.0)
    disk.hold()
    handler.handle(record("first", logging.ERROR))
    assert disk.stuck.wait(PATIENCE)
    handler.handle(record("second"))
    answers: list[bool] = []
    threads = [threading.Thread(target=lambda: answers.append(handler.flush(PATIENCE))) for _ in range(8)]
    for thread in threads:
        thread.start()
    while handler._buffer._waiting.flushes < 8:
        threads[0].join(0.01)
    disk.release()
    for thread in threads:
        thread.join(PATIENCE)
    assert answers == [True] * 8
    assert handler.stats().batches == 2


def test_flush_covers_what_was_accepted_before_it(make: Make, logs: Path) -> None:
    """After `flush` every record logged before it is in the file."""
    handler = make(flush_interval=3600.0)
    for number in range(250):
        handler.handle(record(str(number)))
        if number % 50 == 49:
            assert handler.flush()
            assert len(messages_of(logs)) == number + 1


def test_flush_gives_up_after_its_time(make: Make, disk: Disk) -> None:
    """A flush on a stuck disk returns False after its time-out, and a bare one after `close_timeout`."""
    handler = make(close_timeout=0.05)
    disk.hold()
    handler.handle(record())
    assert handler.flush(0.05) is False
    assert handler.flush() is False
    disk.release()
    assert handler.flush(PATIENCE) is True


def test_flush_of_a_handler_without_records_does_nothing(make: Make, logs: Path) -> None:
    """Before the first record there is nothing to wait for, and no file is made."""
    assert make().flush() is True
    assert not logs.exists()


def test_a_flush_may_come_before_the_writer_has_begun(make: Make, logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that started the writer can wait for it, however late its first step is."""
    gate = threading.Event()
    attend = RecordBuffer.attend
    monkeypatch.setattr(RecordBuffer, "attend", lambda self: (gate.wait(PATIENCE), attend(self))[1])
    handler = make()
    handler.handle(record())
    opener = threading.Timer(0.05, gate.set)
    opener.start()
    assert handler.flush(PATIENCE)
    opener.join(PATIENCE)
    assert messages_of(logs) == ["hello"]
