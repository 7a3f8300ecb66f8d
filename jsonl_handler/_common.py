"""The short way from a record to its line, for the records that most programs make; all others go the general way.

What it writes is what the general way writes; a property test holds them equal.
"""

from __future__ import annotations

from collections.abc import Callable
from logging import LogRecord
from typing import Any, Protocol

from jsonl_handler._shapes import ATTRIBUTES, Sink, compiled

_COUNT = len(ATTRIBUTES)
# To compile an encoder takes as long as to write some hundred records.
_OFTEN = 50
_MOST_SEEN = 500
_MOST_COMPILED = 100
_MOST_EXTRAS = 50
_LONGEST_NAME = 100


class Way(Protocol):
    """How records go; *go* must be asked for anew for each record."""

    go: Callable[..., Any]


class OneWay:
    """The same way for every record."""

    __slots__ = ("go",)

    def __init__(self, go: Callable[..., Any]) -> None:
        self.go = go


class ShortWay:
    """One formatter's short way: *go* is that for the shape of the last record, and finds those for others."""

    __slots__ = ("_compiled", "_general", "_is_stock", "_reserved", "_seen", "_sink", "go")

    def __init__(
        self,
        general: Callable[..., Any],
        reserved: frozenset[str],
        *,
        is_stock: Callable[[], bool] | None = None,
        sink: Sink | None = None,
    ) -> None:
        """*general* does the same for any record; it gets those with an extra that has a name in *reserved*.

        While *is_stock* says no, it gets all. *go* is called as *general* is: with a record, a session and a
        number, or, with a *sink*, with the record alone.
        """
        self._general = general
        self._reserved = reserved
        self._is_stock = is_stock
        self._sink = sink
        self._seen: dict[tuple[str, ...], int] = {}
        self._compiled: dict[tuple[str, ...], Callable[..., Any]] = {}
        self.go: Callable[..., Any] = self._begin

    def _begin(self, record: LogRecord, *rest: Any) -> Any:
        return self._other(record, None, *rest)

    def _other(self, record: LogRecord, names: list[str] | None, *rest: Any) -> Any:
        """Take a record of another shape than the last one, given the *names* of its attributes."""
        try:
            go = self._find(record, [*record.__dict__] if names is None else names)
        except Exception:
            # Code can't be compiled here, or not now: too near the recursion limit, or somebody forbids it.
            go = None
        if go is None:
            return self._general(record, *rest)
        self.go = go
        return go(record, *rest)

    def _find(self, record: LogRecord, names: list[str]) -> Callable[..., Any] | None:
        if names[:_COUNT] != ATTRIBUTES or not (self._is_stock is None or self._is_stock()):
            return None
        extras = tuple(names[_COUNT:])
        return self._compiled.get(extras) or self._count(record, extras)

    def _count(self, record: LogRecord, extras: tuple[str, ...]) -> Callable[..., Any] | None:
        """One more record of a shape that is not compiled: its way if it comes often."""
        if len(self._compiled) >= _MOST_COMPILED or not self._is_simple(extras):
            return None
        if len(self._seen) >= _MOST_SEEN:
            self._seen.clear()
        seen = self._seen[extras] = self._seen.get(extras, 0) + 1
        if seen < _OFTEN:
            return None
        # Should that fail, it is tried again when as many have come once more.
        self._seen[extras] = 0
        types = {name: type(record.__dict__.get(name)) for name in extras}
        made = compiled(types, self._other, self._general, is_stock=self._is_stock, sink=self._sink)
        self._compiled[extras] = made
        return made

    def _is_simple(self, extras: tuple[str, ...]) -> bool:
        return len(extras) <= _MOST_EXTRAS and all(
            type(name) is str
            and len(name) <= _LONGEST_NAME
            and name.isprintable()
            and name not in self._reserved
            and name != "getMessage"
            for name in extras
        )
