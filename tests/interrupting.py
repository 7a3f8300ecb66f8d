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

_SPARED = {threading.__file__, _weakrefset.__file__, logging.__file__}
"""CPython's own: Ctrl-C in the middle of `Thread.start` leaves a thread behind that never begins, in that of
`Handler.close` logging's lock held (before 3.13), and what the callback of a weak reference raises passes nobody."""


def can_not_be_helped(code: Any) -> bool:
    """CPython's own gaps; and what is called last, whatever comes: Ctrl-C as it begins leaves a descriptor open."""
    return code.co_filename in _SPARED or code is _lockfile.close.__code__


def at_event(
    number: int,
    act: Callable[[], Any],
    interrupt: Callable[[], None],
    spared: Callable[[Any], bool] = lambda code: False,
) -> bool:
    """Run *act*, and *interrupt* at the nth place where the interpreter may do so; False when there are fewer.

    Code that is *spared* is not interrupted.
    """
    left = number
    done = False

    def profile(frame: Any, event: str, argument: object) -> None:
        nonlocal left, done
        inside = "jsonl_handler" in frame.f_code.co_filename or event.startswith("c_")
        if not inside or event not in ("call", "c_return") or done or spared(frame.f_code):
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
