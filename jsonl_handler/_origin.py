"""Where the settings of a handler that is being made or changed come from, for what is told of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

_path: ContextVar[str] = ContextVar("origin of settings", default="")


@contextlib.contextmanager
def told_of(path: str) -> Iterator[None]:
    """In the block settings come from *path*, such as ``logging.toml: handlers.events``."""
    token = _path.set(path)
    try:
        yield
    finally:
        _path.reset(token)


def key_path(key: str) -> str:
    """*key* as people find it where it was written."""
    path = _path.get()
    return f"{path}.{key}" if path else key
