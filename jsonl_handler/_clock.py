"""The clocks, read so that no reader dies of them.

A frozen clock (freezegun) raises in other threads at the moment it is taken away; the
second look then sees the true one.
"""

from __future__ import annotations

import time


def now() -> float:
    """Seconds since the epoch."""
    try:
        return time.time()
    except Exception:
        return time.time()


def monotonic() -> float:
    """Seconds on a clock that is never set back; frozen where time is."""
    try:
        return time.monotonic()
    except Exception:
        return time.monotonic()
