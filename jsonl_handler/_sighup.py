"""SIGHUP, which asks a program to read its configuration again."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from jsonl_handler.errors import ConfigError


class Hangup:
    """Has *ring* called at each SIGHUP, beside what the program itself does then."""

    def __init__(self, ring: Callable[[], None]) -> None:
        """Raises `ConfigError` where there is no such signal, and in any thread but the main one."""
        if not hasattr(signal, "SIGHUP"):
            raise ConfigError(None, "reload_on_sighup", "this system has no SIGHUP; call reload(), or watch the file")
        if threading.current_thread() is not threading.main_thread():
            raise ConfigError(None, "reload_on_sighup", "must be called in the main thread: only there signals are set")
        self._ring: Callable[[], None] | None = ring
        self._before: Any = signal.getsignal(signal.SIGHUP)
        signal.signal(signal.SIGHUP, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        # Nothing but this: it runs between any two steps of the main thread, within any lock.
        if self._ring is not None:
            self._ring()
        if callable(self._before):
            self._before(number, frame)

    def end(self) -> None:
        """Put back what was there before, unless the program has put something else there since."""
        self._ring = None
        # None: what was there was not set by Python, and can't be put back by it.
        if (
            self._before is not None
            and threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGHUP) == self._handle
        ):
            signal.signal(signal.SIGHUP, self._before)
