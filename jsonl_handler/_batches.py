"""Writes what a buffer holds, one batch at a time, whichever thread asks for it.

After trouble the batch stays at hand, and goes on at the byte where it stopped.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, Protocol

from jsonl_handler._arena import Cursor, Marks
from jsonl_handler._buffer import RecordBuffer
from jsonl_handler._held import owns, within
from jsonl_handler._journal_layout import FRONT_BYTES
from jsonl_handler._lineage import Lineage
from jsonl_handler._losses import Loss
from jsonl_handler._own_lines import about_loss
from jsonl_handler._status import Voice
from jsonl_handler._stock import Batch
from jsonl_handler._truncation import fit


class FileSide(Protocol):
    """What the listener writes to: `RotatingSessionJsonlHandler` is one."""

    @property
    def voice(self) -> Voice: ...

    def own_line(self, message: str, **fields: object) -> bytes: ...

    def write_batch(self, lines: Any, cursor: Cursor, end: int, marks: Marks) -> bool: ...

    def open(self) -> Lineage: ...


class _Work:
    """A batch that is being written: what the package itself has to say, then its own lines."""

    def __init__(self, batch: Batch, buffer: RecordBuffer) -> None:
        self.batch = batch
        self.front_end: int | None = None
        self.front_done = False
        self.front_cursor = Cursor(buffer.journal.front_at, pledge=buffer.pledge)
        self.cursor = Cursor(batch.arena.head, pledge=buffer.pledge)


class Batches:
    """The batches of one buffer on their way to one file side."""

    def __init__(self, buffer: RecordBuffer, file_side: FileSide) -> None:
        self.on_settled: Callable[[], None] | None = None
        self._buffer = buffer
        self._file_side = file_side
        self._consuming = threading.RLock()
        self._work: _Work | None = None

    @property
    def at_hand(self) -> Batch | None:
        """The batch that is being written."""
        work = self._work
        return work.batch if work is not None else None

    def begin(self, batch: Batch) -> None:
        """Write this one next, unless one is at hand."""
        if self._work is None:
            self._work = _Work(batch, self._buffer)

    def go_on(self) -> bool:
        """Write as much as goes: of the batch at hand, or of one taken for it; False after trouble."""
        with self._consuming:
            return self._advance()

    def drain(self, patience: float | None = 0.0) -> bool:
        """Write what waits on the calling thread, trying once; False when something is left.

        *patience* is how many seconds to wait for another thread that does the same; None is no limit.
        """
        while self._buffer.waiting:
            if owns(self._consuming):
                # Further up the stack of this very thread.
                return False
            # Another one goes on until nothing is left.
            if not within(self._consuming, -1 if patience is None else patience, self._advance):
                return False
        return True

    def take_lines(self) -> list[bytes]:
        """What waits, as lines; it counts as written, since whoever takes it keeps it."""
        lines: list[bytes] = []
        while not owns(self._consuming) and within(self._consuming, 0, lambda: self._take(lines)):
            continue
        return lines

    def _take(self, lines: list[bytes]) -> bool:
        batch = self._buffer.take()
        if batch is None:
            return False
        arena = batch.arena
        if batch.loss is not None:
            lines.append(self._line_about(batch.loss))
            self._tell(batch.loss)
        lines += bytes(arena.memory[arena.head : arena.tail]).splitlines(keepends=True)
        self._buffer.done(batch)
        return True

    def tell_failure(self, error: Exception) -> None:
        self._file_side.voice.tell("writer", f"the writer failed and tries again: {error!r}")

    def _advance(self) -> bool:
        """Write as much as goes: of the work at hand, or of a batch taken for it; False after trouble."""
        if self._work is None:
            batch = self._buffer.take()
            if batch is None:
                # Either nothing waits, or another thread has taken it.
                return not self._buffer.waiting
            self._work = _Work(batch, self._buffer)
        work = self._work
        arena = work.batch.arena
        try:
            if work.front_end is None:
                front = self._front_of(work.batch)
                work.front_end = self._buffer.put_front(front) if front else work.front_cursor.at
                if work.front_end is None:
                    return False
            if not work.front_done:
                work.front_done = self._write(arena.memory, work.front_cursor, work.front_end, arena.marks[:1])
            done = work.front_done and self._write(arena.memory, work.cursor, arena.tail, arena.marks)
        except Exception as error:
            self.tell_failure(error)
            return False
        if done:
            # In this order: what an interrupt leaves half done here is done again.
            self._buffer.done(work.batch)
            self._work = None
            if self.on_settled is not None:
                self.on_settled()
            if work.batch.loss is not None:
                self._tell(work.batch.loss)
        return done

    def _write(self, lines: Any, cursor: Cursor, end: int, marks: Marks) -> bool:
        # Not `cursor.at`: all may be written, and an fsync have failed.
        return cursor.begun >= end or self._file_side.write_batch(lines, cursor, end, marks)

    def _front_of(self, batch: Batch) -> bytes:
        front = fit(self._line_about(batch.loss), FRONT_BYTES)
        for remark in batch.remarks:
            if len(front) + len(remark) <= FRONT_BYTES:
                front += remark
            else:
                self._buffer.remark(remark)
        return front

    def _line_about(self, loss: Loss | None) -> bytes:
        if loss is None:
            return b""
        text, fields = about_loss(loss)
        return self._file_side.own_line(text, **fields)

    def _tell(self, loss: Loss) -> None:
        untold = self._buffer.settle_loss(loss)
        if untold:
            before = f" ({loss.count} in all)" if loss.count > untold else ""
            self._file_side.voice.tell("loss", f"{untold} records dropped{before}: {loss.reason}", count=untold)
        elif loss.count:
            self._file_side.voice.tell("loss", f"records are kept again; {loss.count} were dropped", level=logging.INFO)
