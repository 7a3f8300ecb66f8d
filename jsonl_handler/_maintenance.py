"""The thread for what may take long or needs other people's locks: sweeps and the voice.

It keeps the writer on time: a sweep there made it late, and a healthy disk dropped records.
"""

from __future__ import annotations

import threading
from _thread import allocate_lock
from collections.abc import Callable
from typing import Protocol

from jsonl_handler import _logging_lock
from jsonl_handler._clock import monotonic
from jsonl_handler._parking import park_at_forks
from jsonl_handler._status import Voice
from jsonl_handler._worker import Worker

_HOUR = 3600.0
_FIRST_WORD = 5.0
_NEXT_WORD = 60.0
_PATIENCE = 1.0


class LookAfter(Protocol):
    """What is done with the files; raises nothing that is not told."""

    def __call__(self, stop: Callable[[], bool], *, sweep: bool) -> None: ...


class Maintenance:
    """Sweeps when asked and once an hour, and says what the voice has queued."""

    begins_last = True

    def __init__(self, voice: Voice, look_after: LookAfter) -> None:
        """*look_after* is given a function that turns true when it should stop, and whether to sweep."""
        self._voice = voice
        self._look_after = look_after
        self._bell = allocate_lock()
        self._bell.acquire()
        self._worker = Worker(self._run, "jsonl-handler-maintenance")
        self._sweep_asked = self._recovery_asked = self._stopping = self._losing = self._busy = False
        self._next_sweep: float | None = None
        self.loss: Callable[[], tuple[int, str] | None] | None = None
        voice.bell = self.ring

    def start(self) -> None:
        """Start the thread, where one can be started."""
        if not self._worker.running:
            self._stopping = False
            if not self._worker.parked:
                self._begin()

    def _begin(self) -> None:
        park_at_forks(self)
        # Where none can be started (see there), `stop` says what is to be said.
        self._worker.start()

    def ring(self) -> None:
        """Have the thread look round; may be called under any lock and from a signal handler."""
        try:
            self._bell.release()
        except RuntimeError:
            # It has been rung already.
            return

    def alarm(self) -> None:
        """Records are being dropped: if that lasts, tell of it while it does."""
        self._losing = True
        self.ring()

    def ask_recovery(self) -> None:
        """Have crashed sessions recovered soon; each sweep does that too."""
        self._recovery_asked = True
        self.ring()

    def ask_sweep(self) -> None:
        """Have the directory swept soon."""
        self._sweep_asked = True
        self.ring()

    def halt(self) -> None:
        """End what it does with the files, and let it go; for the writer, which has to end the session."""
        self._stopping = True
        self.ring()
        if self._busy:
            self._worker.join(_PATIENCE)

    def stop(self) -> None:
        """End the thread, a sweep in progress too, and say what is left to say."""
        self._stopping = True
        self.ring()
        if self._worker.running:
            # dictConfig closes handlers under logging's lock, which the thread may need to speak.
            self._worker.join(_PATIENCE)
        else:
            speak_now(self._voice)

    def _run(self) -> None:
        if self._next_sweep is None:
            self._next_sweep = monotonic() + _HOUR
        patience = _FIRST_WORD
        while not self._stopping and not self._worker.takes_leave():
            rang = self._bell.acquire(True, self._longest_rest(patience, self._next_sweep))
            if self._losing and not rang:
                patience = _NEXT_WORD
                self._tell_of_loss()
            self._voice.speak()
            # Read anew: another thread may have asked meanwhile.
            if not self._must_stop() and (self._sweep_asked or monotonic() >= self._next_sweep):
                self._sweep_asked = self._recovery_asked = False
                self._next_sweep = monotonic() + _HOUR
                self._do_safely(sweep=True)
                # One that was stopped for a fork comes again after it.
                self._sweep_asked = self._sweep_asked or self._worker.parked
            elif not self._must_stop() and self._recovery_asked:
                self._recovery_asked = False
                self._do_safely(sweep=False)
                self._recovery_asked = self._recovery_asked or self._worker.parked
            if not self._losing:
                patience = _FIRST_WORD
        if self._stopping:
            self._voice.speak(finally_=True)

    def _must_stop(self) -> bool:
        return self._stopping or self._worker.parked

    # For a fork (see `_parking`).

    @property
    def voice(self) -> Voice:
        """Where trouble is told."""
        return self._voice

    def park(self, timeout: float) -> None:
        """Ask the thread to end, a sweep in progress too."""
        self._worker.park()
        self.ring()

    def wait_parked(self, timeout: float) -> bool:
        """Wait for its end."""
        return self._worker.wait_gone(timeout)

    def unpark(self) -> None:
        """Start it again, unless the program has no other thread: then the next record does.

        3.13 warns of threads that run when these hooks are done, and such a program may fork in peace.
        """
        with self._worker.unpark() as parted:
            if parted:
                self.ring()
                if not self._stopping and threading.active_count() > 1:
                    self._begin()

    def forsake(self) -> None:
        """In the child: the thread is not there."""
        self._worker.forsake()

    def _longest_rest(self, patience: float, next_sweep: float) -> float:
        if self._losing:
            return patience
        if self._voice.held:
            return _NEXT_WORD
        return min(max(next_sweep - monotonic(), 1.0), _HOUR)

    def _tell_of_loss(self) -> None:
        present = self.loss() if self.loss is not None else None
        if present is None:
            self._losing = False
        elif present[0]:
            count, reason = present
            self._voice.tell("loss", f"{count} records dropped so far: {reason}, and it lasts", count=count)

    def _do_safely(self, *, sweep: bool) -> None:
        self._busy = True
        try:
            self._look_after(self._must_stop, sweep=sweep)
        except Exception as error:
            self._voice.tell("sweep", f"{'retention' if sweep else 'recovery'} could not run: {error!r}")
        self._busy = False
        self._voice.speak()


def speak_now(voice: Voice) -> None:
    """Say what waits from this thread, unless it holds logging's own lock (then a later call will)."""
    if not _logging_lock.is_held():
        voice.speak(finally_=True)
