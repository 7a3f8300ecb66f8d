"""`reconfigure`, called or by way of a file: each setting changes in place, and what it does then is seen.

Seen, that is, in lines, files, times and exceptions, and not in an attribute.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import (
    PATIENCE,
    Disk,
    Notices,
    journals_of,
    lines_of,
    messages_of,
    record,
    segments_of,
    tmpfs,
    until,
)
from test_configure import as_toml

from jsonl_handler import (
    BatchQueueListener,
    ConfigError,
    Configuration,
    JsonlHandler,
    RecordBuffer,
    RotatingSessionJsonlHandler,
    SessionQueueHandler,
    Settings,
)
from jsonl_handler import pair as pair_room
from jsonl_handler._doorbell import Writer
from jsonl_handler._journal_layout import size_of
from jsonl_handler.settings import KEYS, RULES

Make = Callable[..., JsonlHandler]

DAY = 86400.0
LONG = 3600.0


def log(handler: logging.Handler, *messages: object, level: int = logging.INFO) -> None:
    for message in messages:
        handler.handle(record(str(message), level))


def written(handler: JsonlHandler, count: int) -> None:
    """Wait until *count* records are in files, without asking for it."""
    until(lambda: handler.stats().written >= count)


def hold(handler: JsonlHandler, disk: Disk) -> None:
    """Have the writer stand still in the write of one record."""
    disk.hold()
    log(handler, "stuck", level=logging.CRITICAL)
    assert disk.stuck.wait(PATIENCE)


def rest(handler: JsonlHandler) -> None:
    """Wait until the writer rests."""
    until(lambda: handler._buffer._bell.writer == Writer.WAITING)


def lay(logs: Path, *names: str, age: float, size: int = 100) -> None:
    """Make files, the first the oldest."""
    for number, name in enumerate(names):
        (logs / name).write_bytes(b"x" * (size - 1) + b"\n")
        moment = time.time() - age + number
        os.utime(logs / name, (moment, moment))


def sizes_of_journals(logs: Path) -> list[int]:
    """The `buffer_bytes` of the journals that are there."""
    sizes = []
    for path in journals_of(logs):
        with contextlib.suppress(FileNotFoundError):
            sizes.append(path.stat().st_size - size_of(0))
    return sizes


OLD = ("telemetry-2020-01-01-aaaaaaaa.jsonl", "telemetry-2020-01-02-aaaaaaaa.jsonl")
LIMITS = ({"max_age_days": 5}, {"max_total_bytes": 4096}, {"max_files": 1}, {"min_free_bytes": 1 << 60})


class Way:
    """One handler, whose settings change by `reconfigure`."""

    def __init__(self, make: Make) -> None:
        self._make = make
        self.handler: JsonlHandler

    def make(self, **settings: Any) -> JsonlHandler:
        """The handler, with these settings."""
        self.handler = self._make(**settings)
        return self.handler

    def change(self, **settings: Any) -> None:
        """Change these settings of it, and no others."""
        self.handler.reconfigure(**settings)


class FileWay(Way):
    """One handler, whose settings change by an edit of the file that `configure` was given."""

    def __init__(self, configure: Callable[..., Configuration], path: Path, logs: Path) -> None:
        super().__init__(self._configured)
        self._configure = configure
        self._path = path
        self._entry: dict[str, Any] = {"class": "jsonl_handler.JsonlHandler", "directory": str(logs)}
        self._configuration: Configuration

    def change(self, **settings: Any) -> None:
        generation = self._configuration.generation
        self._edit(settings)
        assert self._configuration.reload(), self._configuration.last_error
        assert self._configuration.generation == generation + 1
        # In place: it has not been replaced.
        assert logging.getLogger("app").handlers == [self.handler]

    def _configured(self, **settings: Any) -> JsonlHandler:
        self._edit(settings)
        self._configuration = self._configure(self._path)
        (handler,) = logging.getLogger("app").handlers
        assert isinstance(handler, JsonlHandler)
        return handler

    def _edit(self, settings: dict[str, Any]) -> None:
        self._entry |= settings
        toml = self._path.suffix == ".toml"
        whole = {
            "version": 1,
            "disable_existing_loggers": False,
            "handlers": {"events": without_null(self._entry) if toml else self._entry},
            "loggers": {"app": {"handlers": ["events"]}},
        }
        self._path.write_text((as_toml if toml else json.dumps)(whole))


def without_null(entry: dict[str, Any]) -> dict[str, Any]:
    """As TOML has to say it: a limit has a word for None, no record has such a level, and else None is the default."""
    instead: dict[str, Any] = {key: "unlimited" for key, rule in RULES.items() if rule.deletes} | {"flush_level": 1000}
    return {
        key: instead[key] if value is None else value
        for key, value in entry.items()
        if value is not None or key in instead
    }


@pytest.fixture(params=["call", "json", "toml"])
def way(
    request: pytest.FixtureRequest, make: Make, configured: Callable[..., Configuration], tmp_path: Path, logs: Path
) -> Way:
    """Makes one handler and changes its settings, by a call or by a file."""
    return Way(make) if request.param == "call" else FileWay(configured, tmp_path / f"logging.{request.param}", logs)


# Each setting alone.


def test_flush_interval_counts_at_once(way: Way, logs: Path) -> None:
    """A shorter interval does not wait for the end of the old one; and again, and back to none at all."""
    handler = way.make(flush_interval=LONG)
    log(handler, "first")
    way.change(flush_interval=0.05)
    written(handler, 1)
    way.change(flush_interval=LONG)
    log(handler, "second")
    rest(handler)
    assert messages_of(logs) == ["first"]
    way.change(flush_interval=0)
    written(handler, 2)
    log(handler, "third")
    written(handler, 3)
    assert messages_of(logs) == ["first", "second", "third"]


def test_flush_interval_counts_from_when_the_record_came(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has waited longer than the new interval is written now, and what has not waits for the rest of it."""
    late = [0.0]
    monkeypatch.setattr(pair_room, "monotonic", lambda: time.monotonic() + late[0])
    handler = way.make(flush_interval=LONG)
    log(handler, "first")
    rest(handler)
    until(lambda: handler._buffer._bell.wake_at > 1)
    late[0] = 1000.0
    way.change(flush_interval=1100.0)
    rest(handler)
    assert handler.stats().pending == 1
    way.change(flush_interval=900.0)
    written(handler, 1)


def test_flush_interval_counts_also_when_the_writer_is_about_to_rest(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change that comes after the writer has looked how long it may rest, and before it does, is not slept over."""
    armed: list[float] = []

    def interrupted() -> float:
        if armed:
            way.change(flush_interval=armed.pop())
        return time.monotonic()

    monkeypatch.setattr(pair_room, "monotonic", interrupted)
    handler = way.make(flush_interval=LONG)
    log(handler, "first")
    assert handler.flush(PATIENCE)
    rest(handler)
    log(handler, "second")
    armed.append(0.05)
    # It looks again.
    handler._buffer.hurry()
    log(handler, "third")
    written(handler, 3)


def test_flush_batch_size_acts_on_what_waits(way: Way, logs: Path) -> None:
    """A smaller batch that is full already is written; a larger one lets more records wait."""
    handler = way.make(flush_interval=LONG)
    log(handler, *range(20))
    way.change(flush_batch_size=10)
    written(handler, 20)
    way.change(flush_batch_size=100)
    log(handler, *range(20, 119))
    rest(handler)
    assert handler.stats().pending == 99
    log(handler, 119)
    written(handler, 120)
    assert messages_of(logs) == [str(number) for number in range(120)]


def test_flush_level_counts_at_once(way: Way) -> None:
    """A lower level has what waits written, which may be at it, and then each record at it; None lets all wait."""
    handler = way.make(flush_interval=LONG, flush_level=None)
    log(handler, "first", level=logging.CRITICAL)
    rest(handler)
    assert handler.stats().pending == 1
    way.change(flush_level="WARNING")
    written(handler, 1)
    log(handler, "second", level=logging.WARNING)
    written(handler, 2)
    way.change(flush_level=None)
    log(handler, "third", level=logging.CRITICAL)
    rest(handler)
    assert handler.stats().pending == 1


def test_buffer_limit_writes_first_what_is_over_it(way: Way, logs: Path) -> None:
    """A smaller limit drops nothing of what waits; a larger one lets more wait."""
    handler = way.make(flush_interval=LONG, flush_batch_size=400)
    log(handler, *range(300))
    way.change(buffer_limit=50)
    written(handler, 300)
    way.change(buffer_limit=500)
    log(handler, *range(300, 600))
    rest(handler)
    assert handler.stats().pending == 300
    handler.close()
    assert messages_of(logs) == [str(number) for number in range(600)]


def test_buffer_limit_drops_nothing_that_waits_for_a_stuck_disk(way: Way, disk: Disk, logs: Path) -> None:
    """What was accepted under the larger limit stays: a new record takes the place of one, and no more than that."""
    handler = way.make(flush_interval=LONG, overflow_timeout=0.0)
    hold(handler, disk)
    log(handler, *range(300))
    way.change(buffer_limit=10)
    assert handler.stats().dropped == 0
    log(handler, 300)
    assert handler.stats().dropped == 1
    way.change(buffer_limit=400)
    log(handler, *range(301, 401))
    assert handler.stats().dropped == 1
    disk.release()
    assert handler.flush(PATIENCE)
    assert messages_of(logs) == ["stuck", *map(str, range(1, 401))]
    way.change(buffer_limit=10)
    hold(handler, disk)
    log(handler, *range(11))
    assert handler.stats().dropped == 2


@tmpfs
def test_buffer_bytes_changes_the_journal(way: Way, logs: Path, disk: Disk) -> None:
    """The journal is one of the new size, what waits goes along, and more or less of it may wait for a stuck disk."""
    handler = way.make(flush_interval=LONG, buffer_bytes=65536, buffer_limit=10_000, flush_batch_size=10_000)
    way.change(overflow_timeout=0.0)
    log(handler, *range(20))
    for size in (4 << 20, 1 << 20, 65536, 2 << 20):
        way.change(buffer_bytes=size)
        until(lambda size=size: sizes_of_journals(logs) == [size])
        assert handler.stats().crash_safe
        log(handler, size)
    rest(handler)
    hold(handler, disk)
    log(handler, *("x" * 900 for _ in range(800)))
    assert handler.stats().dropped == 0
    disk.release()
    assert handler.flush(PATIENCE)
    way.change(buffer_bytes=65536)
    until(lambda: sizes_of_journals(logs) == [65536])
    hold(handler, disk)
    log(handler, *("x" * 900 for _ in range(200)))
    assert handler.stats().dropped > 100
    disk.release()
    assert handler.flush(PATIENCE)
    assert messages_of(logs)[:24] == [*map(str, range(20)), *map(str, (4 << 20, 1 << 20, 65536, 2 << 20))]


@tmpfs
def test_buffer_bytes_smaller_than_what_waits_writes_that_first(way: Way, logs: Path) -> None:
    """400 KiB that wait are written before the memory shrinks to 64 KiB."""
    handler = way.make(flush_interval=LONG, buffer_bytes=2 << 20, buffer_limit=1000, flush_batch_size=1000)
    log(handler, *(f"{number} {'x' * 800}" for number in range(400)))
    way.change(buffer_bytes=65536)
    until(lambda: sizes_of_journals(logs) == [65536])
    handler.close()
    assert [message.split()[0] for message in messages_of(logs)] == [str(number) for number in range(400)]


@tmpfs
def test_buffer_bytes_shrink_under_a_load_that_never_ends(
    way: Way, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where more waits at the end of each write than the smaller memory holds, the move is made."""
    handler = way.make(flush_interval=LONG, overflow_timeout=0.0, buffer_limit=10_000, flush_batch_size=10_000)
    write, tap, flood = os.write, threading.Lock(), [False]

    def flooding(descriptor: int, content: Any) -> int:
        with tap:
            if flood[0] and os.readlink(f"/proc/self/fd/{descriptor}").endswith(".jsonl"):
                log(handler, *("x" * 900 for _ in range(60)))
        return write(descriptor, content)

    monkeypatch.setattr(os, "write", flooding)
    log(handler, *("x" * 900 for _ in range(60)))
    flood[0] = True
    way.change(buffer_bytes=65536, flush_batch_size=1)
    try:
        until(lambda: sizes_of_journals(logs) == [65536])
    finally:
        with tap:
            flood[0] = False
    handler.close()
    stats = handler.stats()
    assert stats.accepted == stats.written + stats.dropped


def test_buffer_bytes_without_a_journal(way: Way, logs: Path, disk: Disk) -> None:
    """Memory that ends with the process changes in the same way, after the write under way."""
    handler = way.make(crash_safe=False, flush_interval=LONG, buffer_bytes=65536, overflow_timeout=0.0)
    hold(handler, disk)
    log(handler, "waits")
    way.change(buffer_bytes=2 << 20, buffer_limit=1000, flush_batch_size=1000)
    disk.release()
    assert handler.flush(PATIENCE)
    hold(handler, disk)
    log(handler, *(f"{number} {'x' * 900}" for number in range(900)))
    assert handler.stats().dropped == 0
    disk.release()
    handler.close()
    assert len(messages_of(logs)) == 903


def test_buffer_bytes_that_can_not_be_had(way: Way, logs: Path, notices: Notices, disk: Disk) -> None:
    """Where the system refuses it that is told, what there was stays, and all else that was given counts."""
    handler = way.make(buffer_bytes=2 << 20, flush_interval=LONG, buffer_limit=1000, overflow_timeout=0.0)
    log(handler, "first")
    way.change(buffer_bytes=1 << 62, flush_level="INFO")
    assert "2097152 is used instead" in notices.wait_for("so much memory can't be had")
    log(handler, "second")
    written(handler, 2)
    hold(handler, disk)
    log(handler, *("x" * 900 for _ in range(900)))
    assert handler.stats().dropped == 0


@tmpfs
def test_buffer_bytes_for_which_there_is_no_room_on_tmpfs(
    way: Way, logs: Path, notices: Notices, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the old journal stays in use; that is told, and nothing is less safe than before."""
    handler = way.make(flush_interval=LONG)
    log(handler, "first")
    (journal,) = journals_of(logs)

    def refuse(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    way.change(buffer_bytes=8 << 20)
    assert "the old one stays" in notices.wait_for("no journal of another size")
    assert handler.stats().crash_safe
    assert journals_of(logs) == [journal]
    log(handler, "second")
    assert handler.flush(PATIENCE)
    assert messages_of(logs) == ["first", "second"]


def test_overflow_lets_blocked_callers_go(way: Way, disk: Disk, logs: Path) -> None:
    """Who waits for room however long sees that the newest are dropped now; and the other way round."""
    handler = way.make(overflow="block", overflow_timeout=0.01, buffer_limit=10)
    hold(handler, disk)
    log(handler, *range(10))
    callers = [threading.Thread(target=log, args=(handler, *range(8))) for _ in range(4)]
    for caller in callers:
        caller.start()
    until(lambda: len(handler._buffer._waiting.callers) == 4)
    way.change(overflow="drop_newest")
    for caller in callers:
        caller.join(PATIENCE)
        assert not caller.is_alive()
    assert handler.stats().dropped == 32
    way.change(overflow="block")
    caller = threading.Thread(target=log, args=(handler, "patient"))
    caller.start()
    until(lambda: len(handler._buffer._waiting.callers) == 1)
    disk.release()
    caller.join(PATIENCE)
    assert handler.flush(PATIENCE)
    assert messages_of(logs)[-1] == "patient"
    assert handler.stats().dropped == 32


def test_overflow_timeout_lets_waiting_callers_go(way: Way, disk: Disk) -> None:
    """Who waits for an hour waits no longer when that becomes nothing."""
    handler = way.make(overflow_timeout=LONG, buffer_limit=10)
    hold(handler, disk)
    caller = threading.Thread(target=log, args=(handler, *range(11)))
    caller.start()
    until(lambda: handler._buffer._waiting.callers)
    way.change(overflow_timeout=0)
    caller.join(PATIENCE)
    assert not caller.is_alive()
    assert handler.stats().dropped == 1


def test_max_record_bytes_counts_with_the_next_record(way: Way, logs: Path) -> None:
    """A long line is cut, and no longer cut, as the setting says when it is logged."""
    handler = way.make()
    for most, length in ((1024, 2000), (4000, 2000), (1024, 900), (500_000, 400_000)):
        way.change(max_record_bytes=most)
        log(handler, "x" * length)
    assert handler.flush(PATIENCE)
    assert [line.get("truncated", False) for line in lines_of(logs)] == [True, False, False, False]


def test_max_record_bytes_beyond_the_old_memory(way: Way, logs: Path) -> None:
    """With more memory come longer records; with less, what was made for more is cut, not dropped."""
    handler = way.make(buffer_bytes=65536)
    log(handler, "first")
    way.change(buffer_bytes=8 << 20, max_record_bytes=4 << 20)
    assert handler.flush(PATIENCE)
    until(lambda: handler._buffer.journal.arena_bytes == 4 << 20)
    log(handler, "x" * (3 << 20))
    way.change(buffer_bytes=65536)
    log(handler, "y" * (3 << 20))
    handler.close()
    first, long, cut = lines_of(logs)
    assert (first["message"], len(long["message"]), cut["truncated"]) == ("first", 3 << 20, True)
    assert handler.stats().dropped == 0


def test_max_record_bytes_before_the_memory_is_there(way: Way, disk: Disk, logs: Path) -> None:
    """While a write hangs there is no other memory yet: a line that is too long for the old one is cut, not lost."""
    handler = way.make(buffer_bytes=65536, overflow_timeout=0.0)
    hold(handler, disk)
    way.change(buffer_bytes=4 << 20, max_record_bytes=1 << 20)
    log(handler, "x" * 500_000)
    disk.release()
    assert handler.flush(PATIENCE)
    until(lambda: handler._buffer.journal.arena_bytes == 2 << 20)
    log(handler, "y" * 500_000)
    handler.close()
    assert [line.get("truncated", False) for line in lines_of(logs)] == [False, True, False]


def test_max_file_bytes_rolls_at_the_next_write(way: Way, logs: Path) -> None:
    """A smaller cap has the next write go to a new segment, each within it; a larger one goes on in the same."""
    handler = way.make(max_file_bytes=100_000)
    log(handler, *("x" * 1000 for _ in range(20)))
    assert handler.flush(PATIENCE)
    way.change(max_file_bytes=4096)
    log(handler, *("y" * 1000 for _ in range(9)))
    assert handler.flush(PATIENCE)
    sizes = [path.stat().st_size for path in segments_of(logs)]
    assert len(sizes) == 4
    assert sizes[0] > 20_000
    assert max(sizes[1:]) <= 4096
    way.change(max_file_bytes=50_000)
    log(handler, *("z" * 1000 for _ in range(20)))
    assert handler.flush(PATIENCE)
    assert len(segments_of(logs)) == 4
    assert len({line["session"] for line in lines_of(logs)}) == 1


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: next(iter(limit)))
def test_limits_sweep_at_once(way: Way, logs: Path, limit: dict[str, Any]) -> None:
    """A new deletion limit is met without a record, a roll or an hour; one that is gone deletes nothing."""
    keep = dict.fromkeys(("max_age_days", "max_total_bytes", "max_files"), None) | {"max_file_bytes": 4096}
    handler = way.make(**keep)
    log(handler, "x")
    assert handler.flush(PATIENCE)
    lay(logs, *OLD, age=10 * DAY, size=5000)
    way.change(**limit)
    # They are counted when the sweep is done.
    until(lambda: handler.stats().deleted_files == 2)
    assert len(segments_of(logs)) == 1
    lay(logs, *OLD, age=10 * DAY, size=5000)
    way.change(**{key: None for key in limit if key != "min_free_bytes"}, min_free_bytes=0)
    log(handler, "x" * 5000, "y" * 5000)
    handler.close()
    assert handler.stats().deleted_files == 2


def test_limits_that_are_lifted_end_a_sweep(way: Way, logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is being deleted by a limit stops when that is lifted: the files that are there by then stay."""
    handler = way.make(max_age_days=None)
    log(handler, "x")
    assert handler.flush(PATIENCE)
    lay(logs, *(f"telemetry-2020-01-{day:02}-aaaaaaaa.jsonl" for day in range(1, 29)), age=10 * DAY)
    unlink = os.unlink
    gone: list[str] = []

    def lifting(path: Any, **more: Any) -> None:
        unlink(path, **more)
        if str(path).endswith(".jsonl"):
            gone.append(str(path))
            way.change(max_age_days=None)

    monkeypatch.setattr(os, "unlink", lifting)
    way.change(max_age_days=5)
    until(lambda: gone)
    handler.close()
    assert len(gone) == 1
    assert len(segments_of(logs)) == 28


def test_compress_takes_the_closed_segments_at_once(way: Way, logs: Path) -> None:
    """Segments that were closed before are compressed without another roll, and no more when it is off."""
    handler = way.make(max_file_bytes=4096)
    for _ in range(3):
        log(handler, "x" * 3000)
        assert handler.flush(PATIENCE)
    way.change(compress="gzip")
    until(lambda: len(list(logs.glob("*.gz"))) == 2)
    way.change(compress=None)
    for _ in range(3):
        log(handler, "x" * 3000)
        assert handler.flush(PATIENCE)
    handler.close()
    assert len(list(logs.glob("*.gz"))) == 2
    assert len(segments_of(logs)) == 4


def test_fsync_counts_at_once(way: Way, logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With "flush" also what was written before is forced to the disk; with "never" nothing more."""
    synced: list[str] = []
    fsync = os.fsync

    def hearing(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", hearing)
    handler = way.make(max_file_bytes=4096)
    log(handler, "first")
    assert handler.flush(PATIENCE)
    assert synced == []
    way.change(fsync="flush")
    until(lambda: [path for path in synced if path.endswith(".jsonl")] == [str(handler.path)])
    log(handler, "second")
    assert handler.flush(PATIENCE)
    assert synced.count(str(handler.path)) == 2
    way.change(fsync="never")
    log(handler, "third")
    assert handler.flush(PATIENCE)
    assert synced.count(str(handler.path)) == 2
    before = str(handler.path)
    way.change(fsync="rotate")
    log(handler, "x" * 4000)
    assert handler.flush(PATIENCE)
    assert synced.count(before) == 3


@tmpfs
def test_crash_safe_is_switched_off_and_on(way: Way, logs: Path) -> None:
    """Off, there is no journal once all is written that was to outlive the process; on, there is one again."""
    handler = way.make(flush_interval=LONG)
    log(handler, "first")
    assert len(journals_of(logs)) == 1
    way.change(crash_safe=False)
    until(lambda: not journals_of(logs))
    assert messages_of(logs) == ["first"]
    assert handler.stats().crash_safe is False
    log(handler, "second")
    way.change(crash_safe=True)
    until(lambda: handler.stats().crash_safe)
    assert len(journals_of(logs)) == 1
    assert messages_of(logs) == ["first"]
    handler.close()
    assert messages_of(logs) == ["first", "second"]
    assert journals_of(logs) == []


def test_enabled_refuses_at_the_door(way: Way, logs: Path) -> None:
    """Records that come while it is False are refused and not counted; what waited before is written."""
    handler = way.make(flush_interval=LONG)
    log(handler, "first")
    way.change(enabled=False)
    log(handler, "refused")
    handler.emit(record("refused"))
    handler.write({"message": "refused"})
    way.change(enabled=True)
    log(handler, "second")
    assert handler.flush(PATIENCE)
    assert messages_of(logs) == ["first", "second"]
    assert handler.stats().accepted == 2


def test_context_is_in_the_next_header(way: Way, logs: Path) -> None:
    """A segment that is there keeps its header; the next one has the new one, or none."""
    handler = way.make(max_file_bytes=4096, context={"version": 1})
    for context in ({"version": 2}, None, {"version": 3}):
        log(handler, "x" * 2500)
        assert handler.flush(PATIENCE)
        way.change(context=context)
    log(handler, "x" * 2500)
    assert handler.flush(PATIENCE)
    headers = [lines_of(path)[0].get("context") for path in segments_of(logs)]
    assert headers == [{"version": 1}, {"version": 2}, None, {"version": 3}]


def test_file_mode_is_that_of_the_next_file(way: Way, logs: Path) -> None:
    """A file that is there keeps its mode."""
    umask = os.umask(0)
    try:
        handler = way.make(max_file_bytes=4096)
        for mode in (0o640, "0644"):
            log(handler, "x" * 3000)
            assert handler.flush(PATIENCE)
            way.change(file_mode=mode)
        log(handler, "x" * 3000)
        assert handler.flush(PATIENCE)
    finally:
        os.umask(umask)
    assert [oct(path.stat().st_mode & 0o777) for path in segments_of(logs)] == ["0o600", "0o640", "0o644"]


def test_close_timeout_is_how_long_the_next_call_waits(way: Way, disk: Disk) -> None:
    """A bare `flush` with a stuck disk ends as the new setting says."""
    handler = way.make(close_timeout=LONG)
    hold(handler, disk)
    way.change(close_timeout=0.01)
    assert handler.flush() is False


def test_each_setting_has_a_test_of_its_own() -> None:
    """No setting is left out above, neither by a call nor by a file."""
    shown = [name for name, test in globals().items() if "way" in getattr(test, "__annotations__", ())]
    limits = {key for limit in LIMITS for key in limit}
    assert {key for key in KEYS if not any(name.startswith(f"test_{key}_") for name in shown)} == limits
    assert test_limits_sweep_at_once.__name__ in shown


# All or nothing.


@pytest.mark.parametrize(
    ("given", "where", "said"),
    [
        ({"flush_intervall": 1.0}, "flush_intervall", "flush_interval"),
        ({"maxBytes": 4096}, "maxBytes", "max_file_bytes"),
        ({"file_mode": 0o777}, "file_mode", "0o666"),
        ({"directory": "elsewhere"}, "directory", "`configure`"),
        ({"prefix": "other"}, "prefix", "`configure`"),
        ({"session_id": "other"}, "session_id", "`configure`"),
        ({"level": "INFO"}, "level", "`setLevel`"),
        ({"strict": True}, "strict", "constructor"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_is_refused_changes_nothing(
    make: Make, logs: Path, given: dict[str, Any], where: str, said: str, notices: Notices
) -> None:
    """An error says which key and what to do, and what else was given with it does not count either."""
    handler = make(flush_interval=LONG)
    log(handler, "first")
    before = handler.settings
    with pytest.raises(ConfigError) as caught:
        handler.reconfigure(flush_level="INFO", enabled=False, **given)
    assert caught.value.where == where
    assert said in caught.value.problem
    log(handler, "second")
    rest(handler)
    assert (handler.stats().pending, handler.settings) == (2, before)
    assert notices.texts() == []


def test_a_strict_handler_refuses_an_invalid_value(make: Make) -> None:
    """As it was built: any Problem is an error, those between two settings too, and nothing has changed."""
    handler = make(strict=True, flush_batch_size=200, flush_interval=LONG)
    log(handler, "first")
    for given in ({"max_files": 0}, {"buffer_limit": 100}, {"flush_interval": "1"}, {"buffer_bytes": 1 << 62}):
        with pytest.raises(ConfigError):
            handler.reconfigure(flush_level="INFO", **given)
    log(handler, "second")
    rest(handler)
    assert handler.stats().pending == 2


def test_an_invalid_value_is_told_and_its_default_used(make: Make, notices: Notices) -> None:
    """A lenient handler does what it does when it is made; the values that were given before are not told of again."""
    handler = make(flush_interval=-1, max_file_bytes=1)
    told = notices.texts()
    assert len(told) == 2
    handler.reconfigure(flush_batch_size=0, flush_level="INFO")
    (fresh,) = notices.texts()[2:]
    assert fresh == "flush_batch_size: must be at least 1, got 0; the default 100 is used instead"
    log(handler, "first")
    written(handler, 1)


def test_a_problem_between_two_settings_is_told_when_it_comes_up(make: Make, notices: Notices) -> None:
    """A value that was right until now, and is not beside the new one, is told of."""
    handler = make(flush_batch_size=200)
    handler.reconfigure(buffer_limit=100)
    assert notices.texts() == ["flush_batch_size: must be at most buffer_limit (100), got 200; 100 is used instead"]
    handler.reconfigure(buffer_limit=300, flush_interval=LONG)
    assert len(notices.texts()) == 1
    log(handler, *range(150))
    rest(handler)
    assert handler.stats().pending == 150
    log(handler, *range(50))
    written(handler, 200)


def test_a_suspended_limit_stays_suspended_until_it_is_given_anew(make: Make, logs: Path) -> None:
    """Who wrote -1 meant "unlimited", also after a change of other settings."""
    handler = make(max_age_days=-1)
    log(handler, "first")
    assert handler.flush(PATIENCE)
    lay(logs, *OLD, age=100 * DAY)
    (logs / "telemetry-2020-01-03-aaaaaaaa.jsonl").write_bytes(b"x\n")
    os.utime(logs / "telemetry-2020-01-03-aaaaaaaa.jsonl", (1.0, 1.0))
    handler.reconfigure(max_files=3)
    until(lambda: len(segments_of(logs)) == 3)
    handler.reconfigure(max_age_days=30)
    until(lambda: len(segments_of(logs)) == 1)


def test_all_settings_are_replaced_at_once(make: Make, logs: Path, notices: Notices) -> None:
    """`replace_settings` gives the defaults to what is not named, and strictness if that is asked for."""
    handler = make(flush_interval=LONG, flush_level="INFO", max_file_bytes=4096)
    handler.replace_settings({"flush_interval": LONG}, strict=True)
    assert handler.settings == Settings(flush_interval=LONG)
    log(handler, "x" * 3000, "y" * 3000)
    rest(handler)
    assert handler.stats().pending == 2
    for given in ({"max_files": -1}, {"directory": "elsewhere"}):
        with pytest.raises(ConfigError):
            handler.replace_settings(given)
    handler.replace_settings({"max_files": -1, "flush_level": "INFO"}, strict=False)
    log(handler, "z", level=logging.INFO)
    written(handler, 3)
    assert len(segments_of(logs)) == 1
    assert len(notices.about("max_files")) == 1


def test_a_context_that_is_changed_later_is_not_read_again(make: Make, logs: Path) -> None:
    """Values are taken when they are given."""
    context = {"version": 1}
    handler = make(context=context)
    context["version"] = 2
    handler.reconfigure(flush_level="INFO")
    log(handler, "first")
    written(handler, 1)
    assert lines_of(logs)[0]["context"] == {"version": 1}


# At any moment.


def test_before_the_first_record_nothing_starts(make: Make, logs: Path, disk: Disk) -> None:
    """A change starts no thread and makes no file; the first record finds the new settings."""
    handler = make(buffer_bytes=65536, crash_safe=False, overflow_timeout=0.0)
    handler.reconfigure(buffer_bytes=2 << 20, buffer_limit=1000, flush_batch_size=1000, max_files=5)
    assert not logs.exists()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("jsonl-handler")]
    hold(handler, disk)
    log(handler, *("x" * 900 for _ in range(900)))
    assert handler.stats().dropped == 0


def test_after_close_the_next_record_goes_by_the_new_settings(make: Make, logs: Path) -> None:
    """A closed handler keeps quiet, and its late record is in the session and segment of before."""
    handler = make(max_file_bytes=100_000)
    log(handler, "first")
    handler.close()
    handler.reconfigure(max_record_bytes=1024, buffer_bytes=65536)
    handler.reconfigure(crash_safe=False)
    log(handler, "x" * 2000)
    first, late = lines_of(logs)
    assert late["truncated"] is True
    assert (first["session"], first["seq"] + 1) == (late["session"], late["seq"])
    assert len(segments_of(logs)) == 1
    assert journals_of(logs) == []


def test_a_stuck_disk_holds_up_no_change(make: Make, disk: Disk, logs: Path) -> None:
    """While a write hangs every setting can be changed at once, and all counts when it goes on."""
    handler = make(flush_interval=LONG, close_timeout=LONG)
    hold(handler, disk)
    given: dict[str, Any] = {
        "flush_interval": 1000.0, "flush_batch_size": 50, "flush_level": None, "buffer_limit": 100,
        "buffer_bytes": 65536, "overflow": "drop_newest", "overflow_timeout": 0.2, "max_record_bytes": 2048,
        "max_file_bytes": 4096, "max_age_days": 3, "max_total_bytes": 1 << 20, "max_files": 50,
        "min_free_bytes": 1, "compress": "gzip", "fsync": "flush", "crash_safe": False, "enabled": False,
        "context": {"version": 2}, "file_mode": 0o640, "close_timeout": 4.0,
    }  # fmt: skip
    assert set(given) == set(KEYS)
    log(handler, "waits")
    for key, value in given.items():
        handler.reconfigure(**{key: value})
    handler.reconfigure(enabled=True, crash_safe=True, compress=None)
    log(handler, *("x" * 3000 for _ in range(3)))
    disk.release()
    assert handler.flush(PATIENCE)
    lines = [line for line in lines_of(logs) if "seq" in line]
    assert [line["seq"] for line in lines] == [0, 1, 2, 3, 4]
    assert [line.get("truncated", False) for line in lines] == [False, False, True, True, True]
    assert len({line["session"] for line in lines}) == 1


def test_a_failing_disk_keeps_what_waits(make: Make, disk: Disk, logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two attempts to write memory and caps change, and each record is there once, in its order."""
    monkeypatch.setattr(pair_room, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(pair_room, "_LONGEST_PAUSE", 0.02)
    handler = make(flush_interval=LONG, overflow_timeout=0.0)
    log(handler, "first")
    assert handler.flush(PATIENCE)
    disk.shortest = 30
    disk.fill()
    log(handler, *range(5))
    log(handler, 5, level=logging.CRITICAL)
    until(lambda: handler.stats().write_errors > 2)
    for cap, size, safe in ((4096, 65536, True), (5000, 4 << 20, False), (100_000, 65536, True)):
        handler.reconfigure(max_file_bytes=cap, buffer_bytes=size, crash_safe=safe)
        log(handler, f"cap {cap}")
        errors = handler.stats().write_errors
        until(lambda errors=errors: handler.stats().write_errors > errors + 1)
    disk.mend()
    assert handler.flush(PATIENCE)
    assert messages_of(logs) == ["first", *map(str, range(6)), "cap 4096", "cap 5000", "cap 100000"]


def test_a_signal_handler_may_change_settings(make: Make, logs: Path) -> None:
    """In the middle of logging calls and of another change: no deadlock, nothing lost, and the last one counts."""
    handler = make(overflow="block", buffer_limit=100)
    changes = [0]

    def on_alarm(number: int, frame: object) -> None:
        changes[0] += 1
        handler.reconfigure(
            buffer_limit=50 + changes[0] % 3, buffer_bytes=65536 << changes[0] % 2, flush_interval=changes[0] % 2
        )
        # One at a time: which of two is the last one must be plain.
        signal.setitimer(signal.ITIMER_REAL, 0.001)

    stop = threading.Event()

    def reconfigure() -> None:
        while not stop.is_set():
            handler.reconfigure(max_file_bytes=50_000)
            handler.reconfigure(max_file_bytes=60_000, max_record_bytes=2000)

    other = threading.Thread(target=reconfigure)
    before = signal.signal(signal.SIGALRM, on_alarm)
    other.start()
    count = 0
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.001)
        while changes[0] < 300:
            log(handler, count)
            count += 1
            handler.reconfigure(close_timeout=PATIENCE, flush_batch_size=1 + count % 40)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
        stop.set()
        other.join(PATIENCE)
    assert not other.is_alive()
    assert handler.flush(PATIENCE)
    assert sorted(map(int, messages_of(logs))) == list(range(count))
    assert handler.settings.buffer_limit == 50 + changes[0] % 3
    assert handler.settings.max_record_bytes == 2000


def test_a_child_goes_by_the_present_settings(make: Make, logs: Path) -> None:
    """A forked child has what was changed before the fork; what changes there is its own."""
    handler = make(max_record_bytes=4096)
    log(handler, "x" * 2000)
    handler.reconfigure(max_record_bytes=1024)
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        try:
            log(handler, "y" * 2000)
            handler.reconfigure(max_record_bytes=4096, buffer_bytes=65536)
            log(handler, "z" * 2000)
            handler.close()
        finally:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    log(handler, "x" * 2000)
    assert handler.flush(PATIENCE)
    cut = {(line["message"][0], line["seq"], line.get("truncated", False)) for line in lines_of(logs)}
    assert cut == {("x", 0, False), ("y", 0, True), ("z", 1, False), ("x", 1, True)}


# Without the writer, and joined by hand.


def test_the_handler_that_writes_at_once_changes_too(logs: Path) -> None:
    """`RotatingSessionJsonlHandler` takes its settings in the same way, and refuses those of the buffer."""
    handler = RotatingSessionJsonlHandler(logs)
    log(handler, "x" * 3000)
    handler.reconfigure(max_file_bytes=4096, max_record_bytes=2048, context={"version": 2}, file_mode=0o640)
    with pytest.raises(ConfigError, match="setting of the buffer"):
        handler.reconfigure(flush_interval=1.0)
    log(handler, "y" * 3000)
    handler.reconfigure(enabled=False)
    log(handler, "refused")
    handler.replace_settings({})
    log(handler, "z")
    lay(logs, *OLD, age=10 * DAY)
    handler.reconfigure(max_age_days=5)
    until(lambda: len(segments_of(logs)) == 2)
    handler.close()
    one, two = segments_of(logs)
    assert [line["message"][0] for line in lines_of(one)] == ["x"]
    assert [line.get("truncated") or line.get("kind") or line["message"] for line in lines_of(two)] == [
        "header", True, "z",
    ]  # fmt: skip
    assert two.stat().st_mode & 0o777 == 0o640 & ~_umask()


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def test_a_pair_joined_by_hand_changes_by_its_buffer(logs: Path) -> None:
    """`RecordBuffer.reconfigure` reaches the callers, the writer and the memory."""
    buffer = RecordBuffer(Settings(flush_interval=LONG, buffer_bytes=65536))
    target = RotatingSessionJsonlHandler(logs)
    listener = BatchQueueListener(buffer, target)
    source = SessionQueueHandler(buffer, target)
    listener.start()
    try:
        log(source, "first")
        settings, _ = Settings.load({"flush_interval": 0, "buffer_bytes": 4 << 20, "max_record_bytes": 1024})
        assert buffer.reconfigure(settings)
        until(lambda: messages_of(logs) == ["first"])
        log(source, "x" * 2000)
        until(lambda: len(messages_of(logs)) == 2)
        assert lines_of(logs)[1]["truncated"] is True
        assert not buffer.reconfigure(Settings(flush_interval=0.0, buffer_bytes=1 << 62))
        log(source, "third")
        until(lambda: messages_of(logs)[-1] == "third")
    finally:
        listener.stop()
        target.close()
