"""The files that journals lie in: made, found again, and removed, on tmpfs only.

A file on a disk is never mapped: a store into it blocks with the GIL held while the disk is
busy, and kills the process when the disk is full or somebody truncates the file.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import mmap
import os
import re
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jsonl_handler import _lockfile
from jsonl_handler._clock import now
from jsonl_handler._journal import Journal
from jsonl_handler._journal_layout import MOST_OWNER, PREAMBLE_BYTES, CorruptError, read_preamble, size_of
from jsonl_handler._mounts import kind_of

PLACE = Path("/dev/shm")
"""Linux has a tmpfs here; where there is none, no journal is kept."""
_ALWAYS_FINE = 64 * 2**20

_NAME = re.compile(r"jsonl-handler-[0-9a-f]{16}\.journal", re.ASCII)
_DAY = 86400.0
_STEP = 1 << 20
# Before 3.13 a map keeps a descriptor of its own.
_UNTRACKED: dict[str, Any] = {"trackfd": False} if sys.version_info >= (3, 13) else {}


# A process that ends gives up the lock on its session file a moment before that on its journal.
_PATIENCE, _MOMENT = 20, 0.01


class JournalFile:
    """A journal of ours. The lock on its file says that we live."""

    def __init__(self, name: str, journal: Journal, descriptor: int) -> None:
        self.name = name
        self.journal = journal
        self._descriptor = descriptor
        self._removed = False

    def is_linked(self) -> bool:
        """False once somebody has removed the file."""
        return not self._removed and os.fstat(self._descriptor).st_nlink > 0

    def touch(self) -> None:
        """Show those who can't see our session file, as in another container, that this is no old one."""
        # By name: another thread may have closed the descriptor.
        with contextlib.suppress(FileNotFoundError):
            os.utime(PLACE / self.name)

    def remove(self) -> None:
        """Give the file up, once; its memory stays as long as it is mapped."""
        if self._removed:
            return
        try:
            remove(self.name)
        finally:
            self._removed = True
            _lockfile.close(self._descriptor)


def new_name() -> str:
    """A name that nobody has."""
    return f"jsonl-handler-{os.urandom(8).hex()}.journal"


def create(name: str, arena_bytes: int, owner: Path) -> JournalFile:
    """A blank journal, all of its memory reserved; OSError where there is no tmpfs or no room in it.

    *owner* is the session file that names it.
    """
    if kind_of(PLACE) != "tmpfs" or not hasattr(os, "posix_fallocate"):
        raise OSError(errno.ENOTSUP, "there is no tmpfs", str(PLACE))
    path = PLACE / name
    size = size_of(arena_bytes)
    _check_room(size)
    descriptor = -1
    try:
        descriptor = _lockfile.open_safely(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        _lockfile.try_lock(descriptor)
        # Before it is mapped: a store for which there is no room would be a SIGBUS.
        os.posix_fallocate(descriptor, 0, size)
        # Opened again: a child that is forked keeps the map's descriptor, and would keep the lock with it.
        memory = _map(path, size)
        return JournalFile(name, Journal.begin(memory, arena_bytes, str(owner)), descriptor)
    except FileExistsError:
        raise
    except BaseException:
        try:
            remove(name)
        finally:
            _lockfile.close(descriptor)
        raise


def _check_room(size: int) -> None:
    # What is reserved there is the machine's memory at once, however large the tmpfs says it is.
    if size > _ALWAYS_FINE:
        place = os.statvfs(PLACE)
        if size > place.f_bavail * place.f_frsize // 2:
            raise OSError(errno.ENOSPC, f"{size} bytes are more than half of what is free", str(PLACE))


class FoundFile:
    """A journal that a process has left; nobody else touches it before it is closed.

    *journal* is a copy that keeps the file in line with it, so that whoever cuts the file
    short can't end this process; None where that process had not begun to use it.
    """

    def __init__(self, path: Path, owner: int) -> None:
        """Raises `CorruptError` for what this package has not made, or not for the user *owner*."""
        self.path = path
        self.session_file: Path | None = None
        self.journal: Journal | None = None
        descriptor = _lockfile.open_existing(path)
        if descriptor is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        self._descriptor = descriptor
        try:
            self._check(owner)
            self._lock()
            self._read()
        except CorruptError as error:
            _lockfile.close(descriptor)
            raise CorruptError(f"{path}: {error}") from error
        except BaseException:
            _lockfile.close(descriptor)
            raise

    def remove(self) -> None:
        """Remove the file: what it held is elsewhere."""
        _lockfile.unlink_if_ours(self._descriptor, self.path)

    def close(self) -> None:
        """Leave it to others."""
        _lockfile.close(self._descriptor)

    def _check(self, owner: int) -> None:
        found = os.fstat(self._descriptor)
        if found.st_nlink != 1 or stat.S_IMODE(found.st_mode) & 0o077:
            raise CorruptError("it must have one name, and only its owner may read it")
        if found.st_uid != owner:
            raise CorruptError("it belongs to another user than the session file that names it")
        if kind_of(PLACE) != "tmpfs":
            raise CorruptError("it does not lie on a tmpfs")
        if found.st_blocks * 512 < found.st_size:
            # All of it is reserved when it is made. One with holes may claim to be of any size.
            raise CorruptError("it has holes")

    def _lock(self) -> None:
        for _ in range(_PATIENCE):
            if _lockfile.try_lock(self._descriptor):
                return
            time.sleep(_MOMENT)
        raise CorruptError("its process lives")

    def _read(self) -> None:
        size = os.fstat(self._descriptor).st_size
        if size < size_of(0):
            return
        memory = mmap.mmap(-1, size)
        at = 0
        while at < size:
            content = os.pread(self._descriptor, min(size - at, _STEP), at)
            if not content:
                raise CorruptError("it was cut short while it was read")
            memory[at : at + len(content)] = content
            at += len(content)
        self.journal = Journal.parse(memory, functools.partial(_write, self._descriptor))
        if self.journal is not None:
            self.session_file = Path(read_preamble(memory[:PREAMBLE_BYTES])[1])


def find(name: str, owner: int) -> FoundFile | None:
    """The journal that a dead session of the user *owner* has left; None when it is gone.

    Raises `CorruptError` for whatever this package has not made, or not for this user.
    """
    if not _NAME.fullmatch(name):
        raise CorruptError(f"{name!r} is no name of a journal")
    try:
        return FoundFile(PLACE / name, owner)
    except FileNotFoundError:
        return None


def remove(name: str) -> None:
    """Remove a journal, if it is there."""
    if _NAME.fullmatch(name):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(PLACE / name)


def remove_orphans(is_named: Callable[[Path, str], bool], stop: Callable[[], bool]) -> None:
    """Remove the journals of this user that are a day old, whose process is gone, and that no session file names.

    *is_named* is asked whether the session file at a path names a journal.
    """
    for name in _names():
        if stop():
            return
        with contextlib.suppress(OSError, CorruptError):
            found = os.lstat(PLACE / name)
            if found.st_uid != os.geteuid() or now() - found.st_mtime < _DAY:
                continue
            descriptor = _lockfile.open_existing(PLACE / name)
            if descriptor is None:
                continue
            try:
                if _lockfile.try_lock(descriptor):
                    _, owner = read_preamble(os.pread(descriptor, PREAMBLE_BYTES, 0))
                    # Of a path that was cut nobody knows where it leads.
                    if len(os.fsencode(owner)) < MOST_OWNER and not is_named(Path(owner), name):
                        remove(name)
            finally:
                _lockfile.close(descriptor)


def _write(descriptor: int, at: int, content: bytes) -> None:
    while content:
        written = os.pwrite(descriptor, content, at)
        at, content = at + written, content[written:]


def _names() -> list[str]:
    try:
        return [name for name in os.listdir(PLACE) if _NAME.fullmatch(name)]
    except OSError:
        return []


def _map(path: Path, size: int) -> mmap.mmap:
    descriptor = _lockfile.open_safely(path, os.O_RDWR)
    try:
        return mmap.mmap(descriptor, size, **_UNTRACKED)
    finally:
        _lockfile.close(descriptor)
