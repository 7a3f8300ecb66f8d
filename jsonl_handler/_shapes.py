"""Encoders for records of one shape: straight code, compiled for the names of their extras.

A loop over a record's extras, with a look at each name, takes longer than all else that is done for
a record. The names rarely change from one record to the next, so that one comparison of
them all is enough, and what then follows needs no loop.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from json.encoder import encode_basestring
from logging import LogRecord
from typing import Any, Protocol, TypeAlias

from jsonl_handler import _encoding, _values
from jsonl_handler._encoding import SCALARS
from jsonl_handler._record import LEFT_BY_FORMATTERS
from jsonl_handler._truncation import fit
from jsonl_handler._values import json_text, shallow

LineEncoder: TypeAlias = Callable[[LogRecord, str | None, int | None], bytes]

ATTRIBUTES = list(LogRecord("", 0, "", 0, "", (), None).__dict__)
"""What `logging` sets in each record, in its order; behind them stand the extras."""
# What stands in its place, to fill templates of another style or to blacken secrets, knows more than this room.
_GET_MESSAGE = LogRecord.getMessage if getattr(LogRecord.getMessage, "__globals__", None) is vars(logging) else None


class Sink(Protocol):
    """Where records go on as lines: whose they are, how long they may be, and who takes them."""

    lineage: Any
    most: int

    @property
    def append(self) -> Callable[[bytes, int, float], bool]: ...

    @property
    def attend(self) -> Callable[[], None]: ...

    def refuse(self, what: str, error: Exception) -> None: ...


_CONTAINERS: tuple[type, ...] = (dict, list, tuple)
# Others may do anything when they are asked for their text, and must be asked once only.
_KNOWN = frozenset({"datetime", "decimal", "pathlib", "uuid"})

# What is asked of the record by its own methods may be anything; nothing else may go wrong here.
# It is left by `break`, before anybody else gets the record: what he raises must not have it taken twice.
_FIELDS = """
    line = odd = None
    try:
        while True:
            attributes = record.__dict__
            names = [*attributes]
            if names != NAMES:
                odd = names
                break
            message = attributes["msg"]
            level = attributes["levelname"]
            logger = attributes["name"]
            if (
                attributes["exc_info"] or attributes["exc_text"] or attributes["stack_info"]
                or not (type(message) is str is type(level) is type(logger))
                or type(record) is not LogRecord or LogRecord.getMessage is not GET_MESSAGE or {unready}
            ):
                break
            args = attributes["args"]
            if args:
                # The text of an object may do anything, and must be asked for once only.
                if type(args) is not tuple or not SCALARS.issuperset(map(type, args)):
                    break
                message %= args
{extras}
            created = attributes["created"]
            base, shift, prefix = values.milli
            at = floor((created - base) * 1e6 + shift)
            stamp = prefix + MICROS[at] if 0 <= at < 1000 else values.timestamp_text(created)
            if stamp is None:
                break
{last}
            line = {line}
            break
    except Exception:
        # A template that its arguments don't fit, a lone surrogate, an integer over 64 bits: it says so.
        pass
    if line is None:
        return general(record{rest}) if odd is None else other(record, odd{others})
"""
_ENCODER = """
def short(record, session, seq):{fields}
    return line
"""
# One function from the record into the buffer: each call that is saved is 1 % of what a record costs.
_TAKER = """
def short(record):
    lineage, seq = sink.lineage, None{fields}
    try:
        if len(line) > sink.most:
            line = fit(line, sink.most)
        if append(line, number, created):
            attend()
    except Exception as error:
        refuse("could not be encoded", error)
"""
_NUMBER = """
            number = attributes["levelno"]
            if type(number) is not int or type(created) is not float:
                break
            session = lineage.session_id
            seq = lineage.next_seq()
"""


def compiled(
    extras: Mapping[str, type],
    other: Callable[..., Any],
    general: Callable[..., Any],
    *,
    is_stock: Callable[[], bool] | None = None,
    sink: Sink | None = None,
) -> Callable[..., Any]:
    """The short way of records with exactly these *extras*, mostly of these types, behind their own attributes.

    It is called with a record, a session and a number, and returns the line; with a *sink*, which knows the
    latter two, it is called with the record alone. Records that stand otherwise go to *other*, with their names;
    those that need more care to *general*, and all do while *is_stock* says no.
    """
    types = {name: kind for name, kind in extras.items() if name not in LEFT_BY_FORMATTERS}
    scope: dict[str, Any] = {
        "NAMES": [*ATTRIBUTES, *extras],
        "SCALARS": SCALARS,
        "MICROS": _values.MICROS,
        "LogRecord": LogRecord,
        "GET_MESSAGE": _GET_MESSAGE,
        "floor": math.floor,
        "values": _values,
        "special": _special,
        "other": other,
        "general": general,
        "is_stock": is_stock,
        # By identity: a metaclass may refuse to be hashed.
        **{f"T{at}": kind if any(kind is each for each in SCALARS) else str for at, kind in enumerate(types.values())},
    }
    if _encoding.NATIVE_DUMPS is not None:
        scope["dumps"], scope["OPTION"] = _encoding.NATIVE_DUMPS
        line = _as_object([*types])
    else:
        scope["text"], scope["forms"] = encode_basestring, _FORMS
        line = _as_text([*types])
    if sink is not None:
        scope |= {"sink": sink, "append": sink.append, "attend": sink.attend, "refuse": sink.refuse, "fit": fit}
        frame, unready, last, rest, others = _TAKER, "lineage is None", _NUMBER, ", seq, lineage", ""
    else:
        frame, unready, last, rest = _ENCODER, "session is None or seq is None", "", ", session, seq"
        others = rest
    unready += " or not is_stock()" if is_stock is not None else ""
    fetched = "\n".join(map(_fetched, range(len(types)), types))
    fields = _FIELDS.format(unready=unready, extras=fetched, last=last, line=line, rest=rest, others=others)
    source = frame.format(fields=fields)
    exec(compile(source, "<jsonl_handler: an encoder>", "exec"), scope)
    short: Callable[..., Any] = scope["short"]
    return short


def _fetched(at: int, name: str) -> str:
    # The type that it had is asked for first: that is faster, and it seldom changes.
    odd = f"type(v{at}) is not T{at} and type(v{at}) not in SCALARS"
    indent = " " * 12
    return f"{indent}v{at} = attributes[{name!r}]\n{indent}if {odd}: v{at} = special(v{at})"


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
