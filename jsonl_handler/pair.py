"""The two ends of the buffer, as the standard library's pair: a `QueueHandler` and a `QueueListener`."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from logging.handlers import QueueHandler, QueueListener
from typing import Any, Protocol

from jsonl_handler._arena import Cursor, Marks
from jsonl_handler._buffer import RecordBuffer
from jsonl_handler._clock import monotonic
from jsonl_handler._door import Door
from jsonl_handler._fork import start_over_in_children
from jsonl_handler._journal import FRONT_BYTES
from jsonl_handler._lineage import Lineage
from jsonl_handler._losses import Loss
from jsonl_handler._own_lines import about_loss
from jsonl_handler._parking import park_at_forks
from jsonl_handler._status import Voice
from jsonl_handler._stock import Batch
from jsonl_handler._truncation import fit
from jsonl_handler._worker import Worker

_MOMENT = 0.01
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 30.0


class FileSide(Protocol):
    """What the listener writes to: `RotatingSessionJsonlHandler` is one."""

    @property
    def voice(self) -> Voice: ...

    def own_line(self, message: str, **fields: object) -> bytes: ...

    def write_batch(self, lines: Any, cursor: Cursor, end: int, marks: Marks) -> bool: ...

    def open(self) -> Lineage: ...


class SessionQueueHandler(QueueHandler):
    """Puts each record's line into a `RecordBuffer`, for code that joins the pair itself.

    *file_side* is the handler that the listener writes to: the lines bear its session.
    A `BatchQueueListener` on the same buffer must be started, or nothing is written.
    """

    writes_session_files = True

    def __init__(self, queue: RecordBuffer, file_side: FileSide) -> None:
        self._file_side = file_side
        self._door = Door(queue, self._open, lambda: None)
        super().__init__(queue)  # type: ignore[arg-type]
        start_over_in_children(self)

    def start_over(self) -> None:
        """In a forked child: forget the parent's session and pending lines; a listener must be started there."""
        self._door.lineage = None
        queue: Any = self.queue
        queue.forsake()

    def createLock(self) -> None:
        """None is needed: the buffer has its own."""
        self.lock = None

    def setFormatter(self, fmt: logging.Formatter | None) -> None:
        """Make lines with *fmt*; None for the default ones."""
        super().setFormatter(fmt)
        self._door.use(fmt)

    def handle(self, record: logging.LogRecord) -> Any:
        """Filter a record and accept it; never raises an `Exception`."""
        passed = self._door.filtered(record, self)
        if passed:
            self._door.way.go(passed if isinstance(passed, logging.LogRecord) else record)
        return passed

    def emit(self, record: logging.LogRecord) -> None:
        """Accept one record without asking the filters."""
        self._door.way.go(record)

    def prepare(self, record: logging.LogRecord) -> bytes:
        """The record as it goes into the buffer: one encoded line."""
        return self._door.line(record, self._door.lineage or self._open(record))

    def enqueue(self, record: Any) -> None:
        """Put a line that `prepare` made into the buffer."""
        self._door.put(record, logging.INFO, self._door.lineage or self._file_side.open())

    def _open(self, record: logging.LogRecord) -> Lineage:
        self._door.lineage = self._file_side.open()
        return self._door.lineage


class _Work:
    """A batch that is being written: what the package itself has to say, then its own lines."""

    def __init__(self, batch: Batch, buffer: RecordBuffer) -> None:
        self.batch = batch
        self.front_end: int | None = None
        self.front_done = False
        self.front_cursor = Cursor(buffer.journal.front_at, pledge=buffer.pledge)
        self.cursor = Cursor(batch.arena.head, pledge=buffer.pledge)


class BatchQueueListener(QueueListener):
    """Writes what a `RecordBuffer` holds: when it is full enough, old enough or urgent, and on a thread of its own.

    *handlers* is one `RotatingSessionJsonlHandler`. After a failed write it waits 1 s, then
    2, up to 30, and goes on at the byte where it stopped.
    """

    queue: RecordBuffer  # type: ignore[assignment]
    begins_last = False

    def __init__(self, queue: RecordBuffer, *handlers: FileSide, respect_handler_level: bool = False) -> None:
        if len(handlers) != 1:
            raise TypeError(f"BatchQueueListener writes to one handler, got {len(handlers)}")
        super().__init__(queue, *handlers, respect_handler_level=respect_handler_level)  # type: ignore[arg-type]
        self.on_end: Callable[[], None] | None = None
        self.on_settled: Callable[[], None] | None = None
        self.on_stop: Callable[[], None] | None = None
        self._file_side = handlers[0]
        self._consuming = threading.Lock()
        self._worker = Worker(self._monitor, "jsonl-handler-writer")
        self._work: _Work | None = None
        self._stopping = False

    def start(self) -> bool:  # type: ignore[override]
        """Start the thread if it does not run; False where none can be started, and while the process forks."""
        self._stopping = False
        if self.running:
            return True
        return not self._worker.parked and self._begin()

    def _begin(self) -> bool:
        self.queue.expect()
        park_at_forks(self)
        if self._worker.start():
            return True
        self.queue.leave(even_if_full=True)
        return False

    @property
    def running(self) -> bool:
        """True while the thread is there."""
        return self._worker.running

    # For a fork (see `_parking`).

    @property
    def voice(self) -> Voice:
        """Where trouble is told."""
        return self._file_side.voice

    def park(self, timeout: float) -> None:
        """Ask the thread to write what waits, once, and to end."""
        self._worker.park()
        self.queue.hurry_within(timeout)

    def wait_parked(self, timeout: float) -> bool:
        """Wait for its end."""
        return self._worker.wait_gone(timeout)

    def unpark(self) -> None:
        """Start it again if something waits; if not, the next record does."""
        with self._worker.unpark() as parted:
            try:
                if parted and not self.queue.leave():
                    self._begin()
            except BaseException:
                # Ctrl-C: the next record sees to it.
                self.queue.leave(even_if_full=True)
                raise

    def forsake(self) -> None:
        """In the child: the buffer's writer is not there."""
        self._worker.forsake()
        self.queue.forsake()

    # The thread, and those who do its work where there is none.

    def hand_to(self, adopt: Callable[[bytes], None]) -> None:
        """Give what waits to another pair, line by line: the session is its own by now."""
        for line in self._take_lines():
            adopt(line)

    def stop(self, timeout: float | None = None) -> bool:  # type: ignore[override]
        """Write what waits and end the thread; False when that took longer than *timeout* seconds."""
        self._stopping = True
        self.queue.hurry()
        # What waits when the thread ends for a fork is not written.
        return self._worker.join(timeout) and self.drain(timeout)

    def drain(self, patience: float | None = 0.0) -> bool:
        """Write what waits on the calling thread, trying once; False when something is left.

        *patience* is how many seconds to wait for another thread that does the same; None is no limit.
        """
        while self.queue.waiting:
            # Whoever holds it goes on until nothing is left, or is this very thread, further up its stack.
            if not self._consuming.acquire(timeout=-1 if patience is None else patience):
                return False
            try:
                if not self._advance():
                    return False
            finally:
                self._consuming.release()
        return True

    def dequeue(self, block: bool) -> Batch | None:  # type: ignore[override]
        """Wait for the next batch; None when the listener has been stopped and nothing is left."""
        # Since when time runs for what waits; None while nothing does.
        since = monotonic() if self.queue.settings.flush_interval else None
        while True:
            if self._stopping and not self.queue.waiting and self.on_stop is not None:
                # While there still is a writer: what comes meanwhile is written after it.
                self.on_stop()
            if self._stopping and self.queue.leave():
                return None
            if self._worker.parked and not self._stopping:
                # What waits is written once more before the thread makes way for a fork.
                return self.queue.take()
            in_time = not block or self._stopping or self.queue.wait(self._time_left(since))
            if self.queue.take_change() and self.on_settled is not None:
                self.on_settled()
            if self._stopping or self.queue.due or not in_time or not block:
                batch = self.queue.take()
                if batch is not None:
                    return batch
                if not block:
                    return None
                if self._stopping:
                    # Another thread has taken it, and is not done.
                    self.queue.pause(_MOMENT)
                since = None
            elif since is None and self.queue.waiting:
                # The first record after a rest.
                since = monotonic()

    def _time_left(self, since: float | None) -> float | None:
        """How long what waits may still wait: by the settings of this moment, which may have changed since it came."""
        if since is None:
            return None
        # Time that is frozen, or goes on after that, may jump.
        return max(0.0, self.queue.settings.flush_interval - max(0.0, monotonic() - since))

    def handle(self, record: Any) -> None:
        """Write one batch, however long it takes; only a fork may come between."""
        if self._work is None:
            self._work = _Work(record, self.queue)
        pause = _FIRST_PAUSE
        while True:
            with self._consuming:
                if self._advance():
                    return
            if self._worker.parked and not self._stopping:
                return
            self.queue.pause(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _monitor(self) -> None:
        self.queue.attend()
        parted = False
        try:
            while not (parted := self._makes_way()) and self._serve():
                continue
        finally:
            if not parted:
                self.queue.leave(even_if_full=True)
            if self.on_end is not None:
                self.on_end()

    def _makes_way(self) -> bool:
        """True when the thread must end for a fork; callers then wait as for one that is about to start."""
        if not self._worker.parked or self._stopping:
            return False
        self.queue.expect()
        if self._worker.takes_leave():
            return True
        self.queue.attend()
        return False

    def _serve(self) -> bool:
        """Wait for one batch and write it, or go on with one; False when the listener has been stopped."""
        try:
            batch = self._work.batch if self._work is not None else self.dequeue(True)
            if batch is not None:
                self.handle(batch)
            return batch is not None or not self._stopping
        except Exception as error:
            # The thread must outlive whatever goes wrong, or the buffer would fill and nobody would know.
            self._tell_failure(error)
            self.queue.pause(_FIRST_PAUSE)
            return True

    def _advance(self) -> bool:
        """Write as much as goes: of the work at hand, or of a batch taken for it; False after trouble."""
        if self._work is None:
            batch = self.queue.take()
            if batch is None:
                # Either nothing waits, or another thread has taken it.
                return not self.queue.waiting
            self._work = _Work(batch, self.queue)
        work = self._work
        arena = work.batch.arena
        try:
            if work.front_end is None:
                front = self._front_of(work.batch)
                work.front_end = self.queue.put_front(front) if front else work.front_cursor.at
                if work.front_end is None:
                    return False
            if not work.front_done:
                work.front_done = self._write(arena.memory, work.front_cursor, work.front_end, arena.marks[:1])
            done = work.front_done and self._write(arena.memory, work.cursor, arena.tail, arena.marks)
        except Exception as error:
            self._tell_failure(error)
            return False
        if done:
            # In this order: what an interrupt leaves half done here is done again.
            self.queue.done(work.batch)
            self._work = None
            if self.on_settled is not None:
                self.on_settled()
            if work.batch.loss is not None:
                self._tell(work.batch.loss)
        return done

    def _tell_failure(self, error: Exception) -> None:
        self._file_side.voice.tell("writer", f"the writer failed and tries again: {error!r}")

    def _take_lines(self) -> list[bytes]:
        """What waits, as lines; it counts as written, since whoever takes it keeps it."""
        lines: list[bytes] = []
        while self._consuming.acquire(blocking=False):
            try:
                batch = self.queue.take()
                if batch is None:
                    break
                arena = batch.arena
                if batch.loss is not None:
                    lines.append(self._line_about(batch.loss))
                    self._tell(batch.loss)
                lines += bytes(arena.memory[arena.head : arena.tail]).splitlines(keepends=True)
                self.queue.done(batch)
            finally:
                self._consuming.release()
        return lines

    def _write(self, lines: Any, cursor: Cursor, end: int, marks: Marks) -> bool:
        # Not `cursor.at`: all may be written, and an fsync have failed.
        return cursor.begun >= end or self._file_side.write_batch(lines, cursor, end, marks)

    def _front_of(self, batch: Batch) -> bytes:
        front = fit(self._line_about(batch.loss), FRONT_BYTES)
        for remark in batch.remarks:
            if len(front) + len(remark) <= FRONT_BYTES:
                front += remark
            else:
                self.queue.remark(remark)
        return front

    def _line_about(self, loss: Loss | None) -> bytes:
        if loss is None:
            return b""
        text, fields = about_loss(loss)
        return self._file_side.own_line(text, **fields)

    def _tell(self, loss: Loss) -> None:
        untold = self.queue.settle_loss(loss)
        if untold:
            before = f" ({loss.count} in all)" if loss.count > untold else ""
            self._file_side.voice.tell("loss", f"{untold} records dropped{before}: {loss.reason}", count=untold)
        elif loss.count:
            self._file_side.voice.tell("loss", f"records are kept again; {loss.count} were dropped", level=logging.INFO)
