"""How a handler opens its session and closes it, once or again and again, and who has its late records then."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jsonl_handler._at_exit import close_at_exit
from jsonl_handler._buffer import RecordBuffer
from jsonl_handler._door import Door
from jsonl_handler._held import owns, within
from jsonl_handler._lineage import Lineage, SupersededError
from jsonl_handler._logging_lock import nobody_collects
from jsonl_handler._session_handler import SessionHandler
from jsonl_handler.pair import BatchQueueListener

if TYPE_CHECKING:
    from jsonl_handler._session_files import SessionFiles

_MOMENT = 1.0


class OpeningHandler(SessionHandler):
    """Joins a buffer, a listener and the file side; all of it is at rest while the session is not open."""

    def _build(self, buffer: RecordBuffer, files: SessionFiles) -> None:
        self._files = files
        self._changing = threading.RLock()
        self._buffer = buffer
        self._listener = BatchQueueListener(buffer, files)
        self._door = Door(buffer, self._open, self._attend)
        self._opening = threading.RLock()
        self._early: deque[logging.LogRecord] = deque()
        self._enabled = files.settings.enabled
        self._closed_once = self._abandoned = self._close_asked = False
        self._missed = 0
        self._stuck_at = -1
        files.maintenance.loss = buffer.untold
        buffer.on_loss(files.maintenance.alarm)
        self._listener.on_end = self._writer_ended
        self._listener.on_settled = files.tend
        self._listener.on_stop = self._end_session
        files.keep_safe(buffer)
        files.remark = buffer.remark

    def flush(self, timeout: float | None = None) -> bool:  # type: ignore[override]
        """Return when all that was accepted before the call is written; False after *timeout* seconds.

        Without *timeout* it is ``close_timeout``: `logging` calls a bare ``flush()``.
        """
        self._count_missed()
        if not self._listener.running:
            return self._pass_on() or self._listener.drain()
        answer = self._buffer.ask_flush()
        if isinstance(answer, bool):
            return answer
        try:
            with nobody_collects():
                done = answer.acquire(timeout=self._patience(timeout))
        finally:
            self._buffer.cancel_flush(answer)
        if not done and timeout is None:
            self._stuck_at = self._files.batches
        return done

    def yield_session(self) -> None:
        """Write what waits and give the session up, to the handler that goes on with it or for good."""
        self._count_missed()
        if owns(self._opening):
            # A signal handler closes while this very thread opens or closes, which is done first.
            self._close_asked = True
            return
        if not within(self._opening, self._patience(None), self._yield_once):
            # Another thread opens the session, on a disk that does not answer.
            self._files.give_up("the session could not be opened within close_timeout")
            return
        # Not under our lock: the heir may be opening the session, and then asks us for it.
        self._pass_on()
        self._take_early()

    def adopt(self, line: bytes) -> None:
        """Accept a line that a closed handler of the same session had encoded."""
        lineage = self._door.lineage or self._ready()
        if lineage is None:
            self._heir().adopt(line)
        else:
            self._door.put(line, logging.INFO, lineage)

    def write(self, line: bytes | str | Mapping[str, Any], level: int = logging.INFO) -> None:
        """Accept an encoded line, or a mapping to encode."""
        raise NotImplementedError

    # Opening.

    def _open(self, record: logging.LogRecord) -> Lineage | None:
        """The session for a first record; None when the record has been seen to."""
        if owns(self._opening):
            # A signal handler or a `__del__` logs while this very thread opens or closes.
            if len(self._early) >= self.settings.buffer_limit:
                self._buffer.lose("too many records in an interrupt")
            else:
                self._early.append(record)
            return None
        lineage = self._ready()
        if lineage is None:
            self._heir().handle(record)
            return None
        if not self._closed_once:
            return lineage
        # After close() nobody can be counted on to call flush(): it is written straight through.
        self._door.accept(record)
        self.flush()
        return None

    def _ready(self) -> Lineage | None:
        """Open the session and start the writer, if another thread has not just done so.

        None when this handler is closed and another one has taken the session over.
        """
        with self._opening:
            self._close_asked = False
            try:
                lineage = self._files.open()
            except SupersededError:
                return None
            self._abandoned = False
            self._listener.start()
            close_at_exit(self, reopened=self._closed_once)
            self._door.lineage = lineage
        self._take_early()
        if self._close_asked:
            # By a signal handler of this very thread, meanwhile. Who has a record opens it once more.
            self.yield_session()
        return lineage

    def _take_early(self) -> None:
        for _ in range(len(self._early)):
            try:
                record = self._early.popleft()
            except IndexError:
                # Another thread takes them too.
                return
            self._door.accept(record)

    def _attend(self) -> None:
        """A line lies in the buffer and no writer is there: the handler was closing, or no thread can be started."""
        if owns(self._opening):
            return
        if self._ready() is None:
            self._listener.hand_to(self._heir().adopt)
            return
        if self._closed_once or not self._listener.running:
            self.flush()
        if self._closed_once and not self._listener.running:
            # The interpreter is ending: nobody will come to close it.
            self.yield_session()

    def _heir(self) -> OpeningHandler:
        """The handler that has taken over the session of this one; itself, if that is gone by now."""
        lineage = self._files.lineage
        owner = lineage.owner() if lineage is not None else None
        if isinstance(owner, OpeningHandler):
            return owner
        if owner is not None:
            # One of another kind, which takes no lines.
            self._files.start_anew()
        return self

    # Closing.

    def _yield_once(self) -> bool:
        if not self._files.is_superseded:
            with nobody_collects():
                self._yield_own_session()
        self._close_asked = False
        return True

    def _yield_own_session(self) -> None:
        self._files.closing = True
        self._door.lineage = None
        if self._listener.stop(self._patience(None)) or (
            # All is written, and only the session has to be ended.
            not self._buffer.waiting and self._listener.stop(_MOMENT)
        ):
            # What was recovered until now is told in the stream.
            self._files.maintenance.stop()
            self._listener.drain()
            self._files.close()
        elif not self._abandoned:
            # The writer is stuck in a write. The session stays its own: nobody may go on with it.
            self._abandoned = True
            pending = self._buffer.counts()[2]
            what = f"{pending} records could not be written" if pending else "the session could not be ended"
            self._files.give_up(f"{what} within close_timeout")
        self._closed_once = True

    def _pass_on(self) -> bool:
        """Give lines that came late to the handler that has the session by now; False when there is none."""
        if not self._files.is_superseded or (heir := self._heir()) is self:
            return False
        self._listener.hand_to(heir.adopt)
        return True

    def _end_session(self) -> None:
        """The writer is about to go, and nothing waits."""
        # What was recovered until now is told in the stream.
        self._files.maintenance.halt()
        # One that has passed to another handler is ended when nothing can come any more: what came between would
        # begin a session of its own.
        if not self._buffer.waiting and not self._files.is_lost:
            self._files.end_if_closing()

    def _writer_ended(self) -> None:
        # On the writer's thread: `close` waits for that, but no longer than it may.
        self._files.sync()
        # Whoever holds the lock is closing too, and ends the session himself.
        if self._abandoned and self._opening.acquire(blocking=False):
            try:
                if self._abandoned:
                    self._files.close(hand_over=False)
            finally:
                self._opening.release()

    def _patience(self, timeout: float | None) -> float:
        """How long to wait: `close_timeout` when not said, and once for a writer that does not move.

        `logging.shutdown` flushes and then closes, and each record after that is written straight through.
        """
        if timeout is None:
            timeout = 0.0 if self._stuck_at == self._files.batches else self.settings.close_timeout
        return min(max(timeout, 0.0), threading.TIMEOUT_MAX)

    def _count_missed(self) -> None:
        missed, self._missed = self._missed, 0
        for _ in range(missed):
            self._buffer.lose("a record came too near the recursion limit")
