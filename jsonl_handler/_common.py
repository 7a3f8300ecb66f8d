"""The short way from a record to its line, for the records that most programs make; all others go the general way.

What it writes is what the general way writes; a property test holds them equal.
"""

from __future__ import annotations

from logging import LogRecord

from jsonl_handler._shapes import ATTRIBUTES, LineEncoder, compiled

_COUNT = len(ATTRIBUTES)
# To compile an encoder takes as long as to write some hundred records.
_OFTEN = 50
_MOST_SEEN = 500
_MOST_COMPILED = 100
_MOST_EXTRAS = 50
_LONGEST_NAME = 100


class ShortWay:
    """One formatter's encoder: *encode* is that for the shape of the last record, and finds those for others."""

    __slots__ = ("_compiled", "_general", "_reserved", "_seen", "encode")

    def __init__(self, general: LineEncoder, reserved: frozenset[str]) -> None:
        """*general* does the same for any record; it gets those with an extra that has a name in *reserved*."""
        self._general = general
        self._reserved = reserved
        self._seen: dict[tuple[str, ...], int] = {}
        self._compiled: dict[tuple[str, ...], LineEncoder] = {}
        self.encode: LineEncoder = self._begin

    def _begin(self, record: LogRecord, session: str | None, seq: int | None) -> bytes:
        return self._other(record, [*record.__dict__], session, seq)

    def _other(self, record: LogRecord, names: list[str], session: str | None, seq: int | None) -> bytes:
        """Encode a record of another shape than the last one, given the *names* of its attributes."""
        if names[:_COUNT] == ATTRIBUTES:
            extras = tuple(names[_COUNT:])
            encode = self._compiled.get(extras) or self._count(extras)
            if encode is not None:
                self.encode = encode
                return encode(record, session, seq)
        return self._general(record, session, seq)

    def _count(self, extras: tuple[str, ...]) -> LineEncoder | None:
        """One more record of a shape that is not compiled: its encoder if it comes often."""
        if len(self._compiled) >= _MOST_COMPILED or not self._is_simple(extras):
            return None
        if len(self._seen) >= _MOST_SEEN:
            self._seen.clear()
        seen = self._seen[extras] = self._seen.get(extras, 0) + 1
        if seen < _OFTEN:
            return None
        made = self._compiled[extras] = compiled(extras, self._other, self._general)
        return made

    def _is_simple(self, extras: tuple[str, ...]) -> bool:
        return len(extras) <= _MOST_EXTRAS and all(
            type(name) is str and len(name) <= _LONGEST_NAME and name.isprintable() and name not in self._reserved
            for name in extras
        )
