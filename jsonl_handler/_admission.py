"""Where lines come in: without a lock, or under one; where there is no room they wait, or go by the policy.

It neither knows what a line says nor where it goes.
"""

from __future__ import annotations

import sys
import threading
from _thread import LockType, get_ident
from collections import deque
from collections.abc import Callable
from typing import Any

from jsonl_handler._doorbell import NEVER, Doorbell
from jsonl_handler._journal import Journal
from jsonl_handler._stock import Batch, Stock
from jsonl_handler._truncation import fit
from jsonl_handler._waiting import Waiting
from jsonl_handler.settings import Settings

_FULL = "the buffer was full"
# Half a second, by default: no caller waits longer than a second.
_MOST_WAITS = 5
# Without its lock, threads run at once.
_HAS_GIL = sys.implementation.name == "cpython" and getattr(sys, "_is_gil_enabled", lambda: True)()
_NESTED = "too many records in an interrupt"


class Admission(Stock):
    """The callers' side of a buffer.

    Every method may be called from any thread, also from a signal handler or a
    ``__del__`` that interrupts another method of the same buffer in its own thread:
    the lock is re-entrant, and a flag tells such a call to put its line aside.
    """

    __slots__ = (
        "_batch_size", "_bell", "_flush_level", "_inside", "_lock", "_quick", "_side", "_stalled", "_steps", "_waiting",
    )  # fmt: skip

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._lock = threading.RLock()
        self._inside = False
        self._side: deque[tuple[bytes, int, float]] = deque()
        self._waiting = Waiting()
        self._bell = Doorbell()
        self._stalled = False
        # How far the writer has come, in steps: who waits for it sees whether it moves.
        self._steps = 0
        self._set_thresholds()

    def append(self, line: bytes, level: int, created: float) -> bool:
        """Accept one line; True when no writer is there and somebody must fetch it.

        One that is longer than an arena is cut. It takes no lock where the interpreter has one
        of its own, and nothing stands in the way (docs/adr/0012).
        """
        # Before anything is stored: what is no number must not be found out halfway.
        urgent = level >= self._flush_level
        arena = self._arena
        tail, memory = arena.tail, arena.memory
        end = tail + len(line)
        if (
            end > self._quick
            or arena.count >= self._limit
            or not self._day_start <= created < self._day_end
            or self._side
        ):
            return self._append_slowly(line, level, created)
        where = slice(tail, end)
        # From here on no call: nothing, no thread and no interrupt, can come between, nor a debugger within one line.
        if self._arena is arena and arena.tail == tail and not self._inside: memory[where] = line; arena.tail = end; arena.count += 1  # noqa: E501, E701, E702  # fmt: skip
        else:
            return self._append_slowly(line, level, created)
        if arena.count < self._bell.wake_at and not urgent:
            return False
        return self._locked(self._bell.ring, urgent) is True

    @property
    def waiting(self) -> bool:
        """True while something is to be written: lines, or that lines were lost."""
        return bool(self._side) or super().waiting

    @property
    def aside(self) -> bool:
        """True while lines lie outside of the arenas: an interrupt has left them there, and there is no room."""
        return bool(self._side)

    # Within. Only under the lock with the flag up, but for these two.

    def _locked(self, act: Callable[..., Any], *args: object) -> Any:
        """Run *act* under the lock with the flag up; None when this very thread is inside already."""
        with self._lock:
            if self._inside:
                return None
            self._inside = True
            try:
                result = act(*args)
                self._see_to_rest()
            finally:
                self._inside = False
        # Put aside after the line above, by an interrupt: once more.
        if self._side and act != self._empty_side:
            self._locked(self._empty_side)
        return result

    def _append_slowly(self, line: bytes, level: int, created: float) -> bool:
        """Dates, a buffer half full, a buffer full."""
        # A signal handler may log while this thread waits below: then the place there is not its own.
        nested = get_ident() in self._waiting.callers
        waits = 0
        try:
            while True:
                answer = self._locked(self._admit, line, level, created)
                if answer is None:
                    return self._put_aside(line, level, created)
                if isinstance(answer, bool):
                    return answer
                steps, policy = self._steps, self.settings
                timeout = -1 if policy.overflow == "block" else min(policy.overflow_timeout, threading.TIMEOUT_MAX)
                if not answer.acquire(True, timeout):
                    # A writer that is only about to come, as after a fork, is not stuck, and neither is one that
                    # has got on meanwhile: on a machine with more to do than it can, it is slow, not the disk.
                    waits += 1
                    most = _MOST_WAITS if self._steps != steps else 1 + self._bell.expected
                    self._stalled = waits >= most
                self._waiting.callers.pop(get_ident(), None)
        finally:
            if not nested:
                self._waiting.callers.pop(get_ident(), None)

    def _see_to_rest(self) -> None:
        """At the end of each act under the lock."""
        self._empty_side()

    def _admit(self, line: bytes, level: int, created: float) -> bool | LockType:
        """Take the line or drop by policy (then the answer of `append`); or a lock to wait for room on."""
        if not self._day_start <= created < self._day_end:
            self._turn_date(created)
        line = self._cut(line)
        if self._has_room(line):
            return self._put(line, level)
        me = get_ident()
        if me in self._waiting.callers:
            # A signal handler logs while this very thread waits for room: that wait serves both.
            return self._put_aside(line, level, created)
        if self._may_wait(me):
            self._bell.ring(True)
            return self._waiting.for_room(me)
        return self._put(line, level) if self._make_room(line) else self._bell.absent

    def _cut(self, line: bytes) -> bytes:
        """The line as it fits into an arena: it may have been made when that was larger."""
        return line if len(line) <= self._arena.size else fit(line, self._arena.size)

    def _make_room(self, line: bytes) -> bool:
        """Drop what the policy says; False when that is *line* itself."""
        if self.settings.overflow == "drop_newest":
            self._drop(_FULL)
            return False
        while self._arena.count and not self._has_room(line):
            self._drop_oldest(_FULL)
        return True

    def _put(self, line: bytes, level: int) -> bool:
        self._add(line)
        urgent = level >= self._flush_level or self._arena.tail > self._soft
        if self._arena.count >= self._bell.wake_at or urgent:
            return self._bell.ring(urgent)
        return False

    def _put_aside(self, line: bytes, level: int, created: float) -> bool:
        """This very thread is inside or waits already, further up its own stack, and sees to it."""
        if len(self._side) < self._limit:
            self._side.append((line, level, created))
        else:
            self._drop(_NESTED)
        return False

    def _empty_side(self) -> None:
        while self._side:
            line, level, created = self._side[0]
            if not self._day_start <= created < self._day_end:
                self._turn_date(created)
            line = self._cut(line)
            kept = self._has_room(line)
            if not kept:
                if self._may_hope():
                    return
                # It must not stay here, where a crash would take it along.
                kept = self._make_room(line)
            self._side.popleft()
            if kept:
                self._put(line, level)

    def _may_wait(self, me: int) -> bool:
        return me != self._bell.thread and self._may_hope()

    def _may_hope(self) -> bool:
        """True while the writer may still make room in time."""
        if self._bell.absent:
            return False
        policy = self.settings
        return policy.overflow == "block" or (policy.overflow_timeout > 0 and not self._stalled)

    def _turn_date(self, created: float) -> bool:
        turned = super()._turn_date(created)
        if turned and self._arena.count:
            # The file of the old date gets its last lines now.
            self._bell.ring(True)
        return turned

    def _move(self, journal: Journal) -> bool:
        # Where Ctrl-C comes between, each append takes the lock until the next change.
        self._quick = -1
        moved = super()._move(journal)
        self._set_soft()
        return moved

    def _swap(self) -> Batch | None:
        self._quick = -1
        batch = super()._swap()
        self._set_soft()
        return batch

    def _set_soft(self) -> None:
        super()._set_soft()
        self._quick = self._soft if _HAS_GIL else -1

    def _set_thresholds(self) -> None:
        settings = self.settings
        self._batch_size = settings.flush_batch_size if settings.flush_interval else 1
        self._flush_level = NEVER if settings.flush_level is None else settings.flush_level
