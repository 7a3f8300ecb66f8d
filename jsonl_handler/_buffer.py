"""`RecordBuffer`: the bounded hand-over from the callers to the writer, through two arenas.

It does not know what a line says, where it goes, or how often somebody comes for it.
"""

from __future__ import annotations

import sys
import threading
import weakref
from _thread import LockType, get_ident
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from jsonl_handler._doorbell import NEVER, Doorbell, Writer
from jsonl_handler._journal import NO_MEMORY, Journal
from jsonl_handler._losses import Loss
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


class Entrance(Protocol):
    """Where lines are made, of at most so many bytes."""

    most: int


class RecordBuffer(Stock):
    """Two arenas: callers append to one while the writer writes the other.

    Every method may be called from any thread, also from a signal handler or a
    ``__del__`` that interrupts another method of the same buffer in its own thread:
    the lock is re-entrant, and a flag tells such a call to put its line aside.
    """

    __slots__ = (
        "_batch_size", "_bell", "_changed", "_doors", "_flush_level", "_inside", "_lock", "_quick", "_side", "_stalled",
        "_steps", "_waiting", "_wanted",
    )  # fmt: skip

    def __init__(self, settings: Settings | None = None) -> None:
        settings = settings or Settings()
        super().__init__(settings)
        self._lock = threading.RLock()
        self._inside = False
        self._side: deque[tuple[bytes, int, float]] = deque()
        self._waiting = Waiting()
        self._bell = Doorbell()
        self._stalled = False
        # How far the writer has come, in steps: who waits for it sees whether it moves.
        self._steps = 0
        # What it is to go by, and has not come to yet; and whether the writer has not seen to it yet.
        self._wanted: tuple[Settings, Journal | None] | None = None
        self._changed = False
        self._doors: weakref.WeakSet[Entrance] = weakref.WeakSet()
        self._set_thresholds()

    # Settings that change.

    def reconfigure(self, settings: Settings) -> bool:
        """Go by other settings from now on; False when so much memory can't be had, and the old stays.

        What waits already is kept, and written when the new settings say so. Other memory comes
        between two batches: at once, if nothing is being written.
        """
        memory, had = None, True
        if settings.arena_bytes != self.journal.arena_bytes:
            try:
                memory = Journal.anonymous(settings.arena_bytes)
            except NO_MEMORY:
                had = False
        self._wanted = (settings, memory)
        if self._locked(self._follow) is None:
            # This very thread is inside, further up its own stack: the writer sees to it.
            self._bell.ring(True, True)
        for door in list(self._doors):
            door.most = settings.max_record_bytes
        return had

    def serve(self, door: Entrance) -> None:
        """Tell *door* of a new `max_record_bytes`, as long as it is there."""
        self._doors.add(door)

    def take_change(self) -> bool:
        """True once after each change: the writer has something to see to."""
        changed, self._changed = self._changed, False
        return changed

    def _follow(self) -> bool:
        wanted, self._wanted = self._wanted, None
        if wanted is None:
            return True
        settings, memory = wanted
        before, level = self.settings, self._flush_level
        self._adopt(settings, memory)
        self._set_thresholds()
        self._changed = True
        # Levels of what waits are not known; what was to outlive the process is written before it no longer does;
        # and what waits must fit into a smaller arena.
        written_first = (
            self._flush_level < level
            or (before.crash_safe and not settings.crash_safe)
            or settings.arena_bytes < self.journal.arena_bytes
        )
        self._bell.ring(written_first and self.waiting)
        # Who waits for room sees whether he still should.
        self._waiting.let_in()
        return True

    def _set_thresholds(self) -> None:
        settings = self.settings
        self._batch_size = settings.flush_batch_size if settings.flush_interval else 1
        self._flush_level = NEVER if settings.flush_level is None else settings.flush_level

    # The callers' side.

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

    def counts(self) -> tuple[int, int, int]:
        """(written, dropped, pending), of one moment."""
        with self._lock:
            written, dropped, pending = self._numbers()
            return written, dropped, pending + len(self._side)

    @property
    def waiting(self) -> bool:
        """True while something is to be written: lines, or that lines were lost."""
        return bool(self._side) or super().waiting

    @property
    def aside(self) -> bool:
        """True while lines lie outside of the arenas: an interrupt has left them there, and there is no room."""
        return bool(self._side)

    def lose(self, reason: str) -> None:
        """Count one record that was accepted but could not be kept."""
        with self._lock:
            if self._inside:
                # This very thread is inside already, further up its own stack.
                self._drop(reason)
            else:
                self._locked(self._lose, reason)

    def on_loss(self, alarm: Callable[[], None]) -> None:
        """Have *alarm* called, under the lock, when a burst of loss begins."""
        self._losses.alarm = alarm

    def untold(self) -> tuple[int, str] | None:
        """How many of the present burst of loss nobody was told of, and why they went; they count as told now."""
        loss = self._losses.present
        return None if loss is None else (self.settle_loss(loss), loss.reason)

    def settle_loss(self, loss: Loss) -> int:
        """How many of a burst are still to be told; they count as told from now on."""
        untold: int | None = self._locked(self._losses.tell, loss)
        return untold or 0

    def ask_flush(self) -> LockType | bool:
        """Have all that was accepted so far written; True when it is, else a lock that is released then.

        False when this thread can't wait for it: it is the writer, or inside already.
        """
        if get_ident() == self._bell.thread:
            return False
        answer: LockType | bool | None = self._locked(self._register_flush)
        return False if answer is None else answer

    def cancel_flush(self, waiter: LockType) -> None:
        """Stop waiting for a flush."""
        self._locked(self._waiting.forget, waiter)

    # The writer's side.

    def expect(self) -> None:
        """A writer is about to start: callers may wait for it from now on."""
        self._locked(self._bell.attend, 0)

    def attend(self) -> None:
        """The calling thread is the writer from now on."""
        self._locked(self._bell.attend, get_ident())

    def leave(self, *, even_if_full: bool = False) -> bool:
        """The writer goes, unless something waits to be written; then False."""
        return self._locked(self._leave, even_if_full) is True

    def hurry(self) -> None:
        """Call the writer at once, also out of a pause."""
        self._locked(self._bell.ring, True, True)

    def hurry_within(self, timeout: float) -> None:
        """The same, unless the lock can't be had for *timeout* seconds."""
        if self._lock.acquire(timeout=timeout):
            try:
                self.hurry()
            finally:
                self._lock.release()

    def forsake(self) -> None:
        """In a forked child: what waits is the parent's, the writer is not there, and whoever waits for it goes on."""
        if not self._lock._is_owned():  # type: ignore[attr-defined]
            # Perhaps a thread that is not there either holds it.
            self._lock = threading.RLock()
            self._inside = False
        self._side.clear()
        if self._wanted is not None:
            self.settings, self._wanted = self._wanted[0], None
            self._set_thresholds()
        self._start_over()
        self._bell.leave()
        self._waiting.let_in()
        self._waiting.written(self._generation)

    def wait(self, timeout: float | None) -> bool:
        """Rest until a write is due; False when *timeout* seconds passed first. None: until something comes."""
        return not self._locked(self._lie_down, timeout is None) or self._rest(timeout)

    def pause(self, timeout: float) -> bool:
        """Rest after a failure; True when somebody is in a hurry."""
        return not self._locked(self._back_off) or self._rest(timeout)

    @property
    def due(self) -> bool:
        """True when what waits should be written now."""
        return self._bell.urgent or self._arena.count >= self._batch_size

    def take(self) -> Batch | None:
        """Swap the arenas and hand over the full one; None when there is nothing in it."""
        batch: Batch | None = self._locked(self._swap)
        return batch

    def put_front(self, line: bytes) -> int | None:
        """Keep a line of the package itself in front of the batch that was taken; where it ends in the memory."""
        self._steps += 1
        end: int | None = self._locked(self.journal.set_front, line)
        return end

    def pledge(self, target: str, offset: int, start: int) -> None:
        """Note where what lies at *start* is about to be written, for whoever comes after a crash."""
        self._steps += 1
        self._locked(self.journal.pledge, target, offset, start)

    def done(self, batch: Batch) -> None:
        """All of *batch* is written."""
        self._steps += 1
        self._locked(self._count_written, batch)
        # Nobody else touches a frozen arena: the lock is not held for it.
        batch.arena.wipe()
        self._locked(self._settle, batch)

    def remark(self, line: bytes) -> None:
        """Have a line of the package itself written soon; it counts as no record."""
        self._locked(self._remark, line)

    def move(self, journal: Journal) -> bool:
        """Go on in the memory of *journal*; False while a batch is being written, or too much waits for it."""
        return self._locked(self._move, journal) is True

    # Within. Only under the lock with the flag up, but for these three.

    def _locked(self, act: Callable[..., Any], *args: object) -> Any:
        """Run *act* under the lock with the flag up; None when this very thread is inside already."""
        with self._lock:
            if self._inside:
                return None
            self._inside = True
            try:
                result = act(*args)
                if self._wanted is not None:
                    self._follow()
                self._empty_side()
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

    def _rest(self, timeout: float | None) -> bool:
        return self._locked(self._bell.get_up, self._bell.rest(timeout)) is True

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

    def _lose(self, reason: str) -> None:
        self._drop(reason)
        self._bell.ring(True)

    def _remark(self, line: bytes) -> None:
        self._remarks.append(line)
        self._bell.ring(True)

    def _turn_date(self, created: float) -> bool:
        turned = super()._turn_date(created)
        if turned and self._arena.count:
            # The file of the old date gets its last lines now.
            self._bell.ring(True)
        return turned

    def _register_flush(self) -> LockType | bool:
        self._empty_side()
        if not self.waiting:
            return True
        only_frozen = not (self._arena.count or self._side or self._losses.present or self._remarks)
        # What lies aside comes with the batch after the next.
        waiter = self._waiting.for_batch(self._generation - only_frozen + bool(self._side))
        self._bell.ring(True, True)
        return waiter

    def _set_soft(self) -> None:
        super()._set_soft()
        self._quick = self._soft if _HAS_GIL else -1

    def _leave(self, even_if_full: bool) -> bool:
        self._empty_side()
        if self.waiting and not even_if_full:
            return False
        self._bell.leave()
        self._waiting.let_in()
        return True

    def _lie_down(self, until_something: bool) -> bool:
        self._empty_side()
        if self.due or self._changed or (until_something and self._arena.count):
            return False
        self._bell.lie_down(Writer.WAITING, 1 if until_something else self._batch_size)
        return True

    def _back_off(self) -> bool:
        if self._bell.hurried:
            self._bell.hurried = False
            return False
        self._bell.lie_down(Writer.BACKING_OFF, NEVER)
        return True

    def _swap(self) -> Batch | None:
        batch = super()._swap()
        # Who was in a hurry until now is served by this attempt; if it fails, it is not cut short for him again.
        self._bell.urgent = self._bell.hurried = False
        if batch is not None:
            self._stalled = False
            self._waiting.let_in()
        return batch

    def _settle(self, batch: Batch) -> None:
        if self._frozen is batch:
            self._frozen = None
            self._change_memory()
        self._waiting.written(batch.generation)
        if self._waiting.flushes:
            self._bell.ring(True)
