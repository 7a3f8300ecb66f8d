"""The session file: where it lies, what it says, and whether its session lives.

``<directory>/.jsonl-handler/<prefix>-<session>.session`` has three states: locked, the
session lives; there but not locked, it crashed; gone, it ended cleanly.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
from pathlib import Path

from jsonl_handler import _lockfile
from jsonl_handler._clock import now

FOLDER = ".jsonl-handler"

_LAYOUT = 1
_SIZE = 1024
_TRUSTED = 86400.0


class SessionFile:
    """A session that is ours: its name, and the descriptor that holds the lock."""

    def __init__(self, path: Path, prefix: str, session_id: str, descriptor: int) -> None:
        self.path = path
        self.prefix = prefix
        self.session_id = session_id
        self._descriptor = descriptor

    def note_segment(self, name: str) -> None:
        """Say which segment is the current one, before it is made: a sweep must not delete it."""
        write_facts(self._descriptor, self.prefix, self.session_id, name)

    def is_linked(self) -> bool:
        """False once somebody has removed the session file."""
        return os.fstat(self._descriptor).st_nlink > 0

    def touch(self) -> None:
        """Show hosts that can't see the lock that we live."""
        # By name: another thread may have closed the descriptor, and its number may be another file's by now.
        with contextlib.suppress(FileNotFoundError):
            os.utime(self.path)

    def release(self) -> None:
        """End the session cleanly."""
        try:
            _lockfile.unlink_if_ours(self._descriptor, self.path)
        finally:
            _lockfile.close(self._descriptor)


def folder_of(directory: Path, *, make: bool = False) -> Path:
    """Where the session files of a log directory lie; with *make* it is made, OSError where that can't be."""
    folder = directory / FOLDER
    if make:
        _lockfile.make_private_folder(folder)
        if not stat.S_ISDIR(os.lstat(folder).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "must be a directory and no link", str(folder))
    return folder


def is_live(descriptor: int, path: Path) -> bool:
    """False when the session has crashed; then its lock is held, on *descriptor*."""
    if not _lockfile.try_lock(descriptor):
        return True
    if (read_facts(descriptor) or {}).get("boot") in {_lockfile.boot_id(), "", None}:
        return False
    young = abs(now() - os.fstat(descriptor).st_mtime) < _TRUSTED
    return young and _lockfile.may_hide_locks(path)


def write_facts(descriptor: int, prefix: str, session_id: str, segment: str) -> None:
    """Say whose session it is, and which segment is the current one (empty: none yet)."""
    facts = {
        "layout": _LAYOUT,
        "pid": os.getpid(),
        "boot": _lockfile.boot_id(),
        "prefix": prefix,
        "session": session_id,
        "segment": segment,
    }
    # Byte 0 stays blank: on Windows it is the one that the lock covers.
    content = b" " + json.dumps(facts).encode("ascii")
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, content.ljust(_SIZE - 1) + b"\n")


def read_facts(descriptor: int) -> dict[str, str] | None:
    """What a session file says; None when it can't be read."""
    os.lseek(descriptor, 1, os.SEEK_SET)
    try:
        facts = json.loads(os.read(descriptor, _SIZE))
    except (ValueError, RecursionError):
        return None
    return {key: fact for key, fact in facts.items() if isinstance(fact, str)} if isinstance(facts, dict) else None
