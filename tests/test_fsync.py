"""`fsync`: what is forced to the disk, when, and what happens when the disk refuses."""

from __future__ import annotations

import errno
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import PATIENCE, Disk, Notices, lines_of, messages_of, record, segments_of
from freezegun import freeze_time
from hypothesis import given, settings
from hypothesis import strategies as st

from jsonl_handler import JsonlHandler, RotatingSessionJsonlHandler
from jsonl_handler._arena import Cursor
from jsonl_handler._segments import SegmentWriter

Make = Callable[..., JsonlHandler]


class Syncs:
    """Hears of every `os.fsync`: what it was for, on which thread; it can fail them, and hold them up."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.threads: list[str] = []
        self.failures: dict[str, list[int]] = {}
        self.before: Callable[[], object] = lambda: None
        self.seen: list[object] = []
        self.stuck = threading.Event()
        self.open = threading.Event()
        self.open.set()
        self._fsync = os.fsync

    def fsync(self, descriptor: int) -> None:
        name = os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))
        self.names.append(name)
        self.threads.append(threading.current_thread().name)
        self.seen.append(self.before())
        if not self.open.is_set():
            self.stuck.set()
            assert self.open.wait(PATIENCE)
        kind = "segment" if name.endswith(".jsonl") else "directory"
        if self.failures.get(kind):
            number = self.failures[kind].pop()
            raise OSError(number, os.strerror(number))
        self._fsync(descriptor)


@pytest.fixture
def syncs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Syncs]:
    heard = Syncs()
    monkeypatch.setattr(os, "fsync", heard.fsync)
    yield heard
    heard.open.set()


def log(handler: JsonlHandler, *texts: str) -> None:
    """Have each text written in a batch of its own."""
    for text in texts:
        handler.handle(record(text))
        assert handler.flush(PATIENCE)


def test_by_default_nothing_is_forced_to_the_disk(make: Make, syncs: Syncs) -> None:
    """Neither a batch, nor a roll, nor the end waits for the disk."""
    handler = make(max_file_bytes=4096)
    log(handler, "one", "x" * 5000, "two")
    handler.close()
    assert syncs.names == []


def test_each_batch_is_on_the_disk_before_it_counts_as_written(make: Make, logs: Path, syncs: Syncs) -> None:
    """With "flush" the segment is forced to the disk after each batch, and the directory after a new file."""
    handler = make(fsync="flush", session_id="s", flush_interval=3600.0)
    syncs.before = lambda: (handler.stats().written, handler.stats().pending, len(lines_of(logs)))
    log(handler, "one", "two")
    first = segments_of(logs)[0].name
    assert syncs.names == [first, "logs", first]
    assert syncs.seen == [(0, 1, 1), (0, 1, 1), (1, 1, 2)]
    handler.close()
    assert syncs.names == [first, "logs", first]


def test_a_batch_in_several_segments_is_on_the_disk_in_all_of_them(make: Make, logs: Path, syncs: Syncs) -> None:
    """Each segment that a batch fills is forced to the disk before the batch counts as written."""
    handler = make(fsync="flush", max_file_bytes=4096, flush_interval=3600.0)
    syncs.before = lambda: handler.stats().written
    for _ in range(3):
        handler.handle(record("x" * 3000))
    assert handler.flush(PATIENCE)
    assert [name for name in syncs.names if name != "logs"] == [path.name for path in segments_of(logs)]
    assert syncs.names.count("logs") == 3
    assert set(syncs.seen) == {0}


def test_a_segment_is_on_the_disk_when_it_is_left(make: Make, logs: Path, syncs: Syncs) -> None:
    """With "rotate" a batch does not wait; a segment is forced to the disk once: before the next, or at the end."""
    handler = make(fsync="rotate", max_file_bytes=4096)
    log(handler, "one", "two")
    assert syncs.names == []
    log(handler, "x" * 5000)
    first, second = [path.name for path in segments_of(logs)]
    assert syncs.names == [first, "logs"]
    handler.close()
    assert syncs.names == [first, "logs", second, "logs"]
    assert set(syncs.threads) == {"jsonl-handler-writer"}


def test_a_new_date_leaves_the_segment_too(make: Make, logs: Path, syncs: Syncs) -> None:
    """At midnight the file of the day is forced to the disk."""
    with freeze_time("2026-11-22 23:59:59") as clock:
        handler = make(fsync="rotate", flush_interval=3600.0)
        log(handler, "one")
        clock.tick(2)
        log(handler, "two")
        assert [name[:20] for name in syncs.names] == ["telemetry-2026-11-22", "logs"]
        handler.close()


@pytest.mark.parametrize("fsync", ["rotate", "flush"])
def test_a_handler_that_writes_at_once_does_so_too(logs: Path, syncs: Syncs, fsync: str) -> None:
    """`RotatingSessionJsonlHandler` has the setting, and keeps it in the calling thread."""
    handler = RotatingSessionJsonlHandler(logs, fsync=fsync)
    handler.handle(record("one"))
    handler.handle(record("two"))
    during = [name for name in syncs.names if name != "logs"]
    handler.close()
    name = segments_of(logs)[0].name
    assert during == ([name] * 2 if fsync == "flush" else [])
    assert set(syncs.names) == {name, "logs"}


def test_a_late_record_is_on_the_disk_too(make: Make, logs: Path, syncs: Syncs) -> None:
    """What comes after `close` is forced to the disk when the handler is closed again."""
    handler = make(fsync="rotate")
    log(handler, "one")
    handler.close()
    syncs.names.clear()
    handler.handle(record("late"))
    handler.close()
    assert syncs.names == [segments_of(logs)[0].name]
    assert messages_of(logs) == ["one", "late"]


@pytest.mark.parametrize("what", ["segment", "directory"])
def test_a_batch_that_the_disk_does_not_confirm_stays(
    make: Make, logs: Path, syncs: Syncs, notices: Notices, what: str
) -> None:
    """A failed fsync is counted and told, the batch is pending till one succeeds, and no line is there twice."""
    syncs.failures[what] = [errno.EIO]
    handler = make(fsync="flush", flush_interval=3600.0)
    handler.handle(record("one"))
    assert not handler.flush(0.2)
    assert handler.stats().pending == 1
    assert handler.stats().write_errors == 1
    assert "Input/output error" in (handler.stats().last_error or "")
    assert "cannot write" in notices.wait_for("Input/output error")
    assert handler.flush(PATIENCE)
    notices.wait_for("works again")
    assert handler.stats().written == 1
    assert messages_of(logs) == ["one"]


def test_a_segment_that_the_disk_does_not_confirm_is_not_left(
    make: Make, logs: Path, syncs: Syncs, notices: Notices
) -> None:
    """With "rotate" a failed fsync holds the next segment up until one succeeds."""
    handler = make(fsync="rotate", max_file_bytes=4096, flush_interval=3600.0)
    log(handler, "one")
    syncs.failures["segment"] = [errno.EIO]
    handler.handle(record("x" * 5000))
    assert not handler.flush(0.2)
    assert len(segments_of(logs)) == 1
    assert handler.stats().write_errors == 1
    assert handler.flush(PATIENCE)
    assert [len(messages_of(path)) for path in segments_of(logs)] == [1, 1]


def test_the_line_about_a_loss_is_written_once(make: Make, logs: Path, syncs: Syncs, disk: Disk) -> None:
    """Also when the fsync after it fails, and the batch is tried again."""
    handler = make(fsync="flush", flush_interval=3600.0, buffer_limit=10, overflow_timeout=0.0)
    log(handler, "first")
    disk.hold()
    for number in range(100):
        handler.handle(record(str(number)))
    assert disk.stuck.wait(PATIENCE)
    for number in range(100):
        handler.handle(record(str(number)))
    syncs.failures["segment"] = [errno.EIO, errno.EIO]
    disk.release()
    assert handler.flush(PATIENCE)
    stats = handler.stats()
    assert stats.write_errors == 2
    assert len(messages_of(logs)) == stats.written
    assert sum(line.get("dropped", 0) for line in lines_of(logs)) == stats.dropped > 0


def test_a_record_that_the_disk_does_not_confirm_comes_with_the_next(logs: Path, syncs: Syncs) -> None:
    """A handler without a buffer has it pending, and the next record tries again."""
    handler = RotatingSessionJsonlHandler(logs, fsync="flush")
    syncs.failures["segment"] = [errno.EIO]
    handler.handle(record("one"))
    assert (handler.stats().written, handler.stats().pending) == (0, 1)
    handler.handle(record("two"))
    handler.close()
    assert handler.stats().written == 2
    assert messages_of(logs) == ["one", "two"]


def test_the_end_comes_though_the_disk_does_not_confirm(make: Make, logs: Path, syncs: Syncs, notices: Notices) -> None:
    """With "rotate" a last fsync that fails is counted and told, and the session ends."""
    handler = make(fsync="rotate")
    log(handler, "one")
    syncs.failures["segment"] = [errno.EIO] * 5
    handler.close()
    assert handler.stats().write_errors > 0
    assert notices.about("Input/output error")
    assert not list((logs / ".jsonl-handler").glob("*.session"))


def test_the_end_does_not_wait_for_a_disk_that_hangs(make: Make, logs: Path, syncs: Syncs) -> None:
    """`close` returns after `close_timeout`; the session ends when the disk answers."""
    handler = make(fsync="rotate", close_timeout=0.1)
    log(handler, "one")
    syncs.open.clear()
    handler.close()
    assert syncs.stuck.is_set()
    assert list((logs / ".jsonl-handler").glob("*.session"))
    (writer,) = [thread for thread in threading.enumerate() if thread.name == "jsonl-handler-writer"]
    syncs.open.set()
    writer.join(PATIENCE)
    assert not list((logs / ".jsonl-handler").glob("*.session"))
    assert messages_of(logs) == ["one"]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_a_filesystem_that_syncs_no_directories_is_no_trouble(make: Make, syncs: Syncs, number: int) -> None:
    """Some know the call for files only: then that is all that is asked."""
    syncs.failures["directory"] = [number] * 10
    handler = make(fsync="flush")
    log(handler, "one", "two")
    assert handler.stats().write_errors == 0


def test_a_directory_reached_by_a_link_is_synced(make: Make, tmp_path: Path, syncs: Syncs) -> None:
    """The log directory itself may be a link."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    log(make(tmp_path / "link", fsync="flush"), "one")
    assert "real" in syncs.names


def test_a_segment_that_vanished_needs_no_fsync(make: Make, logs: Path, syncs: Syncs) -> None:
    """What was deleted is written again, and that is forced to the disk."""
    handler = make(fsync="flush", session_id="s", flush_interval=3600.0)
    log(handler, "gone")
    segments_of(logs)[0].unlink()
    syncs.names.clear()
    log(handler, "kept")
    assert syncs.names == [segments_of(logs)[0].name, "logs"]
    assert handler.stats().write_errors == 0
    assert messages_of(logs) == ["kept"]


@settings(deadline=None)
@given(
    fsync=st.sampled_from(["rotate", "flush"]),
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=10),
    cap=st.integers(10, 150),
    failures=st.lists(st.booleans(), max_size=12),
)
def test_whatever_fails_no_line_is_lost_or_doubled(
    fsync: str, sizes: list[int], cap: int, failures: list[bool]
) -> None:
    """Whichever of the calls fail, all lines are there once, and each byte was confirmed after it was written."""
    lines = b"".join(b"%d" % number + b"x" * size + b"\n" for number, size in enumerate(sizes))
    left, confirmed = list(failures), {}
    real = os.fsync

    def failing(descriptor: int) -> None:
        if left and left.pop():
            raise OSError(errno.EIO, "Input/output error")
        real(descriptor)
        confirmed[os.readlink(f"/proc/self/fd/{descriptor}")] = os.fstat(descriptor).st_size

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", failing)
        segments = SegmentWriter(
            Path(folder),
            "telemetry",
            "s",
            file_mode=0o600,
            fsync=fsync,
            header=lambda name, torn: b"",
            announce=lambda name: None,
            resumes=False,
        )
        cursor = Cursor(0)
        for _ in range(len(failures) + 1):
            try:
                while cursor.at < len(lines) or not segments.confirm(cursor):
                    segments.write(lines, cursor, len(lines), 20_000, cap)
                segments.sync()
                break
            except OSError:
                continue
        segments.close()
        contents = {str(path): path.read_bytes() for path in segments_of(Path(folder))}
        assert os.path.realpath(folder) in confirmed
        assert {path: confirmed[path] for path in contents} == {path: len(all_) for path, all_ in contents.items()}
    assert b"".join(contents.values()) == lines
