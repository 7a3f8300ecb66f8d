"""`JsonlHandler`: the front door, which joins the pair and the file side and sees to their opening and closing."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jsonl_handler._at_exit import close_at_exit
from jsonl_handler._buffer import RecordBuffer
from jsonl_handler._door import Door
from jsonl_handler._fork import start_over_in_children
from jsonl_handler._journal import NO_MEMORY
from jsonl_handler._lineage import Lineage, SupersededError
from jsonl_handler._lines import seq_names
from jsonl_handler._logging_lock import nobody_collects
from jsonl_handler._reconfiguring import Choice
from jsonl_handler._session_handler import SessionHandler
from jsonl_handler._status import Stats
from jsonl_handler.pair import BatchQueueListener
from jsonl_handler.settings import Settings

if TYPE_CHECKING:
    from jsonl_handler._session_files import SessionFiles

_MOMENT = 1.0


class JsonlHandler(SessionHandler):
    """Writes each record as one JSON line into files that belong to this process's session alone.

    *directory* is made when it is missing. *session_id* is cut to its first 8 ASCII letters
    and digits, in lower case; None takes a random one. *settings* are the keys of
    `Settings`; with *strict* an invalid value raises, else it is told and its default is
    used. Raises `ConfigError` for an unknown key and for a *prefix*, *directory* or
    ``file_mode`` that can't be used.

    Nothing starts before the first record.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        prefix: str = "telemetry",
        session_id: str | None = None,
        level: int | str = logging.NOTSET,
        strict: bool = False,
        **settings: Any,
    ) -> None:
        choice = Choice.of(settings, strict=strict)
        try:
            buffer = RecordBuffer(choice.settings)
        except NO_MEMORY as error:
            choice = choice.without_memory(str(error))
            buffer = RecordBuffer(choice.settings)
        # Not with the package: it is half of all that is imported.
        from jsonl_handler._session_files import SessionFiles

        self._choice = choice
        self._build(buffer, SessionFiles(directory, prefix, session_id, choice.settings, self))
        super().__init__(level)
        self._files.inherit()
        self._files.tell_problems(choice.problems)
        start_over_in_children(self)

    def _build(self, buffer: RecordBuffer, files: SessionFiles) -> None:
        self._files = files
        self._changing = threading.RLock()
        self._buffer = buffer
        self._listener = BatchQueueListener(buffer, files)
        self._door = Door(buffer, self._open, self._attend)
        self._opening = threading.RLock()
        self._early: deque[logging.LogRecord] = deque()
        self._enabled = files.settings.enabled
        self._closed_once = self._abandoned = False
        self._missed = 0
        self._stuck_at = -1
        files.maintenance.loss = buffer.untold
        buffer.on_loss(files.maintenance.alarm)
        self._listener.on_end = self._writer_ended
        self._listener.on_settled = files.tend
        self._listener.on_stop = self._end_session
        files.keep_safe(buffer)
        files.remark = buffer.remark

    def start_over(self) -> None:
        """In a forked child: forget the parent's session and pending lines; the next record opens a new session."""
        # Until all is built: where there is no memory for a buffer, the old one must not be used.
        self._enabled = False
        old = self._files
        self._files = files = type(old)(old.directory, old.prefix, None, self._choice.settings, self)
        self._build(RecordBuffer(files.settings), files)
        self._use(self.formatter)

    def createLock(self) -> None:
        """None is needed: the buffer has its own, and ``logging.shutdown`` calls `close` under this one."""
        self.lock = None

    def setFormatter(self, fmt: logging.Formatter | None) -> None:
        """Make lines with *fmt*: a `JsonlFormatter`, any other of python-json-logger, or a plain one."""
        super().setFormatter(fmt)
        self._use(fmt)

    def _use(self, fmt: logging.Formatter | None) -> None:
        self._files.seq_names = seq_names(fmt)
        self._door.use(fmt)

    def _affordable(self, choice: Choice, before: Choice) -> Choice:
        try:
            if choice.settings.buffer_bytes != before.settings.buffer_bytes:
                RecordBuffer(choice.settings)
        except NO_MEMORY as error:
            return choice.without_memory(str(error), before)
        return choice

    def _use_settings(self, settings: Settings) -> None:
        super()._use_settings(settings)
        self._enabled = settings.enabled
        if not self._buffer.reconfigure(settings):
            self._files.voice.tell("settings", f"buffer_bytes: so much memory can't be had: {settings.buffer_bytes}")

    # Records.

    def handle(self, record: logging.LogRecord) -> Any:
        """Filter a record and accept it; never raises an `Exception`."""
        try:
            if not self._enabled:
                return False
            if self.filters:
                passed = self._door.filtered(record, self)
                if not passed:
                    return passed
                if isinstance(passed, logging.LogRecord):
                    record = passed
            self._door.way.go(record)
            return record
        except Exception:
            # So near the recursion limit that not even a call can be made; `_count_missed` makes up for it.
            self._missed += 1
            return False

    def emit(self, record: logging.LogRecord) -> None:
        """Accept a record without asking the filters."""
        if self._enabled:
            self._door.way.go(record)

    def write(self, line: bytes | str | Mapping[str, Any], level: int = logging.INFO) -> None:
        """Accept an encoded line, or a mapping to encode, for loggers that have no `LogRecord`.

        A line is trusted to be one JSON object; its newline may be missing, and it gets no
        ``seq``. What is not one line is kept as ``{"message": …, "malformed": true}``.
        """
        if not self._enabled or level < self.level:
            return
        lineage = self._door.lineage
        if lineage is not None:
            self._door.put(line, level, lineage)
            return
        lineage = self._ready()
        if lineage is None:
            self._heir().write(line, level)
        else:
            self._door.put(line, level, lineage)
            if self._closed_once:
                self.flush()

    # Flush and close.

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

    def close(self) -> None:
        """Write what waits, for at most ``close_timeout`` seconds, and end the session.

        A record that comes later is still written, in the same session.
        """
        self.yield_session()
        # Not under our lock: this takes logging's own.
        super().close()

    # What it tells of itself.

    def stats(self) -> Stats:
        """What this handler has done so far."""
        self._count_missed()
        written, dropped, pending = self._buffer.counts()
        return self._files.stats(self.session_id, written, dropped, pending)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._files.directory} {self.session_id or '(no record yet)'}>"

    # Opening and closing.

    def yield_session(self) -> None:
        """Write what waits and give the session up, to the handler that goes on with it or for good."""
        self._count_missed()
        if not self._opening.acquire(timeout=self._patience(None)):
            # Another thread opens the session, on a disk that does not answer.
            self._files.give_up("the session could not be opened within close_timeout")
            return
        try:
            if not self._files.is_superseded:
                with nobody_collects():
                    self._yield_own_session()
        finally:
            self._opening.release()
        # Not under our lock: the heir may be opening the session, and then asks us for it.
        self._pass_on()
        self._take_early()

    def _pass_on(self) -> bool:
        """Give lines that came late to the handler that has the session by now; False when there is none."""
        if not self._files.is_superseded or (heir := self._heir()) is self:
            return False
        self._listener.hand_to(heir.adopt)
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

    def _open(self, record: logging.LogRecord) -> Lineage | None:
        """The session for a first record; None when the record has been seen to."""
        if self._opening._is_owned():  # type: ignore[attr-defined]
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
            try:
                lineage = self._files.open()
            except SupersededError:
                return None
            self._abandoned = False
            self._listener.start()
            close_at_exit(self, reopened=self._closed_once)
            self._door.lineage = lineage
        self._take_early()
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
        if self._opening._is_owned():  # type: ignore[attr-defined]
            return
        if self._ready() is None:
            self._listener.hand_to(self._heir().adopt)
            return
        if self._closed_once or not self._listener.running:
            self.flush()
        if self._closed_once and not self._listener.running:
            # The interpreter is ending: nobody will come to close it.
            self.yield_session()

    def adopt(self, line: bytes) -> None:
        """Accept a line that a closed handler of the same session had encoded."""
        lineage = self._door.lineage or self._ready()
        if lineage is None:
            self._heir().adopt(line)
        else:
            self._door.put(line, logging.INFO, lineage)

    def _heir(self) -> JsonlHandler:
        """The handler that has taken over the session of this one; itself, if that is gone by now."""
        lineage = self._files.lineage
        owner = lineage.owner() if lineage is not None else None
        if isinstance(owner, JsonlHandler):
            return owner
        if owner is not None:
            # One of another kind, which takes no lines.
            self._files.start_anew()
        return self

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
