"""A daemon thread that may or may not be startable, may be started again after its end, and ends for a fork."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import threading
import time
from _thread import allocate_lock
from collections.abc import Callable, Iterator

_MOMENT = 1.0
_GLANCES = 20
_GLANCE = 0.0005


class _Run:
    """One run of the thread.

    It knows of its end by itself: before 3.13, Ctrl-C in a `Thread.join` makes a thread that goes
    on look as if it had ended (https://bugs.python.org/issue45274), and another one would be started.
    """

    def __init__(self, target: Callable[[], None], name: str) -> None:
        self.over = False
        self._target = target
        # Free until it is decided whether the thread runs.
        self._word = allocate_lock()
        self._end = allocate_lock()
        self._end.acquire()
        self.thread = threading.Thread(target=self._go, name=name, daemon=True)

    def take_back(self) -> bool:
        """After a start that failed: True when the thread won't run; False when it does."""
        return self._word.acquire(blocking=False)

    def _go(self) -> None:
        if not self._word.acquire(blocking=False):
            return
        try:
            self._target()
        finally:
            self.over = True
            self._end.release()

    def wait(self, timeout: float | None) -> bool:
        """Wait for its end; False when it goes on after *timeout* seconds."""
        left = math.inf if timeout is None else timeout
        while not self.over:
            # Not in one go: Ctrl-C may leave the lock to nobody.
            if self._end.acquire(True, max(0.0, min(left, _MOMENT))):
                self._end.release()
                break
            left -= _MOMENT
            if left <= 0:
                return False
        # A moment later whoever counts threads does not see it any more.
        self.thread.join(max(0.0, min(left, _MOMENT)))
        return True


class Worker:
    """Runs *target* on a thread of its own; one at a time."""

    def __init__(self, target: Callable[[], None], name: str) -> None:
        self._target = target
        self._name = name
        self._run: _Run | None = None
        self.parked = False
        # Free while the thread is asked to end: who takes it then, the thread or `unpark`, has decided.
        self._word = allocate_lock()
        self._word.acquire()

    @property
    def running(self) -> bool:
        """True while the thread is there; at the interpreter's end it stands still for good."""
        return self._run is not None and not self._run.over and not sys.is_finalizing()

    def start(self) -> bool:
        """Start the thread unless it runs; False where none can be started.

        That is so at the interpreter's exit, under a limit on threads, in some subinterpreters.
        """
        if self.running:
            return True
        if sys.is_finalizing():
            # `Thread.start` would wait for ever for a thread that never runs.
            return False
        run: _Run | None = None
        try:
            # In a subinterpreter even the constructor refuses.
            run = self._run = _Run(self._target, self._name)
            run.thread.start()
        except BaseException as error:
            # Ctrl-C, or too deep a recursion, while it waited for the thread, which may begin all the same.
            if run is None or run.take_back():
                self._run = None
            if isinstance(error, RuntimeError) and not isinstance(error, RecursionError):
                return False
            raise
        return True

    def join(self, timeout: float | None) -> bool:
        """Wait for the end of the thread; False when it goes on after *timeout* seconds, or is the caller."""
        run = self._run
        if run is None or sys.is_finalizing():
            return True
        return run.thread is not threading.current_thread() and run.wait(timeout)

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
        run = self._run
        if not self.join(timeout):
            return False
        if run is not None:
            # Before 3.13 `join` is done a moment earlier, and 3.12 would warn that a thread runs.
            for _ in range(_GLANCES):
                if not os.path.exists(f"/proc/self/task/{run.thread.native_id}"):
                    break
                time.sleep(_GLANCE)
        return True

    @contextlib.contextmanager
    def unpark(self) -> Iterator[bool]:
        """Take the request back; True when the thread has ended for it. Inside the block only the caller may start."""
        left = self.parked and not self._word.acquire(blocking=False)
        try:
            if left:
                self._run = None
            yield left
        finally:
            self.parked = False

    def forsake(self) -> None:
        """In a forked child: there is no thread, and nothing is asked of it."""
        self._run = None
        self.parked = False
        self._word = allocate_lock()
        self._word.acquire()
