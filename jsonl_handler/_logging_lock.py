"""What must be minded while this thread holds `logging`'s own lock, as `dictConfig` does around `close`."""

from __future__ import annotations

import contextlib
import gc
import logging
from collections.abc import Iterator

from jsonl_handler._held import owns


def is_held() -> bool:
    """True when the calling thread holds it."""
    lock = getattr(logging, "_lock", None)
    return lock is not None and owns(lock)


@contextlib.contextmanager
def nobody_collects() -> Iterator[None]:
    """Wait for other threads inside of this: none of them collects garbage meanwhile, if this one holds the lock.

    When a handler is collected, a callback of `logging` takes the lock, on whatever thread that is; it
    would wait for this one, which waits for it.
    """
    if not is_held() or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
