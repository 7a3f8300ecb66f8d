"""Looks now and then whether a file has changed, on a thread of its own that ends for a fork and begins again."""

from __future__ import annotations

from _thread import allocate_lock
from collections.abc import Callable

from jsonl_handler._fork import start_over_in_children
from jsonl_handler._parking import park_at_forks
from jsonl_handler._status import Voice
from jsonl_handler._worker import Worker

_PATIENCE = 1.0


class Watch:
    """Calls *look* every *interval* seconds, and *act* when it is rung for.

    Neither may raise. A child that this process forks has a watch of its own.
    """

    begins_last = True

    def __init__(
        self,
        interval: float | None,
        look: Callable[[], None],
        act: Callable[[], object],
        voice: Voice,
    ) -> None:
        self._interval = interval
        self._look = look
        self._act = act
        self.voice = voice
        self._bell = allocate_lock()
        self._bell.acquire()
        self._asked = self._stopping = False
        self._worker = Worker(self._run, "jsonl-handler-watch")
        start_over_in_children(self)

    def start(self) -> bool:
        """Start the thread; False where none can be started."""
        park_at_forks(self)
        return self._worker.start()

    def ring(self) -> None:
        """Have *act* called soon; may be called from a signal handler, and under any lock."""
        self._asked = True
        self._wake()

    def stop(self) -> None:
        """End the thread; what it does at the moment it does to its end."""
        self._stopping = True
        self._wake()
        self._worker.join(_PATIENCE)

    def _wake(self) -> None:
        try:
            self._bell.release()
        except RuntimeError:
            # It has been rung already.
            return

    def _run(self) -> None:
        while not self._must_end():
            # A wait with a time-out: where time is frozen it ends all the same.
            rang = self._bell.acquire(True, -1 if self._interval is None else self._interval)
            if self._asked and not self._worker.parked:
                self._asked = False
                self._act()
            elif not rang:
                self._look()

    def _must_end(self) -> bool:
        return self._stopping or self._worker.takes_leave()

    # For a fork (see `_parking`).

    def park(self, timeout: float) -> None:
        """Ask the thread to end."""
        self._worker.park()
        self._wake()

    def wait_parked(self, timeout: float) -> bool:
        """Wait for its end."""
        return self._worker.wait_gone(timeout)

    def unpark(self) -> None:
        """Start it again."""
        with self._worker.unpark() as left:
            if left and not self._stopping:
                self.start()

    def forsake(self) -> None:
        """In the child: the thread is not there."""
        self._worker.forsake()

    def start_over(self) -> None:
        """In the child, when its handlers are ready: watch there too, whether it logs or not."""
        self._bell = allocate_lock()
        self._bell.acquire()
        if not self._stopping:
            self.start()
