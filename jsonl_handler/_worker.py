"""A daemon thread that may or may not be startable, and may be started again after its end."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable

_MOMENT = 1.0


class Worker:
    """Runs *target* on a thread of its own; one at a time."""

    def __init__(self, target: Callable[[], None], name: str) -> None:
        self._target = target
        self._name = name
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        """True while the thread is there; at the interpreter's end it stands still for good."""
        return self._thread is not None and self._thread.is_alive() and not sys.is_finalizing()

    def start(self) -> bool:
        """Start the thread unless it runs; False where none can be started.

        That is so at the interpreter's exit, under a limit on threads, in some subinterpreters.
        """
        if self.running:
            return True
        if sys.is_finalizing():
            # `Thread.start` would wait for ever for a thread that never runs.
            return False
        begun = threading.Event()

        def run() -> None:
            begun.set()
            self._target()

        try:
            # In a subinterpreter even the constructor refuses.
            self._thread = threading.Thread(target=run, name=self._name, daemon=True)
            self._thread.start()
        except BaseException as error:
            if isinstance(error, RuntimeError) and not isinstance(error, RecursionError):
                self._thread = None
                return False
            # Ctrl-C, or too deep a recursion, while it waited for the thread, which begins all the same:
            # else it could be started twice.
            begun.wait(_MOMENT)
            raise
        return True

    def join(self, timeout: float | None) -> bool:
        """Wait for the end of the thread; False when it goes on after *timeout* seconds, or is the caller."""
        thread = self._thread
        if thread is None or not self.running:
            return True
        if thread is threading.current_thread():
            return False
        thread.join(timeout)
        return not thread.is_alive()
