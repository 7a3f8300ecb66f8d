"""Compression of closed segments: a compressed copy takes the place of each.

At any moment at least one good copy of a segment is there, and whoever comes next finishes what
was interrupted. Which segments are closed is known to `_closed_segments`, when this runs to `_upkeep`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from jsonl_handler import _lockfile, _survey
from jsonl_handler._clock import monotonic, now
from jsonl_handler._closed_segments import held_closed, is_current
from jsonl_handler._codec import SUFFIXES, compressor, reading
from jsonl_handler._names import SegmentName
from jsonl_handler._segment_file import sync_directory, write_all

_CHUNK = 64 * 1024
_MANY = 2_000
_STALE = 3600.0
# No name that a reader or a sweep takes for a segment's: none of ours begins with a dot.
_DRAFT = re.compile(r"\.(?P<final>.+)\.[0-9a-f]{8}\.new", re.ASCII | re.DOTALL)
_HOPELESS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


@dataclass(slots=True)
class CompressionResult:
    """What one pass did; *more* says that its time was up with something left to do."""

    compressed: int = 0
    problems: list[str] = field(default_factory=list)
    more: bool = False


class _Stopped(Exception):
    """The pass ends here."""


def compress(
    directory: Path, prefix: str, how: str, *, stop: Callable[[], bool], seconds: float = 10.0
) -> CompressionResult:
    """Compress the closed segments of *prefix*, and finish what an earlier pass left.

    *how* is "gzip" or "zstd". *stop* is asked at every 64 KiB; after *seconds* no further
    segment is begun. Nothing is done while another process sweeps. Raises nothing for what
    the disk refuses: `CompressionResult.problems` tells it.
    """
    result = CompressionResult()
    with contextlib.suppress(_Stopped), _telling(result, directory), _survey.sweep_lock(directory, prefix) as ours:
        listed = _listing(directory, prefix, stop) if ours else {}
        highest: dict[tuple[str, date], int] = defaultdict(int)
        for name in listed:
            highest[name.session, name.date] = max(name.part, highest[name.session, name.date])
        begun = monotonic()
        for name, suffixes in listed.items():
            if "" not in suffixes:
                continue
            if monotonic() - begun > seconds:
                # Who has got nowhere would get nowhere again.
                result.more = result.compressed > 0
                break
            is_highest = name.part == highest[name.session, name.date]
            with _telling(result, directory / str(name)):
                work = _Work(directory, name, stop)
                result.compressed += work.go(how, suffixes - {""}, is_highest=is_highest)
    return result


def tidy(directory: Path, prefix: str, *, stop: Callable[[], bool]) -> None:
    """Remove the temporary files of processes that were killed while they compressed."""
    with contextlib.suppress(_Stopped, OSError):
        drafts = [entry for entry in _entries(directory, stop) if entry.startswith(".") and _is_draft(entry, prefix)]
        if not drafts:
            return
        with _survey.sweep_lock(directory, prefix) as ours:
            # Who compresses holds the lock; where that of another host may not be seen, only age tells.
            youngest = now() - _STALE if _lockfile.may_hide_locks(directory) else now()
            for path in map(directory.joinpath, drafts if ours else ()):
                found = os.lstat(path)
                if stat.S_ISREG(found.st_mode) and found.st_mtime <= youngest:
                    os.unlink(path)


class _Work:
    """One segment, and the copy that takes its place."""

    def __init__(self, directory: Path, name: SegmentName, stop: Callable[[], bool]) -> None:
        self._directory = directory
        self._name = name
        self._path = directory / str(name)
        self._stop = stop
        self._found = os.lstat(self._path)
        self._source = -1

    def go(self, how: str, there: set[str], *, is_highest: bool) -> bool:
        """Compress the segment, or compare it with the copies that are *there*; True when it has gone."""
        mine = not hasattr(os, "geteuid") or self._found.st_uid == os.geteuid()
        if not (mine and stat.S_ISREG(self._found.st_mode)):
            return False
        with contextlib.ExitStack() as opened:
            closed = held_closed(self._directory, self._name, is_highest=is_highest, mtime=self._found.st_mtime)
            if not opened.enter_context(closed):
                return False
            self._source = _open(self._path, opened)
            if not self._is_unchanged(os.fstat(self._source)):
                return False
            return self._finish(there) if there else self._replace(SUFFIXES[how], how)

    def _replace(self, suffix: str, how: str) -> bool:
        final = self._directory / str(self._name.with_suffix(suffix))
        draft = self._directory / f".{final.name}.{os.urandom(4).hex()}.new"
        copy = _lockfile.open_safely(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        try:
            self._copy_to(copy, how)
            if not self._is_same(copy, suffix):
                raise OSError(errno.EIO, "the compressed copy does not read back")
            if hasattr(os, "fchmod"):
                os.fchmod(copy, stat.S_IMODE(self._found.st_mode))
            # Retention goes by the time of the last write.
            os.utime(draft, ns=(self._found.st_atime_ns, self._found.st_mtime_ns))
            os.fsync(copy)
            if not self._is_unchanged():
                return False
            if os.path.lexists(final):
                raise OSError(errno.EEXIST, f"{final.name} is in the way")
            os.rename(draft, final)
            sync_directory(self._directory)
            if not self._drop():
                # It has grown after all, and the copy lacks what came.
                _lockfile.unlink_if_ours(copy, final)
                return False
            return True
        finally:
            with contextlib.suppress(OSError):
                _lockfile.unlink_if_ours(copy, draft)
            _lockfile.close(copy)

    def _finish(self, there: set[str]) -> bool:
        """An earlier pass was interrupted, or somebody made a copy by hand: if it is a true one the segment goes."""
        for suffix in there:
            with contextlib.ExitStack() as opened:
                copy = _open(self._directory / str(self._name.with_suffix(suffix)), opened)
                if stat.S_ISREG(os.fstat(copy).st_mode) and self._is_same(copy, suffix):
                    os.fsync(copy)
                    sync_directory(self._directory)
                    return self._drop()
        raise OSError(errno.EEXIST, "its compressed copy is not the same; both are kept")

    def _drop(self) -> bool:
        """Delete the segment, whose copy is safe; not if somebody has taken it up again."""
        if is_current(self._directory, self._name) or not self._is_unchanged():
            return False
        os.unlink(self._path)
        return True

    def _is_unchanged(self, seen: os.stat_result | None = None) -> bool:
        """True while the name leads to the very bytes that were looked at first."""
        there, first = seen or os.lstat(self._path), self._found
        return (there.st_dev, there.st_ino, there.st_mode, there.st_size, there.st_mtime_ns) == (
            *(first.st_dev, first.st_ino, first.st_mode, first.st_size, first.st_mtime_ns),
        )

    def _copy_to(self, copy: int, how: str) -> None:
        engine = compressor(how)
        while chunk := self._read():
            write_all(copy, engine.compress(chunk))
        write_all(copy, engine.flush())

    def _is_same(self, copy: int, suffix: str) -> bool:
        for descriptor in (self._source, copy):
            os.lseek(descriptor, 0, os.SEEK_SET)
        with reading(copy, suffix) as text:
            while chunk := self._read():
                if text.read(len(chunk)) != chunk:
                    return False
            return not text.read(1)

    def _read(self) -> bytes:
        if self._stop():
            raise _Stopped
        return os.read(self._source, _CHUNK)


@contextlib.contextmanager
def _telling(result: CompressionResult, what: Path) -> Iterator[None]:
    """What the disk refuses inside of the block is a problem with *what*; a file that has gone is none."""
    try:
        yield
    except FileNotFoundError:
        return
    except OSError as error:
        result.problems.append(f"{what} could not be compressed: {error.strerror or type(error).__name__}")
        if error.errno in _HOPELESS:
            raise _Stopped from error


def _listing(directory: Path, prefix: str, stop: Callable[[], bool]) -> dict[SegmentName, set[str]]:
    """The suffixes of the copies that there are of each segment; its own is empty."""
    found: dict[SegmentName, set[str]] = defaultdict(set)
    for entry in _entries(directory, stop):
        name = SegmentName.parse(entry, prefix)
        if name is not None:
            found[name.with_suffix("")].add(name.suffix)
    return found


def _entries(directory: Path, stop: Callable[[], bool]) -> Iterator[str]:
    with os.scandir(directory) as entries:
        for count, entry in enumerate(entries):
            if count % _MANY == 0 and stop():
                raise _Stopped
            yield entry.name


def _is_draft(entry: str, prefix: str) -> bool:
    match = _DRAFT.fullmatch(entry)
    name = SegmentName.parse(match["final"], prefix) if match else None
    return name is not None and bool(name.suffix)


def _open(path: Path, opened: contextlib.ExitStack) -> int:
    descriptor = _lockfile.open_safely(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    opened.callback(_lockfile.close, descriptor)
    return descriptor
