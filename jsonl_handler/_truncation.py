"""Cut a line that is too long down to valid JSON that says so."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable
from typing import Any

from jsonl_handler._values import free_name, json_text, plain

WHOLE = ("timestamp", "level", "logger", "session", "seq")
"""Fields that name the record and are not cut, as long as they take at most half of the limit."""

_MARK = "…"
_LEAST = 16
"""Bytes that every kept value gets at least: enough to see what it was."""
_CUT_DEPTH = 30
"""Containers deeper than this are cut as text: the cutting calls itself, and recursion is finite."""


def fit(line: bytes, limit: int) -> bytes:
    """*line* if it has at most *limit* bytes, else a valid line that has; *limit* is at least 1,024."""
    if len(line) <= limit:
        return line
    try:
        fields = plain(json.loads(line))
        if isinstance(fields, dict):
            return _fit_object(fields, limit)
    except (ValueError, RecursionError):
        pass  # trusted to be JSON, but it was not, or is nested too deep to be read back
    message = line.decode("utf-8", "backslashreplace").rstrip("\r\n")
    return _fit_object({"message": message}, limit)


def _fit_object(fields: dict[str, Any], limit: int) -> bytes:
    if "truncated" in fields:
        other = free_name("truncated_", fields)
        fields = {other if name == "truncated" else name: part for name, part in fields.items()}
    told = ',"truncated":true}\n'
    whole: set[str] = set()
    room = limit // 2
    for name in WHOLE:
        if name in fields and (room := room - _size(name) - _size(fields[name]) - 2) > 0:
            whole.add(name)
    kept = _cut_object(fields, limit - len(told) + 1, 1, whole)
    return (json_text({**kept, "truncated": True}) + "\n").encode()


def _size(value: object) -> int:
    return len(json_text(value).encode())


def _cut(value: Any, room: int, depth: int) -> Any:
    """The largest beginning of *value* whose JSON has at most *room* (16 or more) bytes."""
    if depth > _CUT_DEPTH or not isinstance(value, (str, list, dict)):
        encoded = json_text(value)
        return value if len(encoded.encode()) <= room else _cut_text(encoded, room)
    if _size(value) <= room:
        return value
    if isinstance(value, str):
        return _cut_text(value, room)
    if isinstance(value, dict):
        return _cut_object(value, room, depth, set())
    entries = [(index, 1, _size(item)) for index, item in enumerate(value)]
    return [_cut(value[index], share, depth + 1) for index, share in _shares(entries, room - 2, set())]


def _cut_object(fields: dict[str, Any], room: int, depth: int, whole: set[str]) -> dict[str, Any]:
    entries = [(name, _size(name) + 2, _size(part)) for name, part in fields.items()]
    return {name: _cut(fields[name], share, depth + 1) for name, share in _shares(entries, room - 2, whole)}


def _cut_text(value: str, room: int) -> str:
    # No character takes less than a byte, so the search needs only the beginning.
    head = value[:room]
    longest = bisect_right(range(len(head)), room, key=lambda length: _size(head[:length] + _MARK)) - 1
    return head[: max(longest, 0)] + _MARK


def _shares(entries: Iterable[tuple[Any, int, int]], room: int, whole: set[str]) -> list[tuple[Any, int]]:
    """Divide *room* among *entries* (key, bytes of overhead, bytes of value), in their order.

    Short values get what they need, long ones an equal part of the rest; entries for which not even the least
    is left are missing from the result.
    """
    listed = list(entries)
    must = {key for key, _, _ in listed if key in whole}
    room -= sum(overhead + size for key, overhead, size in listed if key in must)
    kept: list[tuple[Any, int]] = []
    for key, overhead, size in listed:
        if key in must:
            kept.append((key, size))
        elif (least := overhead + min(size, _LEAST)) <= room:
            room -= least
            kept.append((key, size))
    # Serving the shortest first leaves what they don't need to the longer ones.
    share = _LEAST
    longer = sorted(size for key, size in kept if key not in must and size > _LEAST)
    for position, size in enumerate(longer):
        part = room // (len(longer) - position)
        if size - _LEAST > part:
            share = _LEAST + part
            break
        room -= size - _LEAST
        share = size
    return [(key, size if key in must else min(size, share)) for key, size in kept]
