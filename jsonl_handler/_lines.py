"""How a record or an event becomes a line, whatever its formatter.

No `Exception` leaves here.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Protocol

from pythonjsonlogger.core import BaseJsonFormatter

from jsonl_handler._common import ShortWay
from jsonl_handler._encoding import checked_line, encode_line, foreign_line
from jsonl_handler._shapes import LineEncoder
from jsonl_handler._values import describe, free_name, object_of, text, timestamp_text
from jsonl_handler.formatter import DEFAULT, RESERVED, JsonlFormatter, overrides, rescued


class Way(Protocol):
    """How records become lines; *encode* must be asked for anew for each record."""

    encode: LineEncoder


class _OneWay:
    __slots__ = ("encode",)

    def __init__(self, encode: LineEncoder) -> None:
        self.encode: LineEncoder = encode


def way_of(formatter: logging.Formatter | None) -> Way:
    """The way (record, session, seq) → line of any formatter; it never raises an `Exception`.

    Another JSON formatter's object is kept as it is if it is valid JSON; the text of a plain formatter
    becomes the one field `message`. Without a formatter it is `JsonlFormatter()`.
    """
    if formatter is None:
        return ShortWay(DEFAULT.encode, RESERVED)
    return _OneWay(_stock(formatter) if type(formatter) is JsonlFormatter else _encoder(formatter))


def _stock(formatter: JsonlFormatter) -> LineEncoder:
    # Its options may be changed at any time.
    short, general = ShortWay(formatter.encode, RESERVED), formatter.encode

    def encode(record: logging.LogRecord, session: str | None, seq: int | None) -> bytes:
        return (short.encode if formatter.is_stock() else general)(record, session, seq)

    return encode


def _encoder(formatter: logging.Formatter) -> LineEncoder:
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
