"""One open segment: append to it, mend the torn end that a crash left, see whether it is still there.

Its name and its limits are the business of `_segments`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import mmap
import os
import stat
from pathlib import Path
from typing import Self

from jsonl_handler._arena import Cursor
from jsonl_handler._codec import reading
from jsonl_handler._lockfile import close, open_existing, open_safely

_STEP = 64 * 1024


class SegmentFile:
    """An open segment, *size* bytes long, *whole* of them in whole lines.

    *header* is what must be written before the first line; *torn* says how many bytes
    of a torn last line were cut when the segment was taken up again.
    """

    def __init__(self, descriptor: int, size: int, *, header: bytes = b"", torn: int = 0) -> None:
        self._descriptor = descriptor
        self.size = self.whole = size
        self.header = header
        self.torn = torn
        self.has_lines = size > 0
        self.bytes_written = 0
        self._writing = self._unsynced = False

    @classmethod
    def create(cls, path: Path, mode: int, header: bytes) -> Self:
        """A new file; FileExistsError when anything of that name is there, a dangling link included."""
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL
        return cls(open_safely(path, flags, mode), 0, header=header)

    @classmethod
    def resume(cls, path: Path) -> Self:
        """An existing file, its torn end cut or made whole; OSError for a link or anything but a file."""
        descriptor = open_safely(path, os.O_RDWR | os.O_APPEND | getattr(os, "O_NONBLOCK", 0))
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(f"{path} is not a regular file")
            size, torn = _mend(descriptor, status.st_size)
        except BaseException:
            close(descriptor)
            raise
        return cls(descriptor, size, torn=torn)

    @property
    def mid_line(self) -> bool:
        """True after an error has left half a line, whose rest must come next."""
        return self.size != self.whole

    @property
    def vanished(self) -> bool:
        """True once the file has no name any more."""
        return os.fstat(self._descriptor).st_nlink == 0

    def write_header(self) -> None:
        """Write the header, or leave the file as it was and raise OSError."""
        before, had_lines, counted = self.size, self.has_lines, self.bytes_written
        try:
            self.append(self.header, Cursor(0), len(self.header))
        except BaseException:
            os.ftruncate(self._descriptor, before)
            self.size = self.whole = before
            self.bytes_written = counted
            raise
        finally:
            self.has_lines = had_lines
        self.header = b""

    def append(self, lines: bytes | mmap.mmap, cursor: Cursor, stop: int) -> None:
        """Append ``lines[cursor.at:stop]``; OSError with a part of it written, *cursor* tells how much."""
        self.catch_up(lines, cursor)
        self._writing = self._unsynced = True
        with memoryview(lines) as view:
            while cursor.at < stop:
                # A short write is legal (a signal, a full disk); stopping at it would leave half a line.
                with view[cursor.at : stop] as rest:
                    written = os.write(self._descriptor, rest)
                self._account(lines, cursor, written)
        self._writing = False

    def _account(self, lines: bytes | mmap.mmap, cursor: Cursor, written: int) -> None:
        newline = lines.rfind(b"\n", cursor.at, cursor.at + written)
        cursor.at += written
        # Only now: a first line that the disk refuses whole leaves a segment that has none.
        self.has_lines = True
        self.size += written
        self.bytes_written += written
        if newline >= 0:
            self.whole = self.size - (cursor.at - newline - 1)

    def catch_up(self, lines: bytes | mmap.mmap, cursor: Cursor) -> None:
        """See how far an append came that did not end: an error, or Ctrl-C between a write and its accounting."""
        if not self._writing:
            return
        self._writing = False
        size = os.fstat(self._descriptor).st_size
        if size > self.size:
            self._account(lines, cursor, size - self.size)
        elif size < self.size:
            # Somebody emptied the file to make room: the half line is gone, so it is written again from its start.
            self.size = self.whole = size
            cursor.at = max(cursor.begun, lines.rfind(b"\n", cursor.begun, cursor.at) + 1)

    def sync(self) -> None:
        """See that what was written is on the disk; OSError when that failed, and then it is to be asked again."""
        if self._unsynced:
            os.fsync(self._descriptor)
            self._unsynced = False

    def close(self) -> None:
        """Close the file; half a line at its end, which never was valid, is cut off."""
        if self.mid_line:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self.whole)
        close(self._descriptor)


def complete(path: Path, offset: int, lines: mmap.mmap, start: int, end: int) -> tuple[int, int]:
    """See how much of ``lines[start:end]``, which was being appended at *offset*, is there, and end a half line.

    Two positions: where what was missing begins, and where the line to append next does.
    """
    descriptor = open_existing(path)
    if descriptor is None:
        return start, start
    try:
        os.lseek(descriptor, offset, os.SEEK_SET)
        there = b""
        while len(there) <= end - start and (more := os.read(descriptor, end - start + 1 - len(there))):
            there += more
        wanted = lines[start:end]
        same = len(there) if wanted.startswith(there) else _common(there, wanted)
        at = start + same
        if same < len(there) or lines[at - 1 : at] == b"\n" or not there:
            # Whole lines, or something else behind them, which is not ours to judge.
            at = max(start, lines.rfind(b"\n", start, at) + 1)
            return at, at
        stop = lines.find(b"\n", at, end) + 1
        os.lseek(descriptor, 0, os.SEEK_END)
        write_all(descriptor, lines[at:stop])
        return at, stop
    finally:
        close(descriptor)


def write_all(descriptor: int, content: bytes) -> None:
    """Write all of *content*; OSError with a part of it written."""
    with memoryview(content) as view:
        written = 0
        while written < len(content):
            written += os.write(descriptor, view[written:])


def sync_directory(directory: Path) -> None:
    """See that the names of new files are on the disk too; OSError when that failed."""
    if not hasattr(os, "O_DIRECTORY"):
        # Windows has no such call, and needs none.
        return
    # The directory itself may be reached by a link; only what lies in it may not.
    descriptor = open_safely(Path(os.path.realpath(directory)), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network and FUSE filesystems know it for files only.
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:
            raise
    finally:
        close(descriptor)


def last_seq(path: Path, suffix: str, session_id: str, names: tuple[str, str]) -> int:
    """The highest `seq` in the last lines of a segment; -1 when there is none; OSError for a link or no file.

    *suffix* says how it is compressed, if at all; *names* are what the formatter calls
    `session` and `seq`. Threads land out of order, but never far: the highest is within the
    last 1 MiB, or further back if that has none.
    """
    descriptor = open_existing(path)
    if descriptor is None:
        return -1
    with contextlib.ExitStack() as opened:
        opened.callback(close, descriptor)
        segment = opened.enter_context(reading(descriptor, suffix))
        size = segment.seek(0, os.SEEK_END)
        window = 16 * _STEP
        while True:
            segment.seek(max(0, size - window))
            highest = max((_seq_of(line, session_id, names) for line in segment), default=-1)
            if highest >= 0 or window >= size:
                return highest
            window *= 8


def _seq_of(line: bytes, session_id: str, names: tuple[str, str]) -> int:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        return -1
    ours = isinstance(fields, dict) and fields.get(names[0]) == session_id
    seq = fields.get(names[1]) if ours else None
    return seq if type(seq) is int else -1


def _common(one: bytes, other: bytes) -> int:
    """How many bytes two texts begin with alike."""
    return next((at for at, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), len(other))


def _mend(descriptor: int, size: int) -> tuple[int, int]:
    """See that the file ends with a whole line: (its size then, how many bytes were cut)."""
    tail = b""
    start = size
    while start > 0 and b"\n" not in tail:
        step = min(_STEP, start)
        start -= step
        os.lseek(descriptor, start, os.SEEK_SET)
        tail = os.read(descriptor, step) + tail
    rest = tail[tail.rfind(b"\n") + 1 :]
    if not rest:
        return size, 0
    if _is_object(rest):
        # Whole but for its newline: what was accepted is not thrown away.
        os.write(descriptor, b"\n")
        return size + 1, 0
    os.ftruncate(descriptor, size - len(rest))
    return size - len(rest), len(rest)


def _is_object(text: bytes) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False
