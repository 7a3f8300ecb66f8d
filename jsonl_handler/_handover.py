"""The writer's side of a buffer: it rests until it is called, takes what waits, and tells how far it has come.

And those who wait for that: flushes, and whoever must be told of a loss.
"""

from __future__ import annotations

from _thread import LockType, get_ident
from collections.abc import Callable

from jsonl_handler._admission import Admission
from jsonl_handler._doorbell import NEVER, Writer
from jsonl_handler._held import within
from jsonl_handler._journal import Journal
from jsonl_handler._losses import Loss
from jsonl_handler._stock import Batch
from jsonl_handler.settings import Settings


class Handover(Admission):
    """Lines go to one writer, in batches; every method may be called as those of `Admission` may."""

    __slots__ = ("_changed",)

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        # Settings have changed, and the writer has not seen to it yet.
        self._changed = False

    # Its coming and going.

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
        within(self._lock, timeout, self.hurry)

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

    def take_change(self) -> bool:
        """True once after each change: the writer has something to see to."""
        changed, self._changed = self._changed, False
        return changed

    # What it takes.

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

    # Who waits for it.

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

    # Within. Only under the lock with the flag up, but for this one.

    def _rest(self, timeout: float | None) -> bool:
        return self._locked(self._bell.get_up, self._bell.rest(timeout)) is True

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

    def _remark(self, line: bytes) -> None:
        self._remarks.append(line)
        self._bell.ring(True)

    def _register_flush(self) -> LockType | bool:
        self._empty_side()
        if not self.waiting:
            return True
        only_frozen = not (self._arena.count or self._side or self._losses.present or self._remarks)
        # What lies aside comes with the batch after the next.
        waiter = self._waiting.for_batch(self._generation - only_frozen + bool(self._side))
        self._bell.ring(True, True)
        return waiter

    def _lose(self, reason: str) -> None:
        self._drop(reason)
        self._bell.ring(True)
