"""A daemon thread that may or may not be startable, may be started again after its end, and ends for a fork."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from _thread import allocate_lock
from collections.abc import Callable, Iterator

_MOMENT = 1.0
_GLANCES = 20
_GLANCE = 0.0005


class Worker:
    """Runs *target* on a thread of its own; one at a time."""

    def __init__(self, target: Callable[[], None], name: str) -> None:
        self._target = target
        self._name = name
        self._thread: threading.Thread | None = None
        self.parked = False
        # Free while the thread is asked to end: who takes it then, the thread or `unpark`, has decided.
        self._word = allocate_lock()
        self._word.acquire()

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

    # For a fork (see `_parking`).

    def park(self) -> None:
        """Ask the thread to end; until `unpark` the owner must start none."""
        if not self.parked:
            self.parked = True
            self._word.release()

    def takes_leave(self) -> bool:
        """In the thread: True when it was asked to end, and then it must."""
        return self.parked and self._word.acquire(blocking=False)

    def wait_gone(self, timeout: float) -> bool:
        """As `join`, and until the system counts the thread no more."""
        thread = self._thread
        if not self.join(timeout):
            return False
        if thread is not None:
            # Before 3.13 `join` is done a moment earlier, and 3.12 would warn that a thread runs.
            for _ in range(_GLANCES):
                if not os.path.exists(f"/proc/self/task/{thread.native_id}"):
                    break
                time.sleep(_GLANCE)
        return True

    @contextlib.contextmanager
    def unpark(self) -> Iterator[bool]:
        """Take the request back; True when the thread has ended for it. Inside the block only the caller may start."""
        left = self.parked and not self._word.acquire(blocking=False)
        try:
            if left:
                self._thread = None
            yield left
        finally:
            self.parked = False

    def forsake(self) -> None:
        """In a forked child: there is no thread, and nothing is asked of it."""
        self._thread = None
        self.parked = False
        self._word = allocate_lock()
        self._word.acquire()
