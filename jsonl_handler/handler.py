"""`JsonlHandler`: the front door, for records and for lines that are encoded already."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

from jsonl_handler._buffer import RecordBuffer
from jsonl_handler._fork import start_over_in_children
from jsonl_handler._journal import NO_MEMORY
from jsonl_handler._lines import seq_names
from jsonl_handler._opening import OpeningHandler
from jsonl_handler._reconfiguring import Choice
from jsonl_handler._status import Stats
from jsonl_handler.settings import Settings


class JsonlHandler(OpeningHandler):
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
