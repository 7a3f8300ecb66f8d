"""Segments: rotation by size, and a disk that does not play along."""

from __future__ import annotations

import datetime as dt
import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import PATIENCE, Disk, Notices, lines_of, messages_of, record, remove_all, segments_of
from hypothesis import given, settings
from hypothesis import strategies as st

from jsonl_handler import JsonlHandler
from jsonl_handler._arena import Cursor
from jsonl_handler._names import SegmentName
from jsonl_handler._segments import SegmentWriter

Make = Callable[..., JsonlHandler]
DAY = 20_000
"""A date, in days since the epoch."""


def parts_of(logs: Path) -> list[int]:
    """The numbers of the segments there are."""
    found = [SegmentName.parse(path.name, "telemetry") for path in segments_of(logs)]
    return [name.part for name in found if name is not None]


def check_caps(logs: Path, cap: int) -> None:
    """No segment over the cap, but one that holds a single line; none skipped or empty."""
    assert parts_of(logs) == list(range(len(parts_of(logs))))
    for path in segments_of(logs):
        content = path.read_bytes()
        assert content.endswith(b"\n")
        assert len(content) <= cap or content.count(b"\n") == 1


def test_no_segment_exceeds_its_limit_in_bytes(make: Make, logs: Path) -> None:
    """Sizes are counted in UTF-8 bytes, and a batch is cut between two lines."""
    handler = make(max_file_bytes=4096, buffer_limit=1000, flush_interval=3600.0, flush_batch_size=1000)
    texts = ["grün 漢字 🎈" * (number % 40) + str(number) for number in range(300)]
    for text in texts:
        handler.handle(record(text))
    handler.close()
    check_caps(logs, 4096)
    assert messages_of(logs) == texts
    sizes = [path.stat().st_size for path in segments_of(logs)]
    assert len(sizes) > 10
    assert handler.stats().rotations == len(sizes) - 1
    assert handler.stats().bytes_written == sum(sizes)


def test_a_segment_is_filled_to_the_last_byte(make: Make, logs: Path) -> None:
    """A line that just fits goes in; one byte more and it opens the next."""
    handler = make(max_file_bytes=4096)
    for _ in range(4):
        handler.write(b'{"a":"' + b"x" * (1024 - 9) + b'"}')
    handler.flush(PATIENCE)
    assert [path.stat().st_size for path in segments_of(logs)] == [4096]
    handler.write(b"{}")
    handler.close()
    assert [path.stat().st_size for path in segments_of(logs)] == [4096, 3]


def test_an_oversized_line_stays_alone_in_the_segment_it_opens(make: Make, logs: Path) -> None:
    """A single record may exceed the limit; nothing else joins it, and no empty segment is left."""
    handler = make(max_file_bytes=4096)
    for text in ("a", "b" * 9000, "c" * 9000, "d", "e"):
        handler.handle(record(text))
    handler.close()
    assert [[message[0] for message in messages_of(path)] for path in segments_of(logs)] == [
        ["a"], ["b"], ["c"], ["d", "e"],
    ]  # fmt: skip
    assert parts_of(logs) == [0, 1, 2, 3]


def test_an_oversized_first_line_opens_no_second_segment(make: Make, logs: Path) -> None:
    """The very first record may be the long one."""
    handler = make(max_file_bytes=4096)
    handler.handle(record("b" * 9000))
    handler.close()
    assert parts_of(logs) == [0]


def test_each_segment_begins_with_the_header(make: Make, logs: Path) -> None:
    """With `context` each file's first line is the header, whose bytes count; the session and number are its own."""
    handler = make(max_file_bytes=4096, context={"service": "grün", "pid": 7}, session_id="h")
    for _ in range(30):
        handler.handle(record("x" * 500))
    handler.handle(record("y" * 9000))
    handler.close()
    for number, path in enumerate(segments_of(logs)):
        first, *rest = lines_of(path)
        timestamp = first.pop("timestamp")
        assert dt.datetime.fromisoformat(timestamp).tzinfo is not None
        assert first == {
            "kind": "header",
            "schema_version": 1,
            "session": "h",
            "segment": number,
            "context": {"service": "grün", "pid": 7},
        }
        assert rest
        assert all("kind" not in line for line in rest)
        assert path.stat().st_size <= 4096 or len(rest) == 1
    assert handler.stats().bytes_written == sum(path.stat().st_size for path in segments_of(logs))


def test_without_a_context_there_is_no_header(make: Make, logs: Path) -> None:
    """Only what was asked for is written."""
    handler = make()
    handler.handle(record("only"))
    handler.close()
    assert [line["message"] for line in lines_of(logs)] == ["only"]


def writer(directory: Path, *, header: bytes = b"", resumes: bool = False) -> SegmentWriter:
    """A writer of the session `s`."""
    return SegmentWriter(
        directory,
        "telemetry",
        "s",
        file_mode=0o600,
        header=lambda name, torn: b'{"torn":%d}\n' % torn if torn else header,
        announce=lambda name: None,
        resumes=resumes,
    )


def put(segments: SegmentWriter, lines: bytes, cap: int, cursor: Cursor | None = None) -> Cursor:
    """Write lines as a batch, until they are confirmed."""
    cursor = cursor or Cursor(0)
    while cursor.at < len(lines) or not segments.confirm(cursor):
        segments.write(lines, cursor, len(lines), DAY, cap)
    return cursor


@settings(deadline=None)
@given(
    batches=st.lists(st.lists(st.integers(1, 120), min_size=1, max_size=8), max_size=6),
    cap=st.integers(10, 150),
    header=st.integers(0, 40),
    reopen=st.booleans(),
)
def test_any_sizes_in_any_batches(batches: list[list[int]], cap: int, header: int, reopen: bool) -> None:
    """All lines, in order and whole; every cap is kept; no segment skipped, empty, or rotated without need."""
    head = b"h" * (header - 1) + b"\n" if header else b""
    expected: list[bytes] = []
    with tempfile.TemporaryDirectory() as folder:
        segments = writer(Path(folder), header=head)
        for batch in batches:
            lines = [b"%d" % len(expected) + b"x" * size + b"\n" for size in batch]
            expected += lines
            put(segments, b"".join(lines), cap)
            if reopen:
                segments.close()
                segments = writer(Path(folder), header=head, resumes=True)
        segments.close()
        contents = [path.read_bytes() for path in segments_of(Path(folder))]
        assert parts_of(Path(folder)) == list(range(len(contents)))
    bodies = []
    for content in contents:
        assert content.startswith(head)
        bodies.append(content[len(head) :])
        assert bodies[-1]
        assert len(content) <= cap or bodies[-1].count(b"\n") == 1
    assert b"".join(bodies) == b"".join(expected)
    for content, following in zip(contents, bodies[1:], strict=False):
        assert len(content) + following.index(b"\n") + 1 > cap


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=10),
    cap=st.integers(10, 150),
    faults=st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=12),
)
def test_any_interruption_at_any_byte(sizes: list[int], cap: int, faults: list[tuple[int, bool]]) -> None:
    """Short writes and errors anywhere, in headers too: what is written is what it would have been without them."""
    lines = b"".join(b"%d" % number + b"x" * size + b"\n" for number, size in enumerate(sizes))
    left = list(faults)
    real = os.write

    def write(descriptor: int, content: bytes) -> int:
        if not left:
            return real(descriptor, content)
        most, fails = left.pop()
        if most:
            return real(descriptor, content[:most])
        if fails:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, content)

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        segments = writer(Path(folder), header=b"head\n")
        cursor = Cursor(0)
        patch.setattr(os, "write", write)
        for _ in range(len(faults) + 1):
            try:
                put(segments, lines, cap, cursor)
                break
            except OSError:
                continue
        counted = segments.bytes_written
        segments.close()
        contents = [path.read_bytes() for path in segments_of(Path(folder))]
        assert parts_of(Path(folder)) == list(range(len(contents)))
    assert counted == sum(map(len, contents))
    assert all(content.startswith(b"head\n") and len(content) > 5 for content in contents)
    assert b"".join(content[5:] for content in contents) == lines
    assert all(len(content) <= cap or content.count(b"\n") == 2 for content in contents)


def test_a_short_write_is_completed(make: Make, logs: Path, disk: Disk) -> None:
    """Half a line on the disk is finished before anything else."""
    handler = make(flush_interval=3600.0)
    handler.handle(record("one"))
    handler.flush(PATIENCE)
    disk.shortest = 7
    handler.handle(record("two"))
    handler.handle(record("three"))
    handler.close()
    assert messages_of(logs) == ["one", "two", "three"]


def test_a_full_disk_goes_on_at_the_byte_where_it_stopped(make: Make, logs: Path, disk: Disk) -> None:
    """A line is cut by ENOSPC; once there is room the rest follows, and nothing is there twice."""
    handler = make(flush_interval=3600.0, max_file_bytes=4096)
    texts = [f"{number} " + "x" * 500 for number in range(20)]
    for text in texts:
        handler.handle(record(text))
    disk.shortest = 1000
    disk.fill()
    assert not handler.flush(0.2)
    assert handler.stats().write_errors > 0
    assert handler.stats().pending == 20
    disk.mend()
    assert handler.flush(PATIENCE)
    assert messages_of(logs) == texts
    check_caps(logs, 4096)
    assert handler.stats().bytes_written == sum(path.stat().st_size for path in segments_of(logs))


@pytest.mark.parametrize("size", [100, 9000])
@pytest.mark.parametrize("context", [None, {"service": "web"}])
def test_a_disk_that_was_full_from_the_start(
    make: Make, logs: Path, disk: Disk, size: int, context: dict[str, str] | None
) -> None:
    """Neither an empty segment nor two headers are left, also when the first line is an oversized one."""
    handler = make(flush_interval=3600.0, max_file_bytes=4096, context=context)
    disk.fill()
    handler.handle(record("x" * size))
    assert not handler.flush(0.1)
    disk.mend()
    assert handler.flush(PATIENCE)
    handler.close()
    assert parts_of(logs) == [0]
    assert len(lines_of(logs)) == (1 if context is None else 2)


def test_a_header_that_fails_half_way_is_written_once(make: Make, logs: Path, disk: Disk) -> None:
    """What was written of it is taken back, and not counted."""
    handler = make(flush_interval=3600.0, context={"service": "web"})
    disk.shortest = 10
    disk.fill()
    handler.handle(record())
    assert not handler.flush(0.1)
    assert segments_of(logs)[0].read_bytes() == b""
    assert handler.stats().bytes_written == 0
    disk.mend()
    assert handler.flush(PATIENCE)
    header, line = lines_of(logs)
    assert (header["kind"], line["message"]) == ("header", "hello")
    assert handler.stats().bytes_written == segments_of(logs)[0].stat().st_size


def test_attempts_on_a_full_disk_are_no_rotations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A segment that is opened again because the next one could not be made is counted once."""
    segments = writer(tmp_path)
    put(segments, b"x" * 50 + b"\n", 60)
    real = os.open

    def full(path: str, flags: int, *more: int) -> int:
        if flags & os.O_EXCL:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, flags, *more)

    cursor = Cursor(0)
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", full)
        for _ in range(5):
            with pytest.raises(OSError, match="No space"):
                put(segments, b"y" * 50 + b"\n", 60, cursor)
    assert segments.opened == 1
    put(segments, b"y" * 50 + b"\n", 60, cursor)
    segments.close()
    assert segments.opened == 2
    assert [path.read_bytes()[:1] for path in segments_of(tmp_path)] == [b"x", b"y"]


def test_half_a_line_is_cut_when_the_segment_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who closes in the middle of trouble leaves whole lines; going on writes the cut line whole."""
    segments = writer(tmp_path)
    lines = b"first line\nsecond line\nthird line\n"
    cursor = Cursor(0)
    real = os.write
    lengths = [15]

    def write(descriptor: int, content: bytes) -> int:
        if lengths:
            return real(descriptor, content[: lengths.pop()])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        with pytest.raises(OSError, match="No space"):
            put(segments, lines, 1000, cursor)
    segments.close()
    assert segments_of(tmp_path)[0].read_bytes() == b"first line\n"
    put(segments, lines, 1000, cursor)
    segments.close()
    assert b"".join(path.read_bytes() for path in segments_of(tmp_path)) == lines


def test_a_deleted_segment_is_followed_by_a_new_one(make: Make, logs: Path) -> None:
    """Somebody removes the file: the next batch is in a new one, with its next number."""
    handler = make(flush_interval=3600.0)
    handler.handle(record("gone"))
    handler.flush(PATIENCE)
    segments_of(logs)[0].unlink()
    for text in ("one", "two"):
        handler.handle(record(text))
        assert handler.flush(PATIENCE)
    assert messages_of(logs) == ["one", "two"]
    assert parts_of(logs) == [1]
    assert handler.stats().write_errors == 0


def test_a_deleted_directory_is_made_again(make: Make, logs: Path) -> None:
    """Somebody removes everything: the session is claimed anew under its name, and the next batch is there whole."""
    handler = make(flush_interval=3600.0, max_file_bytes=4096)
    handler.handle(record("gone"))
    handler.flush(PATIENCE)
    session = handler.session_id
    remove_all(logs)
    texts = [f"{number} " + "x" * 500 for number in range(20)]
    for text in texts:
        handler.handle(record(text))
    assert handler.flush(PATIENCE)
    assert messages_of(logs) == texts
    assert {line["session"] for line in lines_of(logs)} == {session}
    assert len(list((logs / ".jsonl-handler").glob("*.session"))) == 1


def test_a_session_file_that_vanished_is_made_again_and_names_the_segment(make: Make, logs: Path) -> None:
    """The open segment goes on, and a sweep of another process still sees who writes it."""
    handler = make(flush_interval=3600.0)
    handler.handle(record("one"))
    handler.flush(PATIENCE)
    (session_file,) = (logs / ".jsonl-handler").glob("*.session")
    session_file.unlink()
    handler.handle(record("two"))
    assert handler.flush(PATIENCE)
    assert messages_of(logs) == ["one", "two"]
    assert parts_of(logs) == [0]
    assert segments_of(logs)[0].name in session_file.read_text()


def test_a_segment_that_vanishes_in_the_middle_of_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What of the batch was in it is written again; what is in an earlier segment is not."""
    segments = writer(tmp_path)
    real = os.write
    lengths = [100, 20]

    def write(descriptor: int, content: bytes) -> int:
        if not lengths:
            return real(descriptor, content)
        written = real(descriptor, content[: lengths.pop()])
        if not lengths:
            os.unlink(os.readlink(f"/proc/self/fd/{descriptor}"))
        return written

    lines = b"".join(b"line %d\n" % number for number in range(10))
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        put(segments, lines, 24)
    segments.close()
    assert b"".join(path.read_bytes() for path in segments_of(tmp_path)) == lines


def test_segments_that_are_removed_as_fast_as_they_are_made(
    make: Make, logs: Path, monkeypatch: pytest.MonkeyPatch, notices: Notices
) -> None:
    """Somebody deletes every file at once: the writer gives up for a while and says so, and loses nothing."""
    handler = make(flush_interval=3600.0)
    real = os.write

    def write(descriptor: int, content: bytes) -> int:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        written = real(descriptor, content)
        if path.endswith(".jsonl"):
            os.unlink(path)
        return written

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        handler.handle(record("kept"))
        assert not handler.flush(0.2)
        assert "as fast as they are made" in notices.wait_for("cannot write")
    assert handler.flush(PATIENCE)
    assert messages_of(logs) == ["kept"]
    assert handler.stats().write_errors > 0
