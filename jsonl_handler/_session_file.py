"""The session file: where it lies, what it says, and whether its session lives.

``<directory>/.jsonl-handler/<prefix>-<session>.session`` has three states: locked, the
session lives; there but not locked, it crashed; gone, it ended cleanly.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import stat
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from jsonl_handler import _lockfile
from jsonl_handler._clock import now

FOLDER = ".jsonl-handler"

_NAME = re.compile(r"(?P<prefix>(?!\.)[A-Za-z0-9._-]{1,64})-(?P<session>[a-z0-9]{1,8})\.session", re.ASCII)
_LAYOUT = 2
_SIZE = 1024
_TRUSTED = 86400.0


@dataclass(frozen=True, slots=True)
class Facts:
    """What a session file says: whose it is, which segment is the current one, where its journal lies."""

    prefix: str
    session: str
    segment: str = ""
    journal: str = ""
    # The journal that takes its place, while that is being made.
    next_journal: str = ""
    boot: str = ""


class SessionFile:
    """A session whose lock we hold: its name, and the descriptor that holds the lock."""

    def __init__(self, path: Path, facts: Facts, descriptor: int) -> None:
        self.path = path
        self.facts = facts
        self._descriptor = descriptor
        self._released = False

    def begin(self) -> None:
        """Say what is said from the start, and hold the lock."""
        _lockfile.try_lock(self._descriptor)
        write_facts(self._descriptor, self.facts)

    def note_segment(self, name: str) -> None:
        """Say which segment is the current one, before it is made: a sweep must not delete it."""
        self.note(segment=name)

    def note(self, **changed: str) -> None:
        """Say something new, on the disk first."""
        facts = replace(self.facts, **changed)
        write_facts(self._descriptor, facts)
        self.facts = facts

    def is_linked(self) -> bool:
        """False once somebody has removed the session file."""
        return os.fstat(self._descriptor).st_nlink > 0

    def touch(self) -> None:
        """Show hosts that can't see the lock that we live."""
        # By name: another thread may have closed the descriptor, and its number may be another file's by now.
        with contextlib.suppress(FileNotFoundError):
            os.utime(self.path)

    def release(self) -> None:
        """End the session cleanly; once."""
        if self._released:
            return
        try:
            _lockfile.unlink_if_ours(self._descriptor, self.path)
        except OSError:
            # It stays, and whoever finds it must not look for a journal that is gone or serves another session.
            with contextlib.suppress(OSError):
                self.note(journal="", next_journal="")
            raise
        finally:
            self._released = True
            _lockfile.close(self._descriptor)


def folder_of(directory: Path, *, make: bool = False) -> Path:
    """Where the session files of a log directory lie; with *make* it is made, OSError where that can't be."""
    folder = directory / FOLDER
    if make:
        _lockfile.make_private_folder(folder)
        if not stat.S_ISDIR(os.lstat(folder).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "must be a directory and no link", str(folder))
    return folder


def path_of(directory: Path, prefix: str, session_id: str) -> Path:
    """Where the session file of a session lies; `parse_name` reads the name back."""
    return folder_of(directory) / f"{prefix}-{session_id}.session"


def parse_name(name: str, prefix: str | None) -> tuple[str, str] | None:
    """(prefix, session) of a session file's name; None when it is not ours, or of another *prefix*."""
    match = _NAME.fullmatch(name)
    if match is None or prefix not in (None, match["prefix"]):
        return None
    return match["prefix"], match["session"]


def is_live(descriptor: int, path: Path) -> bool:
    """False when the session has crashed; then its lock is held, on *descriptor*."""
    if not _lockfile.try_lock(descriptor):
        return True
    facts = read_facts(descriptor)
    if facts is None or facts.boot in {_lockfile.boot_id(), ""}:
        return False
    young = abs(now() - os.fstat(descriptor).st_mtime) < _TRUSTED
    return young and _lockfile.may_hide_locks(path)


def write_facts(descriptor: int, facts: Facts) -> None:
    """Write what a session file says; OSError when the disk refuses."""
    # Byte 0 stays blank: on Windows it is the one that the lock covers.
    content = b" " + json.dumps({"layout": _LAYOUT, "pid": os.getpid(), **asdict(facts)}).encode("ascii")
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, content.ljust(_SIZE - 1) + b"\n")


def read_facts(descriptor: int) -> Facts | None:
    """What a session file says; None when it can't be read."""
    try:
        said = json.loads(_content(descriptor))
        facts = Facts(**{field.name: said[field.name] for field in fields(Facts)})
    except (ValueError, RecursionError, TypeError, KeyError):
        return None
    texts = all(isinstance(text, str) for text in asdict(facts).values())
    return facts if texts and said.get("layout") == _LAYOUT else None


def names_journal(path: Path, name: str) -> bool:
    """True while the session file at *path* is there and names a journal, or can't be read."""
    return _may_say(path, lambda facts: name in (facts.journal, facts.next_journal))


def names_segment(path: Path, name: str) -> bool:
    """True while the session file at *path* is there and names a segment as the current one, or can't be read."""
    return _may_say(path, lambda facts: facts.segment == name)


def _may_say(path: Path, said: Callable[[Facts], bool]) -> bool:
    """False only when the session file is gone, or does not say so."""
    try:
        descriptor = _lockfile.open_existing(path)
    except OSError:
        return True
    if descriptor is None:
        return False
    try:
        facts = read_facts(descriptor)
        return facts is None or said(facts)
    finally:
        _lockfile.close(descriptor)


def is_blank(descriptor: int) -> bool:
    """True when nothing was ever written: the process ended first, or the disk lost it in a power failure."""
    return not _content(descriptor).strip(b" \0\n")


def _content(descriptor: int) -> bytes:
    os.lseek(descriptor, 1, os.SEEK_SET)
    return os.read(descriptor, _SIZE)
