"""The files that journals lie in: made, found again, and removed, on tmpfs only.

A file on a disk is never mapped: a store into it blocks with the GIL held while the disk is
busy, and kills the process when the disk is full or somebody truncates the file.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import re
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jsonl_handler import _lockfile
from jsonl_handler._clock import now
from jsonl_handler._journal import CorruptError, Journal, read_preamble, size_of
from jsonl_handler._mounts import kind_of

PLACE = Path("/dev/shm")
"""Linux has a tmpfs here; where there is none, no journal is kept."""

_NAME = re.compile(r"jsonl-handler-[0-9a-f]{16}\.journal", re.ASCII)
_DAY = 86400.0
# Before 3.13 a map keeps a descriptor of its own.
_UNTRACKED: dict[str, Any] = {"trackfd": False} if sys.version_info >= (3, 13) else {}


class JournalFile:
    """A journal of ours. The lock on its file says that we live."""

    def __init__(self, name: str, journal: Journal, descriptor: int) -> None:
        self.name = name
        self.journal = journal
        self._descriptor = descriptor

    def is_linked(self) -> bool:
        """False once somebody has removed the file."""
        return os.fstat(self._descriptor).st_nlink > 0

    def remove(self) -> None:
        """Give the file up; its memory stays as long as it is mapped."""
        remove(self.name)
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
    descriptor = _lockfile.open_safely(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        _lockfile.try_lock(descriptor)
        # Before it is mapped: a store for which there is no room would be a SIGBUS.
        os.posix_fallocate(descriptor, 0, size)
        # Opened again: a child that is forked keeps the map's descriptor, and would keep the lock with it.
        memory = _map(path, size)
        return JournalFile(name, Journal.begin(memory, arena_bytes, str(owner)), descriptor)
    except BaseException:
        remove(name)
        _lockfile.close(descriptor)
        raise


def find(name: str, owner: int) -> Journal | None:
    """The journal that a dead session of the user *owner* has left; None when it is gone or had not begun.

    Raises `CorruptError` for whatever this package has not made, or not for this user.
    """
    if not _NAME.fullmatch(name):
        raise CorruptError(f"{name!r} is no name of a journal")
    path = PLACE / name
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or stat.S_IMODE(found.st_mode) & 0o077:
        raise CorruptError(f"{path} must be a regular file, with one name, that only its owner may read")
    if found.st_uid != owner:
        raise CorruptError(f"{path} belongs to another user than the session file that names it")
    if kind_of(PLACE) != "tmpfs":
        raise CorruptError(f"{path} does not lie on a tmpfs")
    if found.st_size < size_of(0):
        return None
    try:
        return Journal.parse(_map(path, found.st_size, found.st_ino))
    except CorruptError as error:
        raise CorruptError(f"{path}: {error}") from error


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
                    _, owner = read_preamble(os.pread(descriptor, 1024, 0))
                    if not is_named(Path(owner), name):
                        remove(name)
            finally:
                _lockfile.close(descriptor)


def _names() -> list[str]:
    try:
        return [name for name in os.listdir(PLACE) if _NAME.fullmatch(name)]
    except OSError:
        return []


def _map(path: Path, size: int, inode: int | None = None) -> mmap.mmap:
    descriptor = _lockfile.open_safely(path, os.O_RDWR)
    try:
        found = os.fstat(descriptor)
        if found.st_size != size or inode not in (None, found.st_ino):
            raise CorruptError("it was changed while it was opened")
        return mmap.mmap(descriptor, size, **_UNTRACKED)
    finally:
        _lockfile.close(descriptor)
