"""Where records come in: each becomes a line with its session and `seq`, and goes into the buffer.

It never raises an `Exception`: what can't be kept is counted as dropped.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from jsonl_handler._buffer import RecordBuffer
from jsonl_handler._clock import now
from jsonl_handler._common import OneWay, Way
from jsonl_handler._encoding import checked_line
from jsonl_handler._lineage import Lineage
from jsonl_handler._lines import encode_event, encoder_of, short_way
from jsonl_handler._truncation import fit


class Door:
    """The way of a record into one buffer; ``way.go(record)`` is the fastest there is."""

    __slots__ = ("__weakref__", "_buffer", "_encode", "_open", "append", "attend", "lineage", "most", "way")

    def __init__(
        self,
        buffer: RecordBuffer,
        open_session: Callable[[logging.LogRecord], Lineage | None],
        attend: Callable[[], None],
    ) -> None:
        """*open_session* answers for a first record: whose it is, or None when the record has been seen to.

        *attend* is called when a line was accepted and no writer is there.
        """
        self.lineage: Lineage | None = None
        self.most = buffer.settings.max_record_bytes
        buffer.serve(self)
        self._buffer = buffer
        self.append = buffer.append
        self._open = open_session
        self.attend = attend
        self.use(None)

    def use(self, formatter: logging.Formatter | None) -> None:
        """Make lines with *formatter* from now on; None for the default ones."""
        self._encode = encoder_of(formatter)
        self.way: Way = short_way(formatter, self.accept, sink=self) or OneWay(self.accept)

    def filtered(self, record: logging.LogRecord, filters: logging.Filterer) -> Any:
        """The record that the filters let through, else something false; one that makes them fail is counted."""
        try:
            passed: Any = filters.filter(record)
        except Exception as error:
            self.refuse("made a filter fail", error)
            return False
        return passed

    def accept(self, record: logging.LogRecord, seq: int | None = None, lineage: Lineage | None = None) -> None:
        """Take any record; *seq* is its number, if it has been given one by *lineage*."""
        try:
            lineage = lineage or self.lineage or self._open(record)
            if lineage is None:
                return
            line = self._encode(record, lineage.session_id, lineage.next_seq() if seq is None else seq)
            if len(line) > self.most:
                line = fit(line, self.most)
            try:
                unattended = self.append(line, record.levelno, record.created)
            except (AttributeError, TypeError):
                # A filter has taken or changed what every record has.
                unattended = self.append(line, *_level_and_time(record))
            if unattended:
                self.attend()
        except Exception as error:
            self.refuse("could not be encoded", error)

    def line(self, record: logging.LogRecord, lineage: Lineage) -> bytes:
        """The line of a record, with its number."""
        return fit(self._encode(record, lineage.session_id, lineage.next_seq()), self.most)

    def put(self, line: bytes | str | Mapping[str, Any], level: int, lineage: Lineage) -> None:
        """Take a line that is encoded already, or a mapping that becomes one."""
        try:
            moment = now()
            if isinstance(line, (bytes, str)):
                encoded = checked_line(line)
            else:
                encoded = encode_event(line, level, moment, lineage.session_id, lineage.next_seq())
            if len(encoded) > self.most:
                encoded = fit(encoded, self.most)
            if self.append(encoded, level, moment):
                self.attend()
        except Exception as error:
            self.refuse("could not be encoded", error)

    def refuse(self, what: str, error: Exception) -> None:
        """Count a record that can't be kept."""
        self._buffer.lose(f"a record {what} ({type(error).__name__})")


def _level_and_time(record: logging.LogRecord) -> tuple[int, float]:
    level = getattr(record, "levelno", logging.INFO)
    created = getattr(record, "created", None)
    return (
        level if isinstance(level, int) else logging.INFO,
        float(created) if isinstance(created, (int, float)) else now(),
    )
