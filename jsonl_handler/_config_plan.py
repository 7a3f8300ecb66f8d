"""Compares a logging configuration with the one that runs: what stays, what changes in place, what is built anew.

Pure but for one look at what really runs: other code may have closed or detached handlers.
"""

from __future__ import annotations

import datetime
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from jsonl_handler._config_ours import identity_in, kind_of, settings_in

_PLAIN = (bool, int, str, bytes, datetime.date, datetime.time, type(None))


@dataclass(frozen=True, slots=True)
class Running:
    """A configuration that was applied, and the objects that it made."""

    mapping: dict[str, Any] = field(default_factory=dict)
    formatters: dict[str, Any] = field(default_factory=dict)
    filters: dict[str, Any] = field(default_factory=dict)
    handlers: dict[str, logging.Handler] = field(default_factory=dict)
    existing: frozenset[str] = frozenset()
    """The loggers that were there when `configure` was called."""


@dataclass(frozen=True, slots=True)
class InPlace:
    """Other settings for a handler that stays, and those that it has: each with whether they are strict."""

    name: str
    handler: Any
    settings: tuple[dict[str, Any], bool]
    before: tuple[dict[str, Any], bool]


@dataclass(frozen=True, slots=True)
class Plan:
    """The smallest step to a configuration; *kept* has, for each section, the objects that stay."""

    kept: dict[str, dict[str, Any]]
    in_place: list[InPlace]
    levels: list[tuple[logging.Handler, Any]]
    structural: bool

    @property
    def nothing(self) -> bool:
        """True when what runs is what is wanted."""
        return not (self.structural or self.in_place or self.levels)


def plan(running: Running, mapping: dict[str, Any]) -> Plan:
    """How to come from *running* to *mapping*."""
    before = running.mapping
    moved = not same(before, mapping)
    kept: dict[str, dict[str, Any]] = {
        section: {
            name: made
            for name, made in getattr(running, section).items()
            if name in _part(mapping, section)
            and same(_part(before, section)[name], _part(mapping, section)[name])
            and not (moved and _refers(_part(mapping, section)[name]))
        }
        for section in ("formatters", "filters")
    }
    stay = kept["handlers"] = {
        name: handler
        for name, handler in running.handlers.items()
        if is_intact(running, name)
        and _stays(before, mapping, name, kept)
        and not (moved and _refers(_part(mapping, "handlers")[name]))
    }
    # What passes records on to one that goes has to go too.
    while gone := [name for name in stay if any(to not in stay for to in _targets(mapping, name))]:
        for name in gone:
            del stay[name]
    in_place, levels = [], []
    for name, handler in stay.items():
        old, new = (_part(each, "handlers")[name] for each in (before, mapping))
        settings, had = ((settings_in(entry), entry.get("strict", False)) for entry in (new, old))
        changed = InPlace(name, handler, settings, had)
        if kind_of(new) is not None and not same(changed.settings, changed.before):
            in_place.append(changed)
        if not same(_level(old), _level(new)):
            levels.append((handler, _level(new)))
    rest = [_without_what_changes_in_place(each, stay) for each in (before, mapping)]
    intact = len(stay) == len(running.handlers)
    return Plan(kept, in_place, levels, structural=not (before and intact and same(*rest)))


def is_intact(running: Running, name: str) -> bool:
    """True while nobody else has closed a handler, or taken it away from a logger that it was put on."""
    handler = running.handlers[name]
    return not getattr(handler, "_closed", False) and all(
        handler in logging.getLogger(logger).handlers
        for logger, entry in loggers_in(running.mapping).items()
        if name in (entry.get("handlers") or ())
    )


def loggers_in(mapping: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The entries of all loggers, the root under the empty name."""
    root = mapping.get("root")
    # `dictConfig` takes the root last, and passes over an empty one.
    named = {("" if name == "root" else name): entry for name, entry in _part(mapping, "loggers").items()}
    return named | ({"": root} if root else {})


def same(one: object, other: object) -> bool:
    """True when both say the same; objects of which nothing is known must be one and the same."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    return isinstance(one, _PLAIN) and one == other


def _stays(before: dict[str, Any], mapping: dict[str, Any], name: str, kept: dict[str, dict[str, Any]]) -> bool:
    new = _part(mapping, "handlers").get(name)
    old = _part(before, "handlers")[name]
    if new is None or not same(_identity(old), _identity(new)):
        return False
    formatter, filters = new.get("formatter"), new.get("filters") or ()
    return (formatter is None or formatter in kept["formatters"]) and all(
        not isinstance(one, str) or one in kept["filters"] for one in filters
    )


def _identity(entry: dict[str, Any]) -> dict[str, Any]:
    if kind_of(entry) is not None:
        return identity_in(entry)
    return {key: value for key, value in entry.items() if key != "level"}


def _targets(mapping: dict[str, Any], name: str) -> Iterator[str]:
    """The handlers that one passes records on to: `MemoryHandler` has a target, a `QueueHandler` handlers."""
    entry = _part(mapping, "handlers")[name]
    if kind_of(entry) is None:
        many = entry.get("handlers")
        for one in (entry.get("target"), *(many if isinstance(many, (list, tuple)) else ())):
            if isinstance(one, str) and one in _part(mapping, "handlers"):
                yield one


def _refers(value: object) -> bool:
    """True when it takes something from elsewhere in the configuration, which may have changed there."""
    if isinstance(value, str):
        return value.startswith("cfg://")
    if isinstance(value, (dict, list, tuple)):
        return any(map(_refers, value.values() if isinstance(value, dict) else value))
    return False


def _without_what_changes_in_place(mapping: dict[str, Any], stay: dict[str, Any]) -> dict[str, Any]:
    handlers = _part(mapping, "handlers")
    return mapping | {
        "handlers": {name: _identity(handlers[name]) if name in stay else handlers[name] for name in handlers}
    }


def _level(entry: dict[str, Any]) -> Any:
    return entry.get("level")


def _part(mapping: dict[str, Any], section: str) -> dict[str, Any]:
    return mapping.get(section) or {}
