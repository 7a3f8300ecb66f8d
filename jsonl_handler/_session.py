"""Who we are: claim a session's name, hold its lock and its session file, and see who else is alive.

The session file ``<directory>/.jsonl-handler/<prefix>-<session>.session`` has three states:
locked, the session lives; there but not locked, it crashed; gone, it ended cleanly.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from jsonl_handler import _lockfile
from jsonl_handler._names import SegmentName

FOLDER = ".jsonl-handler"

_LAYOUT = 1
_SIZE = 1024
_TRUSTED = 86400.0
_STALE = 3600.0
_LINKLESS = {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK}


class TakenError(Exception):
    """A live session holds the name."""


def clean_id(wanted: str | None) -> str | None:
    """The first 8 ASCII letters and digits, in lower case; None when nothing is left.

    Some filesystems fold case, so two names that differ only in case would be one file.
    """
    if wanted is None:
        return None
    # Not lowered first: the Kelvin sign would become an ASCII letter.
    return re.sub(r"[^A-Za-z0-9]", "", str(wanted))[:8].lower() or None


def random_id() -> str:
    """8 hexadecimal digits."""
    return os.urandom(4).hex()


class SessionFile:
    """A session that is ours: its name, and the descriptor that holds the lock."""

    def __init__(self, path: Path, prefix: str, session_id: str, descriptor: int) -> None:
        self.path = path
        self.prefix = prefix
        self.session_id = session_id
        self._descriptor = descriptor

    def note_segment(self, name: str) -> None:
        """Say which segment is the current one, before it is made: a sweep must not delete it."""
        _write_facts(self._descriptor, self.prefix, self.session_id, name)

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
            os.close(self._descriptor)


def claim(directory: Path, prefix: str, session_id: str) -> SessionFile:
    """Take a name; TakenError when a live session holds it, OSError when the directory does not allow it.

    The session file is put in place whole (made under another name, locked, then linked), so
    that nobody ever sees it without its lock: made and locked in place, 52 double owners
    were seen in 5 seconds of claiming and unlinking.
    """
    folder = _folder(directory, make=True)
    final = folder / f"{prefix}-{session_id}.session"
    draft = folder / f".{prefix}-{session_id}-{os.urandom(4).hex()}.new"
    descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | _lockfile.SAFE, 0o600)
    try:
        _lockfile.try_lock(descriptor)
        _write_facts(descriptor, prefix, session_id, "")
        while not _link(draft, final):
            _remove_crashed(final)
    except BaseException as error:
        os.close(descriptor)
        if isinstance(error, OSError) and error.errno in _LINKLESS:
            descriptor = _claim_without_link(final, prefix, session_id)
        else:
            raise
    finally:
        with contextlib.suppress(OSError):
            os.unlink(draft)
    return SessionFile(final, prefix, session_id, descriptor)


def _link(draft: Path, final: Path) -> bool:
    try:
        os.link(draft, final)
    except FileExistsError:
        return False
    return True


def _claim_without_link(final: Path, prefix: str, session_id: str) -> int:
    """FAT and some network filesystems have no hard links: then whoever locks the new file first owns it."""
    with contextlib.suppress(FileNotFoundError):
        _remove_crashed(final)
    try:
        descriptor = os.open(final, os.O_RDWR | os.O_CREAT | os.O_EXCL | _lockfile.SAFE, 0o600)
    except FileExistsError:
        raise TakenError(final) from None
    if not (_lockfile.try_lock(descriptor) and _lockfile.is_linked(descriptor, final)):
        os.close(descriptor)
        raise TakenError(final)
    _write_facts(descriptor, prefix, session_id, "")
    return descriptor


def _remove_crashed(final: Path) -> None:
    """Make way for a new session file; TakenError when a live session holds this one."""
    descriptor = _lockfile.open_existing(final)
    if descriptor is None:
        return
    try:
        if _is_live(descriptor, final):
            raise TakenError(final)
        _lockfile.unlink_if_ours(descriptor, final)
    finally:
        os.close(descriptor)


def _remove_stale(draft: Path) -> None:
    """Remove what a process left that was killed while it claimed a name; a live session needs it for a moment."""
    with contextlib.suppress(OSError):
        found = os.lstat(draft)
        if stat.S_ISREG(found.st_mode) and time.time() - found.st_mtime > _STALE:
            os.unlink(draft)


def _is_live(descriptor: int, path: Path) -> bool:
    """False when the session has crashed; then its lock is held, on *descriptor*."""
    if not _lockfile.try_lock(descriptor):
        return True
    if (_read_facts(descriptor) or {}).get("boot") in {_lockfile.boot_id(), "", None}:
        return False
    young = abs(time.time() - os.fstat(descriptor).st_mtime) < _TRUSTED
    return young and _lockfile.may_hide_locks(path)


class Survey:
    """Which sessions live, and which segment each of them writes; None when it can't be read."""

    def __init__(self, current: dict[str, str | None]) -> None:
        self._current = current

    def protects(self, name: SegmentName) -> bool:
        """True for the current segment of a live session, and for all segments of one that can't be read."""
        if name.session not in self._current:
            return False
        current = self._current[name.session]
        return current is None or current == str(name)


@contextlib.contextmanager
def survey(directory: Path | str, prefix: str) -> Iterator[Survey]:
    """See who is alive; the locks of crashed sessions are held inside the block, their session files go after it."""
    ours = re.compile(re.escape(prefix) + r"-([a-z0-9]{1,8})\.session", re.ASCII)
    drafts = re.compile(r"\." + re.escape(prefix) + r"-[a-z0-9]{1,8}-[0-9a-f]{8}\.new", re.ASCII)
    current: dict[str, str | None] = {}
    with contextlib.ExitStack() as crashed:
        for entry in _entries(_folder(Path(directory))):
            match = ours.fullmatch(entry.name)
            if match is None:
                if drafts.fullmatch(entry.name):
                    _remove_stale(entry)
                continue
            try:
                descriptor = _lockfile.open_existing(entry)
                if descriptor is None:
                    continue
                crashed.callback(os.close, descriptor)
                if not _is_live(descriptor, entry):
                    crashed.callback(_lockfile.unlink_if_ours, descriptor, entry)
                    continue
                current[match[1]] = (_read_facts(descriptor) or {}).get("segment")
            except OSError:
                # What can't be looked at (a link, another user's) may be alive.
                current[match[1]] = None
        yield Survey(current)


@contextlib.contextmanager
def sweep_lock(directory: Path | str, prefix: str) -> Iterator[bool]:
    """One process sweeps at a time; False when another one does."""
    path = _sweep_file(Path(directory), prefix)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _lockfile.SAFE, 0o600)
        # Its time says when a sweep last ended, and none has.
        os.utime(path, (0, 0))
    except FileExistsError:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _lockfile.SAFE, 0o600)
    try:
        yield _lockfile.try_lock(descriptor)
    finally:
        os.close(descriptor)


def note_swept(directory: Path, prefix: str) -> None:
    """Note that a sweep has just seen to all it had to; one that was stopped has not."""
    with contextlib.suppress(OSError):
        os.utime(_sweep_file(directory, prefix), (time.time(), time.time()), follow_symlinks=False)


def last_swept(directory: Path, prefix: str) -> float:
    """When a sweep last ended, in seconds since the epoch; 0.0 for never."""
    try:
        return os.lstat(_sweep_file(directory, prefix)).st_mtime
    except OSError:
        return 0.0


def _sweep_file(directory: Path, prefix: str) -> Path:
    return _folder(directory) / f"{prefix}.sweep"


def _folder(directory: Path, *, make: bool = False) -> Path:
    folder = directory / FOLDER
    if make:
        _lockfile.make_private_folder(folder)
        if not stat.S_ISDIR(os.lstat(folder).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "must be a directory and no link", str(folder))
    return folder


def _entries(folder: Path) -> list[Path]:
    try:
        return [folder / name for name in os.listdir(folder)]
    except FileNotFoundError:
        return []


def _write_facts(descriptor: int, prefix: str, session_id: str, segment: str) -> None:
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


def _read_facts(descriptor: int) -> dict[str, str] | None:
    os.lseek(descriptor, 1, os.SEEK_SET)
    try:
        facts = json.loads(os.read(descriptor, _SIZE))
    except (ValueError, RecursionError):
        return None
    return {key: fact for key, fact in facts.items() if isinstance(fact, str)} if isinstance(facts, dict) else None
