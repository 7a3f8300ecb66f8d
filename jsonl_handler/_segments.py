"""The only writer of `.jsonl` bytes: which segment a line goes to, by date and size.

It raises OSError and says how far it got; it does not try again, and it does not
know who else is there.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import mmap
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from jsonl_handler._arena import Cursor, Marks
from jsonl_handler._dates import date_of
from jsonl_handler._names import SegmentName
from jsonl_handler._segment_file import SegmentFile, last_seq, sync_directory

_MOST_NAMES = 1000
_MOST_LOST = 3


class SegmentWriter:
    """Appends lines to the segments of one session; not thread-safe: one thread at a time."""

    def __init__(
        self,
        directory: Path,
        prefix: str,
        session_id: str,
        *,
        file_mode: int,
        fsync: str = "never",
        header: Callable[[SegmentName, int], bytes],
        announce: Callable[[SegmentName], None],
        resumes: bool,
    ) -> None:
        """*header* makes the first line of a segment, given its name and the size of a torn line that was cut.

        *announce* hears a name before the file is made; *resumes* says that segments may exist.
        *fsync* is the setting: "never", "rotate" or "flush"; it and *file_mode* may be changed at any time.
        """
        self._directory = directory
        self._first = SegmentName(prefix, date_of(0), session_id)
        self.file_mode = file_mode
        self._header = header
        self._announce = announce
        self.fsync = fsync
        self._new_name = False
        self._highest = highest_parts(directory, prefix, session_id) if resumes else {}
        self._file: SegmentFile | None = None
        self._name: SegmentName | None = None
        self._batch: Cursor | None = None
        self._pledged: tuple[Cursor, SegmentFile, int] | None = None
        self._from = 0
        self._lost = 0
        self._bytes_before = 0
        self.opened = 0

    @property
    def path(self) -> Path | None:
        """The current segment; None before the first write."""
        return self._directory / str(self._name) if self._name else None

    @property
    def bytes_written(self) -> int:
        """All bytes written, headers included."""
        return self._bytes_before + (self._file.bytes_written if self._file else 0)

    def last_seq(self, names: tuple[str, str]) -> int:
        """The highest `seq` that the session's segments tell of; -1 when there is none."""
        found: list[int] = []
        if not self._highest:
            return -1
        for name in _last_written_first(self._directory, self._first):
            with contextlib.suppress(OSError):
                seq = last_seq(self._directory / str(name), name.suffix, name.session, names)
                found += [seq] if seq >= 0 else []
            # The last two: about midnight a few records of the new date may be older than the last of the old one.
            if len(found) == 2:
                break
        return max(found, default=-1)

    def expected_path(self, date: datetime.date) -> Path:
        """Where the next line of a date goes, if nothing stands in the way."""
        name = self._highest.get(date, self._first_of(date))
        return self._directory / str(name.next() if name.suffix else name)

    def write_all(self, lines: bytes | mmap.mmap, cursor: Cursor, end: int, marks: Marks, cap: int) -> None:
        """Append ``lines[cursor.at:end]`` to the segments of their dates, until they are in files that are still there.

        Raises OSError; the same call then goes on at the byte where it stopped.
        """
        while cursor.at < end or not self.confirm(cursor):
            stop, day = _piece(marks, cursor.at, end)
            self.write(lines, cursor, stop, day, cap)

    def write(self, lines: bytes | mmap.mmap, cursor: Cursor, end: int, day: int, cap: int) -> None:
        """Append ``lines[cursor.at:end]``, all of one date (days since the epoch).

        No segment grows over *cap* bytes, unless by a single line. Raises OSError;
        *cursor* then stands at the byte where it stopped, which is where to go on.
        Returns early when a segment had vanished: *cursor* has gone back, perhaps to another date.
        """
        date = date_of(day)
        if self._batch is not cursor:
            self._batch, self._from, self._lost = cursor, cursor.begun, 0
        if self._file is None or not self._file.mid_line:
            # The file that got the first half of this line was closed, and cut it off.
            cursor.at = max(cursor.begun, lines.rfind(b"\n", cursor.begun, cursor.at) + 1)
        while cursor.at < end:
            file = self._file
            if file is None:
                file = self._turn_to(date, cursor.at)
            elif not file.mid_line and self._name is not None and self._name.date != date:
                if not self._leave(cursor):
                    return
                file = self._turn_to(date, cursor.at)
            file.catch_up(lines, cursor)
            if file.header:
                file.write_header()
            stop = _cut(file, lines, cursor.at, end, cap)
            if stop is not None:
                self._pledge(file, cursor)
                file.append(lines, cursor, stop)
            elif self._name is None or not self._leave(cursor):
                return
            else:
                self._create(self._name.next(), cursor.at)

    def _pledge(self, file: SegmentFile, cursor: Cursor) -> None:
        """Have it noted where the next bytes go, unless that follows from what was noted last."""
        if cursor.pledge is None:
            return
        shift = file.size - cursor.at
        pledged = self._pledged
        if pledged is None or pledged[0] is not cursor or pledged[1] is not file or pledged[2] != shift:
            self._pledged = (cursor, file, shift)
            cursor.pledge(str(self._name), file.size, cursor.at)

    def confirm(self, cursor: Cursor) -> bool:
        """True when what was written is in a file that is still there; else *cursor* goes back to its beginning.

        With fsync "flush" it is on the disk then; raises OSError when that failed.
        """
        if self.fsync == "flush":
            self.sync()
        if self._file is None or not self._file.vanished:
            return True
        cursor.at = self._from
        self.close()
        self._lost += 1
        if self._lost > _MOST_LOST:
            self._lost = 0
            raise OSError(errno.ESTALE, "segments are removed as fast as they are made", str(self.path))
        return False

    def sync(self) -> None:
        """Unless `fsync` is "never", see that the current segment is on the disk; OSError when that failed."""
        if self.fsync == "never" or self._file is None or self._file.vanished:
            return
        self._file.sync()
        if self._new_name:
            sync_directory(self._directory)
            self._new_name = False

    def close(self) -> None:
        """Close the current segment."""
        file = self._file
        if file is not None:
            try:
                file.close()
            finally:
                # No call between these: Ctrl-C may have it closed again, but not counted twice.
                self._bytes_before += file.bytes_written
                self._file = None

    def _leave(self, cursor: Cursor) -> bool:
        """Close a segment that is full or of another date; False when it had vanished with a part of this batch."""
        if not self.confirm(cursor):
            return False
        self.sync()
        self.close()
        return True

    def _turn_to(self, date: datetime.date, at: int) -> SegmentFile:
        """Go on with the highest segment of a date, or make its first one; what is compressed is closed for good."""
        name = self._highest.get(date)
        if name is None:
            return self._create(self._first_of(date), at)
        if name.suffix:
            return self._create(name.next(), at)
        self._announce(name)
        try:
            file = SegmentFile.resume(self._directory / str(name))
        except OSError as error:
            # Gone, a link, or no file at all: a name that was used once is left alone.
            if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE}:
                raise
            return self._create(name.next(), at)
        if not file.size:
            file.header = self._header(name, 0)
        if file.torn:
            file.header += self._header(name, file.torn)
        return self._adopt(name, file, at)

    def _create(self, name: SegmentName, at: int) -> SegmentFile:
        for _ in range(_MOST_NAMES):
            self._announce(name)
            try:
                file = SegmentFile.create(self._directory / str(name), self.file_mode, self._header(name, 0))
            except FileExistsError:
                name = name.next()
            else:
                self._new_name = True
                return self._adopt(name, file, at)
        raise OSError(errno.EEXIST, f"{_MOST_NAMES} names in a row are taken", str(self._directory / str(name)))

    def _adopt(self, name: SegmentName, file: SegmentFile, at: int) -> SegmentFile:
        if name != self._name:
            self.opened += 1
        self._file, self._name, self._from = file, name, at
        self._highest[name.date] = name
        return file

    def _first_of(self, date: datetime.date) -> SegmentName:
        return replace(self._first, date=date)


def _piece(marks: Marks, at: int, end: int) -> tuple[int, int]:
    """Where the date of the line at *at* ends, and which it is."""
    day = marks[0][1]
    for offset, date in marks:
        if offset > at:
            return min(offset, end), day
        day = date
    return end, day


def highest_parts(directory: Path, prefix: str, session_id: str) -> dict[datetime.date, SegmentName]:
    """The highest part of each date that a session has segments of; its compressed copy if there is one."""
    highest: dict[datetime.date, SegmentName] = {}
    for name in _names(directory, prefix, session_id):
        highest[name.date] = max(name, highest.get(name.date, name))
    return highest


def _names(directory: Path, prefix: str, session_id: str) -> Iterator[SegmentName]:
    with os.scandir(directory) as entries:
        for entry in entries:
            name = SegmentName.parse(entry.name, prefix)
            if name is not None and name.session == session_id:
                yield name


def _last_written_first(directory: Path, of: SegmentName) -> list[SegmentName]:
    found: list[tuple[int, SegmentName]] = []
    names = set(_names(directory, of.prefix, of.session))
    for name in names:
        # Of two copies one is enough, and the one that is not compressed is read faster.
        if not name.suffix or name.with_suffix("") not in names:
            with contextlib.suppress(OSError):
                found.append((os.lstat(directory / str(name)).st_mtime_ns, name))
    return [name for _, name in sorted(found, reverse=True)]


def _cut(file: SegmentFile, lines: bytes | mmap.mmap, start: int, end: int, cap: int) -> int | None:
    """Where to stop so that the cap is kept, at the end of a line; None when the segment is full."""
    if file.mid_line:
        return lines.find(b"\n", start, end) + 1
    room = max(0, cap - file.size)
    if end - start <= room:
        return end
    stop = lines.rfind(b"\n", start, start + room) + 1
    if stop:
        return stop
    # Not even one line fits: into a segment that has none yet it goes all the same, alone.
    return None if file.has_lines else lines.find(b"\n", start, end) + 1
