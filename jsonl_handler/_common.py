"""The short way from a record to its fields, for the records that most programs make; None for all others.

It takes what it needs by its place: the attributes of a record stand in the order in which
`logging` sets them, and what comes behind them are the extras. What it returns is what the
formatter's general way returns; a property test holds them equal.
"""

from __future__ import annotations

from logging import LogRecord
from typing import Any

from jsonl_handler._values import timestamp_text

_ATTRIBUTES = list(LogRecord("", 0, "", 0, "", (), None).__dict__)
_COUNT = len(_ATTRIBUTES)
_LAST_AT = _COUNT - 1
_LAST = _ATTRIBUTES[-1]
_CORE = 6
_SCALARS = frozenset({str, int, float, bool, type(None)})


def common_fields(record: LogRecord, session: str | None, seq: int | None) -> dict[str, Any] | None:
    """The fields of a record whose message is a text and whose extras are plain values; their keys are not checked."""
    attributes = record.__dict__
    names = [*attributes]
    # Behind the last one stand the extras, if no filter has removed one.
    if len(names) < _COUNT or names[_LAST_AT] != _LAST or type(record) is not LogRecord:
        return None
    message, level, logger = record.msg, record.levelname, record.name
    if not (type(message) is str is type(level) is type(logger)):
        return None
    if record.exc_info or record.exc_text or record.stack_info or seq is None:
        return None
    args = record.args
    if args:
        # The text of an object may do anything, and must be asked for once only.
        if type(args) is not tuple or not _SCALARS.issuperset(map(type, args)):
            return None
        message %= args
    fields: dict[str, Any] = {
        "timestamp": timestamp_text(record.created),
        "level": level,
        "logger": logger,
        "message": message,
        "session": session,
        "seq": seq,
    }
    extras = names[_COUNT:]
    if extras:
        if "message" in attributes:
            # Another formatter has left it, and perhaps the time; neither is the record's own.
            extras = [name for name in extras if name not in ("message", "asctime")]
        for name in extras:
            fields[name] = value = attributes[name]
            if type(value) not in _SCALARS:
                return None
        if len(fields) != _CORE + len(extras) or "exception" in fields or "asctime" in fields or "taskName" in fields:
            # An extra has the name of another field.
            return None
    return fields
