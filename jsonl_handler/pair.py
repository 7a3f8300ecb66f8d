"""The two ends of the buffer, as the standard library's pair: a `QueueHandler` and a `QueueListener`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from logging.handlers import QueueHandler, QueueListener
from typing import Any

from jsonl_handler._batches import Batches, FileSide
from jsonl_handler._buffer import RecordBuffer
from jsonl_handler._clock import monotonic
from jsonl_handler._door import Door
from jsonl_handler._fork import start_over_in_children
from jsonl_handler._lineage import Lineage
from jsonl_handler._parking import park_at_forks
from jsonl_handler._status import Voice
from jsonl_handler._stock import Batch
from jsonl_handler._worker import Worker

_MOMENT = 0.01
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 30.0


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
        self.on_stop: Callable[[], None] | None = None
        self._file_side = handlers[0]
        self._batches = Batches(queue, handlers[0])
        self._worker = Worker(self._monitor, "jsonl-handler-writer")
        self._stopping = False

    def start(self) -> bool:  # type: ignore[override]
        """Start the thread if it does not run; False where none can be started, and while the process forks."""
        self._stopping = False
        if self.running:
            return True
        return not self._worker.parked and self._begin()

    def _begin(self) -> bool:
        try:
            self.queue.expect()
            park_at_forks(self)
            if self._worker.start():
                return True
        except BaseException:
            # Ctrl-C: nobody must wait for a writer that does not come.
            if not self._worker.running:
                self.queue.leave(even_if_full=True)
            raise
        self.queue.leave(even_if_full=True)
        return False

    @property
    def on_settled(self) -> Callable[[], None] | None:
        """Called between two batches, and after a change of settings."""
        return self._batches.on_settled

    @on_settled.setter
    def on_settled(self, act: Callable[[], None] | None) -> None:
        self._batches.on_settled = act

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
        for line in self._batches.take_lines():
            adopt(line)

    def stop(self, timeout: float | None = None) -> bool:  # type: ignore[override]
        """Write what waits and end the thread; False when that took longer than *timeout* seconds."""
        self._stopping = True
        self.queue.hurry()
        # What waits when the thread ends for a fork is not written.
        return self._worker.join(timeout) and self.drain(timeout)

    def drain(self, patience: float | None = 0.0) -> bool:
        """Write what waits on the calling thread, trying once; False when something is left (see `Batches.drain`)."""
        return self._batches.drain(patience)

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
        self._batches.begin(record)
        pause = _FIRST_PAUSE
        while not self._batches.go_on():
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
            batch = self._batches.at_hand or self.dequeue(True)
            if batch is not None:
                self.handle(batch)
            return batch is not None or not self._stopping
        except Exception as error:
            # The thread must outlive whatever goes wrong, or the buffer would fill and nobody would know.
            self._batches.tell_failure(error)
            self.queue.pause(_FIRST_PAUSE)
            return True
