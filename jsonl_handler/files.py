"""`RotatingSessionJsonlHandler`: the file side as a plain, synchronous `logging.Handler`."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jsonl_handler._arena import Cursor, Marks
from jsonl_handler._at_exit import close_at_exit
from jsonl_handler._clock import now
from jsonl_handler._dates import OpenDate
from jsonl_handler._fork import start_over_in_children
from jsonl_handler._lineage import Lineage, SupersededError
from jsonl_handler._lines import seq_names, way_of
from jsonl_handler._reconfiguring import Choice
from jsonl_handler._session_files import SessionFiles
from jsonl_handler._session_handler import SessionHandler
from jsonl_handler._status import Stats, Voice
from jsonl_handler._truncation import fit
from jsonl_handler._values import timestamp_text
from jsonl_handler.errors import ConfigError
from jsonl_handler.settings import KEYS

FILE_SETTINGS = frozenset(
    {
        "max_record_bytes",
        "max_file_bytes",
        "max_age_days",
        "max_total_bytes",
        "max_files",
        "min_free_bytes",
        "compress",
        "fsync",
        "enabled",
        "context",
        "file_mode",
    }
)


@dataclass(slots=True)
class _Unfinished:
    """A line on its way into the file: a record's, or one of the package itself, which *tells* of lost ones."""

    line: bytes
    marks: Marks
    ours: bool = False
    tells: int = 0
    cursor: Cursor = field(default_factory=lambda: Cursor(0))


class RotatingSessionJsonlHandler(SessionHandler):
    """Writes each record at once, in the calling thread: alone, or as the target of a stock `QueueListener`.

    *settings* are those keys of `Settings` that concern files; the others, which concern the
    buffer, raise `ConfigError`. A line that the disk refuses is dropped, counted and told.
    """

    # In a `with` statement Ctrl-C can't part it from what it guards, as it can `acquire`.
    lock: threading.RLock

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
        self._choice = choice = Choice.of(settings, strict=strict)
        check_keys(choice.given)
        self._way = way_of(None)
        self._build(SessionFiles(directory, prefix, session_id, choice.settings, self))
        super().__init__(level)
        self._files.inherit()
        self._files.tell_problems(choice.problems)
        start_over_in_children(self)

    def _build(self, files: SessionFiles) -> None:
        self._files = files
        self._changing = threading.RLock()
        self._date = OpenDate()
        self._unfinished: _Unfinished | None = None
        self._nested: deque[logging.LogRecord] = deque()
        self._remarks: deque[bytes] = deque()
        files.remark = self._remarks.append
        self._busy = self._closed_once = False
        self._written = self._dropped = self._untold = 0

    def start_over(self) -> None:
        """In a forked child: forget the parent's session; the next record opens a new one."""
        files = self._files
        self._build(SessionFiles(files.directory, files.prefix, None, self._choice.settings, self))
        self._files.seq_names = seq_names(self.formatter)

    def _check(self, given: Mapping[str, object]) -> None:
        super()._check(given)
        check_keys(given)

    @property
    def voice(self) -> Voice:
        """Where trouble is told."""
        return self._files.voice

    def setFormatter(self, fmt: logging.Formatter | None) -> None:
        """Make lines with *fmt*; None for the default ones."""
        super().setFormatter(fmt)
        self._files.seq_names = seq_names(fmt)
        self._way = way_of(fmt)

    def handle(self, record: logging.LogRecord) -> Any:
        """Filter a record and write it; never raises an `Exception`."""
        if not self.settings.enabled:
            return False
        try:
            # Not `super().handle`, which holds the lock meanwhile: an heir has a lock of its own.
            passed: Any = self.filter(record)
            if passed:
                self.emit(passed if isinstance(passed, logging.LogRecord) else record)
            return passed
        except Exception as error:
            self._lose(error)
            return False

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        with self.lock:
            heir = self._heir()
            if heir is None:
                self._write_all(record)
        if heir is not None:
            heir.handle(record)

    def write_batch(self, lines: Any, cursor: Cursor, end: int, marks: Marks) -> bool:
        """Write ``lines[cursor.at:end]`` for a `BatchQueueListener`; False after trouble, *cursor* shows how far.

        *lines* are bytes or a mmap of whole lines, *marks* pairs (offset, days since the epoch).
        """
        with self.lock:
            return self._finish() and self._files.write_batch(lines, cursor, end, marks)

    def own_line(self, message: str, **fields: object) -> bytes:
        """A line of the package itself."""
        return self._files.own_line(message, **fields)

    def open(self) -> Lineage:
        """Claim the session, if that is not done."""
        with self.lock:
            try:
                return self._files.open()
            except SupersededError:
                self._files.start_anew()
                return self._files.open()

    def close(self) -> None:
        """End the session; a record that comes later takes it up again."""
        self.yield_session()
        super().close()

    def _heir(self) -> logging.Handler | None:
        """The handler that has taken over the session of this one, which is closed."""
        lineage = self._files.lineage
        owner: logging.Handler | None = lineage.owner() if lineage is not None and self._closed_once else None
        return None if owner is self else owner

    def yield_session(self) -> None:
        """Give the session up, to the handler that goes on with it or for good."""
        with self.lock:
            # What was recovered until now is told in the stream.
            self._files.maintenance.stop()
            if self._finish() and self._tell_loss():
                self._say_remarks()
            self._files.close()
            self._closed_once = True

    def stats(self) -> Stats:
        """What this handler has done so far; lines of a `BatchQueueListener` count in its buffer, not here."""
        rest = self._unfinished
        pending = 0 if rest is None or rest.ours else 1
        return self._files.stats(self.session_id, self._written, self._dropped, pending)

    def _write_all(self, record: logging.LogRecord) -> None:
        if self._busy:
            # A signal handler or a `__del__` logs while this very thread writes.
            self._nested.append(record)
            return
        self._busy = True
        try:
            self._write(record)
            while self._nested:
                self._write(self._nested.popleft())
        finally:
            self._busy = False

    def _write(self, record: logging.LogRecord) -> None:
        try:
            lineage = self.open()
            close_at_exit(self, reopened=self._closed_once)
            line = self._way.go(record, lineage.session_id, lineage.next_seq())
            day = self._day_of(getattr(record, "created", None))
            if self._finish() and self._tell_loss() and self._say_remarks():
                self._unfinished = _Unfinished(fit(line, self.settings.max_record_bytes), [(0, day)])
                self._finish()
            else:
                self._count_lost()
        except Exception as error:
            self._lose(error)

    def _day_of(self, created: object) -> int:
        moment = created if isinstance(created, (int, float)) else now()
        if not self._date.start <= moment < self._date.end:
            self._date.turn(moment)
        return self._date.day

    def _finish(self) -> bool:
        """Write a line, or the rest of one that an error cut in two: that must come before any other."""
        rest = self._unfinished
        if rest is None:
            return True
        if not self._files.write_batch(rest.line, rest.cursor, len(rest.line), rest.marks):
            if rest.cursor.at == 0:
                # Nothing of it is in the file.
                self._unfinished = None
                if not rest.ours:
                    self._count_lost()
                elif not rest.tells:
                    self._remarks.appendleft(rest.line)
            return False
        self._unfinished = None
        if rest.tells:
            self._untold -= rest.tells
            reason = self._files.outage.last_error
            self.voice.tell("loss", f"{rest.tells} records dropped: {reason}", count=rest.tells)
        elif not rest.ours:
            self._written += 1
        return True

    def _tell_loss(self) -> bool:
        """Write the line that tells of what was dropped, as soon as something can be written."""
        if not self._untold:
            return True
        count = self._untold
        text = f"{count} records dropped until {timestamp_text(now())}: they could not be written"
        line = self.own_line(text, dropped=count, reason=self._files.outage.last_error)
        self._unfinished = _Unfinished(line, self._today(), ours=True, tells=count)
        return self._finish()

    def _say_remarks(self) -> bool:
        """Write what the package itself has to say; it comes from the maintenance thread."""
        while self._remarks:
            self._unfinished = _Unfinished(self._remarks.popleft(), self._today(), ours=True)
            if not self._finish():
                return False
        return True

    def _today(self) -> Marks:
        return [(0, self._date.day if self._date.known else self._day_of(None))]

    def _lose(self, error: Exception) -> None:
        with self.lock:
            self._files.outage.last_error = f"a record could not be written ({type(error).__name__})"
            self._count_lost()

    def _count_lost(self) -> None:
        self._dropped += 1
        self._untold += 1


def check_keys(given: Iterable[str]) -> None:
    """Raise `ConfigError` for a setting that only the buffer has; what is no key at all `Settings.load` tells of."""
    for key in given:
        if key in KEYS and key not in FILE_SETTINGS:
            raise ConfigError(None, key, "is a setting of the buffer, which only JsonlHandler has; remove it")
