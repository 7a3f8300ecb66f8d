"""Locks that are waited for with a limit: whatever Ctrl-C comes between, none stays held."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


def owns(lock: threading.RLock) -> bool:
    """True when the calling thread holds *lock*."""
    return lock._is_owned() is True  # type: ignore[attr-defined]


def within(lock: threading.RLock, timeout: float, act: Callable[[], Result]) -> Result | None:
    """Run *act* under *lock*, which this thread does not hold; None if it can't be had for *timeout* seconds.

    -1 is no limit. A ``with`` statement can't be parted from its lock, but knows no time-out; an ``acquire``
    can be parted from the ``try`` behind it, and then nobody would ever release it.
    """
    try:
        if not lock.acquire(timeout=timeout):
            return None
        with lock:
            lock.release()
            return act()
    except BaseException:
        if owns(lock):
            lock.release()
        raise
