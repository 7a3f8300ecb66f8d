"""Who else is there: the sessions of a directory, living and crashed, and whose turn it is to sweep."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from jsonl_handler import _lockfile
from jsonl_handler._clock import now
from jsonl_handler._names import SegmentName
from jsonl_handler._session_file import folder_of, is_live, parse_name, read_facts

_STALE = 3600.0


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
    """See whose segments are in use; the locks of crashed sessions are held inside the block.

    A crashed session still needs its last segment: recovery, which comes first, removes its file.
    """
    drafts = re.compile(r"\." + re.escape(prefix) + r"-[a-z0-9]{1,8}-[0-9a-f]{8}\.new", re.ASCII)
    current: dict[str, str | None] = {}
    with contextlib.ExitStack() as crashed:
        for entry in _entries(folder_of(Path(directory))):
            named = parse_name(entry.name, prefix)
            if named is None:
                if drafts.fullmatch(entry.name):
                    _remove_stale(entry)
                continue
            try:
                descriptor = _lockfile.open_existing(entry)
                if descriptor is None:
                    continue
                crashed.callback(_lockfile.close, descriptor)
                live, facts = is_live(descriptor, entry), read_facts(descriptor)
                if live or facts is not None:
                    current[named[1]] = facts.segment if facts is not None else None
            except OSError:
                # What can't be looked at (a link, another user's) may be alive.
                current[named[1]] = None
        yield Survey(current)


@contextlib.contextmanager
def sweep_lock(directory: Path | str, prefix: str) -> Iterator[bool]:
    """One process sweeps at a time; False when another one does."""
    path = _sweep_file(Path(directory), prefix)
    try:
        descriptor = _lockfile.open_safely(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        # Its time says when a sweep last ended, and none has.
        os.utime(path, (0, 0))
    except FileExistsError:
        descriptor = _lockfile.open_safely(path, os.O_RDWR | os.O_CREAT)
    try:
        yield _lockfile.try_lock(descriptor)
    finally:
        _lockfile.close(descriptor)


def note_swept(directory: Path, prefix: str) -> None:
    """Note that a sweep has just seen to all it had to; one that was stopped has not."""
    with contextlib.suppress(OSError):
        os.utime(_sweep_file(directory, prefix), (now(), now()), follow_symlinks=False)


def last_swept(directory: Path, prefix: str) -> float:
    """When a sweep last ended, in seconds since the epoch; 0.0 for never."""
    try:
        return os.lstat(_sweep_file(directory, prefix)).st_mtime
    except OSError:
        return 0.0


def _sweep_file(directory: Path, prefix: str) -> Path:
    return folder_of(directory) / f"{prefix}.sweep"


def _remove_stale(draft: Path) -> None:
    """Remove what a process left that was killed while it claimed a name; a live session needs it for a moment."""
    with contextlib.suppress(OSError):
        found = os.lstat(draft)
        if stat.S_ISREG(found.st_mode) and now() - found.st_mtime > _STALE:
            os.unlink(draft)


def _entries(folder: Path) -> list[Path]:
    try:
        return [folder / name for name in os.listdir(folder)]
    except FileNotFoundError:
        return []
