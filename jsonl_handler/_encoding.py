"""From a mapping, or from a line that others encoded, to one line of JSON with its newline.

Which values become what is said in `_values`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from jsonl_handler._values import MAX_DEPTH, describe, json_text, object_of, plain, text
from jsonl_handler.errors import ConfigError

Encoder: TypeAlias = Callable[[dict[str, Any]], bytes]

SCALARS = frozenset({str, int, float, bool, type(None)})
"""The types of values that need no look inside."""
_TEXT = frozenset({str})
_NATIVE_DEPTH = 100
_NATIVE_WIDTH = 10_000


def STDLIB_ENCODER(fields: dict[str, Any]) -> bytes:
    """One line, written by the standard library's `json`."""
    if is_native(fields):
        try:
            return f"{json_text(fields)}\n".encode()
        except (ValueError, OverflowError, RecursionError):
            pass  # NaN, a lone surrogate, an integer without end, a caller near the recursion limit
    return _normalised(fields)


ORJSON_ENCODER: Encoder | None = None
"""One line, written by orjson; None where it is not installed (the extra `fast`)."""
NATIVE_DUMPS: tuple[Callable[..., bytes], int] | None = None
"""orjson's `dumps` and the option that ends a line; only for plain values."""

try:
    import orjson
except ImportError:
    pass
else:

    def _by_orjson(fields: dict[str, Any]) -> bytes:
        if is_native(fields):
            try:
                return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)
            except TypeError:
                pass  # a lone surrogate, an integer over 64 bits
        return _normalised(fields)

    ORJSON_ENCODER = _by_orjson
    NATIVE_DUMPS = orjson.dumps, orjson.OPT_APPEND_NEWLINE


def choose_encoder(name: str | None = None) -> Encoder:
    """The encoder named `"orjson"` or `"json"`; without a name the fastest that is installed."""
    if name not in (None, "json", "orjson"):
        raise ConfigError(None, "encoder", f'{name!r} is no encoder; use "orjson", "json" or None')
    if name == "orjson" and ORJSON_ENCODER is None:
        raise ConfigError(None, "encoder", "orjson is not installed; install jsonl-handler[fast]")
    return STDLIB_ENCODER if name == "json" or ORJSON_ENCODER is None else ORJSON_ENCODER


def encode_line(mapping: Mapping[Any, Any]) -> bytes:
    """Any mapping as one line."""
    try:
        fields = mapping if type(mapping) is dict else object_of(mapping.items())
    except Exception as error:
        fields = {"message": text(mapping), "formatter_error": describe(error)}
    return choose_encoder()(fields)


def checked_line(line: bytes | str) -> bytes:
    """A line that the user encoded, with its newline; one that would break the file is wrapped as text.

    It is trusted to be JSON: only what would tear it apart, or no reader could decode, is looked for.
    """
    if type(line) is bytes and line.isascii() and line.startswith(b"{") and b"\r" not in line and b"\0" not in line:
        # What encoders make.
        end = line.find(b"\n")
        if end < 0:
            return line + b"\n"
        if end == len(line) - 1:
            return line
    try:
        raw = line.encode("utf-8", "surrogatepass") if isinstance(line, str) else bytes(memoryview(line))
    except TypeError:
        return encode_line({"message": line, "malformed": True})
    body = raw[:-1] if raw.endswith(b"\n") else raw
    if body.endswith(b"\r"):
        body = body[:-1]
    # A reader in text mode ends lines at a bare carriage return too.
    if not (b"\n" in body or b"\r" in body or b"\0" in body) and body.strip() and _decodes(body):
        return body + b"\n"
    told = line if isinstance(line, str) else raw.decode("utf-8", "backslashreplace")
    return encode_line({"message": told, "malformed": True})


def foreign_line(written: object) -> bytes:
    """What a foreign JSON formatter returned as one line; what is no JSON object becomes its `message`."""
    raw = written.decode("utf-8", "backslashreplace") if isinstance(written, bytes) else text(written)
    try:
        parsed = json.loads(raw)
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict):
        return encode_line({"message": raw})
    # json.loads is laxer than RFC 8259: it takes NaN and the escape of a lone surrogate.
    if _is_strict(raw) and not any(part in raw for part in ("\n", "\r", "\\ud", "\\uD")):
        return raw.strip().encode() + b"\n"
    return encode_line(parsed)


def is_native(value: Any) -> bool:
    """Whether both encoders write *value*, a container, alike, and safely, as it is.

    orjson must see exact basic types only: it crashes on an Enum whose value can't be read and on an
    unfinished UUID, nests tuples without a limit, and trusts `orjson.Fragment`; json writes the keys 1 and
    "1" as one name twice.
    The levels are walked one by one: a cycle ends at the depth limit, or at the width limit if it branches.
    """
    try:
        level: list[Any] = [value]
        for _ in range(_NATIVE_DEPTH):
            deeper: list[Any] = []
            for container in level:
                values: Iterable[Any] = container
                if type(container) is dict:
                    if not _TEXT.issuperset(map(type, container)):
                        return False
                    values = container.values()
                if SCALARS.issuperset(map(type, values)):
                    continue
                for inner in values:
                    kind = type(inner)
                    if kind is dict or kind is list or kind is tuple:
                        deeper.append(inner)
                    elif kind not in SCALARS:
                        return False
                if len(deeper) > _NATIVE_WIDTH:
                    return False
            if not deeper:
                return True
            level = deeper
    except Exception:
        pass  # another thread changed it meanwhile, or a metaclass can't be hashed
    return False


def _normalised(fields: dict[str, Any]) -> bytes:
    for max_depth in (MAX_DEPTH, 30, 3, 1):
        try:
            form = plain(fields, max_depth)
            # Near the recursion limit even the outermost object may have become a text.
            if isinstance(form, dict):
                return f"{json_text(form)}\n".encode()
        except RecursionError:
            continue
    raise RecursionError("too near the recursion limit for any line")


def _is_strict(raw: str) -> bool:
    try:
        json.loads(raw, parse_constant=_refuse)
    except ValueError:
        return False
    return True


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _decodes(body: bytes) -> bool:
    try:
        return body.isascii() or body.decode() != ""
    except UnicodeDecodeError:
        return False
