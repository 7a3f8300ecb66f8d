"""A configuration file on the disk: what it looks like from outside, who may write it, and its bytes.

What the bytes say is not read here.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from jsonl_handler.errors import ConfigError

MOST_BYTES = 1024 * 1024
"""No logging configuration is larger, and parsing more would hold up the program."""

Look = tuple[int, ...]
"""Inode, size, time of the last change of the content, and of anything at all, and the modes of the directories.

A new one is a new file to us.
"""

_RULE = "a configuration can name code to run, so only its owner may be able to write it"


def look(path: Path) -> Look | None:
    """How the file behind *path* looks now, links followed; None while there is none."""
    try:
        return _look_of(path, os.stat(path))
    except (OSError, ValueError):
        return None


def read(path: Path, named: str, *, watched: bool) -> tuple[bytes, Look]:
    """The content of a file, and how it looked before it was read.

    *named* is what people call it. Raises `ConfigError` for what can't be read or is too large,
    and for a *watched* file that others may write.
    """
    try:
        with open(path, "rb", opener=_open) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ConfigError(named, "", "must be a file")
            if watched:
                _check_trust(path, named, status)
            content = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(named, "", f"can't be read: {reason or error}") from error
    if len(content) > MOST_BYTES:
        raise ConfigError(named, "", f"must be at most {MOST_BYTES} bytes long")
    return content, _look_of(path, status)


def _open(path: str, flags: int) -> int:
    # Otherwise a pipe of that name would wait for its writer.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _look_of(path: Path, status: os.stat_result) -> Look:
    # A file that was refused for its directory counts again once that is mended.
    modes = (os.stat(folder).st_mode for folder in _folders(path))
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns, *modes


def _folders(path: Path) -> tuple[Path, Path]:
    return path.parent, Path(os.path.realpath(path)).parent


def _check_trust(path: Path, named: str, status: os.stat_result) -> None:
    """Whoever may write a watched file has the program run what he likes.

    Its group may: with a umask of 002 every file looks so, and groups are made by root.
    """
    if not hasattr(os, "geteuid"):
        return
    if status.st_uid not in (os.geteuid(), 0):
        raise ConfigError(named, "", f"belongs to user {status.st_uid}, not to this one or root, and {_RULE}")
    if status.st_mode & stat.S_IWOTH:
        raise ConfigError(named, "", f"everybody may write it, and {_RULE}; chmod o-w {named}")
    for folder in _folders(path):
        mode = os.stat(folder).st_mode
        # Who may write the directory may put another file there. Kubernetes mounts its own, which are so, read-only.
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX and not os.statvfs(folder).f_flag & os.ST_RDONLY:
            raise ConfigError(named, "", f"everybody may write the directory {folder}, and {_RULE}; chmod o-w {folder}")
