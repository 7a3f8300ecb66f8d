"""How a record or an event becomes a line, whatever its formatter.

No `Exception` leaves here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from pythonjsonlogger.core import BaseJsonFormatter

from jsonl_handler._common import OneWay, ShortWay, Way
from jsonl_handler._encoding import checked_line, encode_line, foreign_line
from jsonl_handler._shapes import LineEncoder, Sink
from jsonl_handler._values import describe, free_name, object_of, text, timestamp_text
from jsonl_handler.formatter import DEFAULT, RESERVED, JsonlFormatter, overrides, rescued


def way_of(formatter: logging.Formatter | None) -> Way:
    """The way (record, session, seq) → line of any formatter; it never raises an `Exception`."""
    encode = encoder_of(formatter)
    return short_way(formatter, encode) or OneWay(encode)


def short_way(formatter: logging.Formatter | None, general: Callable[..., Any], sink: Sink | None = None) -> Way | None:
    """A faster way to do what *general* does (see there), where lines are the default ones; None where they are not."""
    if formatter is None:
        return ShortWay(general, RESERVED, sink=sink)
    if type(formatter) is JsonlFormatter:
        # Its options may be changed at any time.
        return ShortWay(general, RESERVED, is_stock=formatter.is_stock, sink=sink)
    return None


def encoder_of(formatter: logging.Formatter | None) -> LineEncoder:
    """(record, session, seq) → line, for any record; it never raises an `Exception`.

    Another JSON formatter's object is kept as it is if it is valid JSON; the text of a plain formatter
    becomes the one field `message`. Without a formatter it is `JsonlFormatter()`.
    """
    if formatter is None:
        return DEFAULT.encode
    if isinstance(formatter, JsonlFormatter):
        if overrides(formatter, "encode"):
            return _checked(formatter)
        if not overrides(formatter, "format"):
            return formatter.encode
    as_line = foreign_line if isinstance(formatter, BaseJsonFormatter) else _text_line

    def encode(record: logging.LogRecord, session: str | None, seq: int | None) -> bytes:
        try:
            return as_line(formatter.format(record))
        except Exception as error:
            return rescued(record, session, seq, error)

    return encode


def seq_names(formatter: logging.Formatter | None) -> tuple[str, str]:
    """What *formatter* calls `session` and `seq`."""
    renamed = formatter.rename_fields if isinstance(formatter, JsonlFormatter) else {}
    return renamed.get("session", "session"), renamed.get("seq", "seq")


def encode_event(
    event: Mapping[Any, Any], level: int, created: float, session: str | None = None, seq: int | None = None
) -> bytes:
    """A mapping as one line: `timestamp` and `level` unless it has them, `session`, `seq`, its own fields."""
    try:
        own = object_of(event.items())
    except Exception as error:
        own = {"message": text(event), "formatter_error": describe(error)}
    fields: dict[str, Any] = {}
    if "timestamp" not in own:
        fields["timestamp"] = timestamp_text(created)
    if "level" not in own:
        fields["level"] = logging.getLevelName(level)
    if session is not None:
        fields["session"] = session
    if seq is not None:
        fields["seq"] = seq
    taken = {"session", "seq"}
    for name, value in own.items():
        fields[free_name(name, fields, taken)] = value
    return encode_line(fields)


def _checked(formatter: JsonlFormatter) -> LineEncoder:
    def encode(record: logging.LogRecord, session: str | None, seq: int | None) -> bytes:
        try:
            return checked_line(formatter.encode(record, session, seq))
        except Exception as error:
            return rescued(record, session, seq, error)

    return encode


def _text_line(written: object) -> bytes:
    return encode_line({"message": text(written)})
