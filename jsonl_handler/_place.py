"""Where a handler's files go: its directory and its prefix, checked."""

from __future__ import annotations

import os
import re
from pathlib import Path

from jsonl_handler._rules import shown
from jsonl_handler.errors import ConfigError

PREFIX = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}", re.ASCII)
"""What the names of files may begin with."""


def absolute_directory(directory: object) -> Path:
    """An absolute path for a handler's *directory*; raises `ConfigError` when it is none."""
    try:
        if isinstance(directory, (str, os.PathLike)) and (named := os.fspath(directory)):
            os.fsencode(named)
            if "\0" not in named:
                return Path(os.path.abspath(named))
    except (OSError, TypeError, ValueError) as error:
        raise ConfigError(None, "directory", f"{directory!r} can't be used: {error}; give an absolute path") from error
    raise ConfigError(None, "directory", f"must be a path, got {directory!r}; give the directory for the files")


def check_prefix(prefix: object) -> str:
    """*prefix*, if files may begin with it; raises `ConfigError` otherwise."""
    if isinstance(prefix, str) and PREFIX.fullmatch(prefix):
        return str.__str__(prefix)
    rule = "must be 1 to 64 of the characters A-Z a-z 0-9 . _ - and not begin with a dot"
    raise ConfigError(None, "prefix", f"{rule}, got {shown(prefix)}")
