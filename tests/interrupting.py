"""Interrupts an act at the nth place where the interpreter may do so: at a call, or when one into C returns."""

from __future__ import annotations

import _weakrefset
import gc
import logging
import sys
import threading
from collections.abc import Callable
from typing import Any

from jsonl_handler import _lockfile

SPARED = {threading.__file__, _weakrefset.__file__, logging.__file__}
"""CPython's own: Ctrl-C in the middle of `Thread.start` leaves a thread behind that never begins, in that of
`Handler.close` logging's lock held (before 3.13), and what the callback of a weak reference raises passes nobody."""
FINAL = {_lockfile.close.__code__}
"""What is called last, whatever comes: Ctrl-C just as it begins leaves a descriptor open."""


def at_event(number: int, act: Callable[[], Any], interrupt: Callable[[], None]) -> bool:
    """Run *act*, and *interrupt* at the nth place where the interpreter may do so; False when there are fewer."""
    left = number
    done = False

    def profile(frame: Any, event: str, argument: object) -> None:
        nonlocal left, done
        where = frame.f_code.co_filename
        inside = "jsonl_handler" in where or event.startswith("c_")
        if not inside or where in SPARED or frame.f_code in FINAL or event not in ("call", "c_return") or done:
            return
        left -= 1
        if left < 0:
            done = True
            interrupt()

    # Not within somebody else's finalizer.
    gc.collect()
    gc.disable()
    sys.setprofile(profile)
    try:
        act()
    finally:
        sys.setprofile(None)
        gc.enable()
    return done


def stop_here() -> None:
    raise KeyboardInterrupt
