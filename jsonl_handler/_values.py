"""What every Python value becomes in JSON.

The result is made of `str`, `int`, finite `float`, `bool`, `None`, `list` and `dict` with text keys;
writing it as bytes is the job of `_encoding`.
No value raises: what can't be read becomes a text that says so.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime
import enum
import json
import math
import sys
import time
from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeAlias

MAX_DEPTH = 300
"""Deepest nesting that is kept: `json.loads` must still read it under the usual recursion limit of 1,000."""
MAX_VALUES = 500_000
"""Most values kept of one record: containers that share each other can stand for more than any memory."""
CYCLE = "<cycle>"
TOO_DEEP = "<nested too deep>"
TOO_MANY = "<too many values>"

Json: TypeAlias = str | int | float | bool | list[Any] | dict[str, Any] | None

json_text = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False, check_circular=False).encode
"""Compact JSON text of what `plain` returned."""


def plain(value: object, max_depth: int = MAX_DEPTH) -> Json:
    """The JSON form of *value*, all the way down.

    The walk keeps its own stack, so that a caller near the recursion limit can log too.
    """
    holder: list[Any] = [value]
    path: list[tuple[Any, Iterable[Any], object]] = [(holder, iter((0,)), holder)]
    open_ids: set[int] = set()
    values = 0
    while path:
        container, slots, source = path[-1]
        for slot in slots:
            raw = container[slot]
            values += 1
            if id(raw) in open_ids:
                container[slot] = CYCLE
                continue
            form = shallow(raw) if values <= MAX_VALUES else TOO_MANY
            if isinstance(form, (list, dict)) and len(path) > max_depth:
                form = TOO_DEEP
            container[slot] = form
            if isinstance(form, (list, dict)):
                # The path keeps *raw* alive: the id of a dead object may be given to another one.
                path.append((form, iter(form if isinstance(form, dict) else range(len(form))), raw))
                open_ids.add(id(raw))
                break
        else:
            path.pop()
            open_ids.discard(id(source))
    return holder[0]  # type: ignore[no-any-return]


def shallow(value: object) -> Json:
    """The JSON form of *value*, with the children of a container left as they are."""
    try:
        return _form(value)
    except Exception:
        return text(value)


def text(value: object) -> str:
    """`str(value)`, or a text that says why there is none."""
    try:
        return clean(str(value))
    except Exception as error:
        return clean(f"<{qualified_name(type(value))}: str() raised {qualified_name(type(error))}>")


def clean(raw: str) -> str:
    """*raw* as an exact `str` that UTF-8 can hold: a lone surrogate becomes the text of its escape."""
    exact = str.__str__(raw)
    if exact.isascii():
        return exact
    try:
        exact.encode()
    except UnicodeEncodeError:
        return exact.encode("utf-8", "backslashreplace").decode()
    return exact


def key_text(key: object) -> str:
    """The name under which the entry *key* of a mapping is written."""
    form = shallow(key)
    if isinstance(form, str):
        return form
    return text(key) if isinstance(form, (list, dict)) else json_text(form)


def object_of(pairs: Iterable[tuple[object, object]]) -> dict[str, Any]:
    """A dict with text keys; a converted key steps aside for one that was text from the start."""
    listed = list(pairs)
    names = {key for key, _ in listed if type(key) is str and clean(key) is key}
    result: dict[str, Any] = {}
    for key, value in listed:
        if type(key) is str and key in names and key not in result:
            result[key] = value
        else:
            result[free_name(key_text(key), result, names)] = value
    return result


def free_name(name: str, fields: Collection[str], reserved: Collection[str] = ()) -> str:
    """*name* with as many underscores as it takes to be new; past eight, with a number.

    The number keeps thousands of keys with one text from growing thousands of underscores.
    """
    for _ in range(8):
        if name not in fields and name not in reserved:
            return name
        name += "_"
    number = len(fields)
    while f"{name}{number}" in fields or f"{name}{number}" in reserved:
        number += 1
    return f"{name}{number}"


def qualified_name(cls: type) -> str:
    """The name of a class as a traceback shows it: without its module if that is builtins or __main__."""
    try:
        module, name = cls.__module__, cls.__qualname__
        return clean(name if module in ("builtins", "__main__") else f"{module}.{name}")
    except Exception:
        return "<nameless>"


def describe(error: BaseException) -> str:
    """One line of text about an error: its class and its message."""
    return f"{qualified_name(type(error))}: {text(error)}"


MICROS = [f"{number:03}Z" for number in range(1000)]
"""The end of a timestamp: microseconds within a millisecond, and the zone."""
_MILLIS = [f".{number:03}" for number in range(1000)]
_second = (0.0, "1970-01-01T00:00:00")
# One tuple is read and replaced at once, so threads need no lock. It begins a second early, where no number is below 0.
milli: tuple[float, float, str] = (-1.0, -999_999.5, "1970-01-01T00:00:00.000")
"""The last millisecond: a second before its own; what the microseconds since then lack to those since it began, and
half a one to round by; and the text up to it."""


def timestamp_text(created: Any) -> str | None:
    """Seconds since the epoch as RFC 3339 text in UTC, six digits; None if the calendar has no such time."""
    global milli, _second
    try:
        if type(created) is not float:
            # One of less precision would make the next times wrong.
            created = float(created + 0)
        base, shift, prefix = milli
        at = math.floor((created - base) * 1e6 + shift)
        if not 0 <= at < 1000:
            base = math.floor(created) - 1.0
            since = math.floor((created - base) * 1e6 + 0.5)
            if since == 2_000_000:
                base, since = base + 1.0, 1_000_000
            second, text_of_second = _second
            if second != base + 1:
                # Not by `datetime`: adding a timedelta crashes CPython 3.13.0 at the interpreter's end.
                year, month, day, hour, minute, whole = time.gmtime(base + 1)[:6]
                if not 1 <= year <= 9999:
                    return None
                text_of_second = f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{whole:02}"
                _second = (base + 1, text_of_second)
            millis, at = divmod(since - 1_000_000, 1000)
            prefix = text_of_second + _MILLIS[millis]
            milli = (base, 0.5 + at - since, prefix)
        stamp: str = prefix + MICROS[at]
        return stamp
    except Exception:
        return None


_SEQUENCES: tuple[type[Any], ...] = (
    list,
    tuple,
    set,
    frozenset,
    collections.deque,
    type({}.keys()),
    type({}.values()),
    type({}.items()),
)


def _form(value: Any) -> Json:
    # Only `type(value)` is asked: `__class__` may lie or raise. Subclasses of the basic types are read
    # through the base, so that no overridden method can fail or surprise.
    cls = type(value)
    if cls is str:
        return clean(value)
    if value is None or cls is bool:
        return value  # type: ignore[no-any-return]
    if issubclass(cls, enum.Enum):
        return _form(value.value)
    if issubclass(cls, str):
        return clean(value)
    if issubclass(cls, int):
        return _integer(int.__int__(value))
    if issubclass(cls, float):
        number = float.__float__(value)
        return number if math.isfinite(number) else None
    if issubclass(cls, dict):
        return object_of(dict.items(value))
    for base in _SEQUENCES:
        if issubclass(cls, base):
            return list(base.__iter__(value))
    if issubclass(cls, (bytes, bytearray, memoryview)):
        return bytes(memoryview(value)).decode("utf-8", "backslashreplace")
    if issubclass(cls, (datetime.date, datetime.time)):
        return _form(value.isoformat())
    if issubclass(cls, datetime.timedelta):
        return datetime.timedelta.total_seconds(value)
    if issubclass(cls, BaseException):
        return {"type": qualified_name(cls), "message": text(value)}
    if issubclass(cls, type):
        return qualified_name(value)
    if dataclasses.is_dataclass(cls):
        return {field.name: _attribute(value, field.name) for field in dataclasses.fields(cls)}
    numpy = sys.modules.get("numpy")
    if numpy is not None and issubclass(cls, numpy.generic):
        return _form(value.item())
    if numpy is not None and issubclass(cls, numpy.ndarray):
        return _form(value.tolist())
    # Asked of the class: a mock has every method one asks an instance for.
    if callable(getattr(cls, "model_dump", None)):
        return _form(value.model_dump())
    if issubclass(cls, Mapping):
        return object_of(value.items())
    return text(value)


def _integer(number: int) -> int | str:
    # The interpreter refuses to write, and readers refuse to read, more than `sys.get_int_max_str_digits()`
    # digits; the least limit one can set is 640 digits.
    if number.bit_length() > 2_000:
        try:
            int.__repr__(number)
        except ValueError:
            return hex(number)
    return number


def _attribute(value: object, name: str) -> object:
    try:
        return getattr(value, name)
    except Exception as error:
        return f"<{name}: reading it raised {qualified_name(type(error))}>"
