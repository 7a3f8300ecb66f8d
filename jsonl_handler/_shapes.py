"""Encoders for records of one shape: straight code, compiled for the names of their extras.

A loop over a record's extras, with a look at each name, takes longer than all else that is done for
a record. The names rarely change from one record to the next, so that one comparison of
them all is enough, and what then follows needs no loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from json.encoder import encode_basestring
from logging import LogRecord
from typing import Any, TypeAlias

from jsonl_handler import _encoding, _values
from jsonl_handler._encoding import SCALARS
from jsonl_handler._record import LEFT_BY_FORMATTERS
from jsonl_handler._values import json_text, shallow

LineEncoder: TypeAlias = Callable[[LogRecord, str | None, int | None], bytes]
Other: TypeAlias = Callable[[LogRecord, list[str], str | None, int | None], bytes]

ATTRIBUTES = list(LogRecord("", 0, "", 0, "", (), None).__dict__)
"""What `logging` sets in each record, in its order; behind them stand the extras."""

_CONTAINERS: tuple[type, ...] = (dict, list, tuple)
# Others may do anything when they are asked for their text, and must be asked once only.
_KNOWN = frozenset({"datetime", "decimal", "pathlib", "uuid"})

# What is asked of the record by its own methods may be anything; nothing else may go wrong here.
_SOURCE = """
def encode(record, session, seq):
    try:
        attributes = record.__dict__
        names = [*attributes]
        if names != NAMES:
            return other(record, names, session, seq)
        message = attributes["msg"]
        level = attributes["levelname"]
        logger = attributes["name"]
        if (
            attributes["exc_info"] or attributes["exc_text"] or attributes["stack_info"]
            or not (type(message) is str is type(level) is type(logger))
            or type(record) is not LogRecord or session is None or seq is None
        ):
            return general(record, session, seq)
        args = attributes["args"]
        if args:
            # The text of an object may do anything, and must be asked for once only.
            if type(args) is not tuple or not SCALARS.issuperset(map(type, args)):
                return general(record, session, seq)
            message %= args
{extras}
        created = attributes["created"]
        base, first, prefix = values.milli
        at = int((created - base) * 1e6 + 0.5) - first
        stamp = prefix + MICROS[at] if 0 <= at < 1000 else values.timestamp_text(created)
        return {line}
    except Exception:
        # A template that its arguments don't fit, a lone surrogate, an integer over 64 bits: it says so.
        return general(record, session, seq)
"""


def compiled(extras: Sequence[str], other: Other, general: LineEncoder) -> LineEncoder:
    """The encoder of records with exactly these *extras* behind their own attributes.

    Those that stand otherwise go to *other*, with their names; those that need more care to *general*.
    """
    names = [name for name in extras if name not in LEFT_BY_FORMATTERS]
    scope: dict[str, Any] = {
        "NAMES": [*ATTRIBUTES, *extras],
        "SCALARS": SCALARS,
        "MICROS": _values.MICROS,
        "LogRecord": LogRecord,
        "values": _values,
        "special": _special,
        "other": other,
        "general": general,
    }
    fetched = [
        f"        v{at} = attributes[{name!r}]\n        if type(v{at}) not in SCALARS: v{at} = special(v{at})"
        for at, name in enumerate(names)
    ]
    if _encoding.NATIVE_DUMPS is not None:
        scope["dumps"], scope["OPTION"] = _encoding.NATIVE_DUMPS
        line = _as_object(names)
    else:
        scope["text"], scope["forms"] = encode_basestring, _FORMS
        line = _as_text(names)
    source = _SOURCE.format(extras="\n".join(fetched), line=line)
    exec(compile(source, "<jsonl_handler: an encoder>", "exec"), scope)
    encoder: LineEncoder = scope["encode"]
    return encoder


def _as_object(names: Sequence[str]) -> str:
    pairs = "".join(f", {name!r}: v{at}" for at, name in enumerate(names))
    return (
        'dumps({"timestamp": stamp, "level": level, "logger": logger, "message": message,'
        f' "session": session, "seq": seq{pairs}}}, None, OPTION)'
    )


def _as_text(names: Sequence[str]) -> str:
    # Literals side by side are one for the compiler; those that hold names are no f-strings, so braces are safe.
    parts = [
        """'{"timestamp":"' f'{stamp}' '","level":' f'{text(level)}' ',"logger":' f'{text(logger)}'""",
        """',"message":' f'{text(message)}' ',"session":"' f'{session}' '","seq":' f'{seq}'""",
    ]
    for at, name in enumerate(names):
        key = f",{json_text(name)}:"
        parts.append(f"{key!r} f'{{forms[type(v{at})](v{at})}}'")
    return f"({' '.join(parts)} '}}\\n').encode()"


def _special(value: Any) -> Any:
    """What is written of a value that is no scalar; raises where that takes the general way."""
    kind = type(value)
    if kind in _CONTAINERS and _encoding.is_native(value):
        return value
    if kind.__module__ in _KNOWN:
        form = shallow(value)
        if type(form) in SCALARS:
            return form
    raise TypeError("it needs more care")


def _float_text(number: float) -> str:
    if number - number != 0.0:
        raise ValueError("JSON has no such number")
    return repr(number)


_FORMS: dict[type, Callable[[Any], str]] = {
    str: encode_basestring,
    int: int.__repr__,
    float: _float_text,
    bool: {True: "true", False: "false"}.__getitem__,
    type(None): lambda nothing: "null",
    **dict.fromkeys(_CONTAINERS, json_text),
}
