"""What a logging configuration says of loggers, decided and then done: no record finds a logger without handlers."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from jsonl_handler._config_plan import Running, loggers_in


@dataclass(frozen=True, slots=True)
class Assignment:
    """How one logger is to be; None leaves a thing as it is."""

    logger: logging.Logger
    handlers: list[logging.Handler] | None = None
    passing: tuple[logging.Handler, ...] = ()
    """Handlers that move to another logger: they stay until they are there."""
    filters: list[Any] | None = None
    level: int | str | None = None
    propagate: bool | None = None
    disabled: bool | None = None


def assignments(before: Running, after: Running) -> list[Assignment]:
    """How each logger is to be, parents first.

    At first this is what `dictConfig` does. Afterwards handlers and filters that code has added
    meanwhile stay, what the configuration said of a logger and says no more is undone, and only
    loggers that were there in the beginning are disabled.
    """
    entries = loggers_in(after.mapping)
    old_entries = loggers_in(before.mapping)
    intact = _intact(before, old_entries)
    moves = {made: after.handlers[name] for name, made in before.handlers.items() if name in after.handlers}
    found = []
    for name in sorted({*entries, *old_entries}):
        logger = logging.getLogger(name)
        old, new = old_entries.get(name), entries.get(name)
        wanted = new or {}
        handlers = [after.handlers[one] for one in wanted.get("handlers") or ()]
        filters = [_filter(one, after) for one in wanted.get("filters") or ()]
        passing = tuple(one for one in logger.handlers if one in moves and moves[one] not in handlers)
        if old is not None and name in intact:
            ours = before.handlers.values()
            handlers += [one for one in logger.handlers if one not in ours and one not in handlers]
        kept = [one for one in logger.filters if one not in before.filters.values() and one not in filters]
        level, propagate = wanted.get("level"), wanted.get("propagate")
        if old is not None:
            # What it said before no longer counts.
            if level is None and old.get("level") is not None:
                level = logging.WARNING if logger is logging.root else logging.NOTSET
            if propagate is None and old.get("propagate") is not None:
                propagate = True
        found.append(
            Assignment(
                logger,
                handlers,
                passing,
                filters + kept,
                level,
                None if propagate is None else bool(propagate),
                None if logger is logging.root or new is None else False,
            )
        )
    return found + _others(before, after, entries, old_entries)


def swap(assigned: Iterable[Assignment]) -> None:
    """Make loggers as they are to be, but for what they lose to others: that goes in `settle`.

    `logging._lock` must be held. No record finds a logger without handlers that is to have some;
    one on its way may be seen by both, where a handler moves from a logger to its parent, or back.
    """
    assigned = list(assigned)
    for one in assigned:
        if one.handlers or one.passing:
            # A new list, in one step: who walks through the old one goes on there.
            one.logger.handlers = [*(one.handlers or ()), *one.passing]
        if one.filters is not None:
            one.logger.filters = one.filters
    for one in assigned:
        if one.level is not None:
            one.logger.setLevel(one.level)
        if one.propagate is not None:
            one.logger.propagate = one.propagate
        if one.disabled is not None:
            one.logger.disabled = one.disabled


def settle(assigned: Iterable[Assignment]) -> None:
    """Take from loggers what others have by now; `logging._lock` must be held."""
    for one in assigned:
        if one.handlers is not None and (one.passing or not one.handlers):
            one.logger.handlers = one.handlers


def existing() -> frozenset[str]:
    """The names of all loggers there are, without the root."""
    return frozenset(logging.root.manager.loggerDict)


def all_loggers() -> list[logging.Logger]:
    """Every logger there is."""
    there = [one for one in list(logging.root.manager.loggerDict.values()) if isinstance(one, logging.Logger)]
    return [logging.root, *there]


def _intact(before: Running, entries: dict[str, dict[str, Any]]) -> set[str]:
    """The loggers that still have all handlers that the configuration put on them."""
    return {
        name
        for name, entry in entries.items()
        if all(
            one not in before.handlers or before.handlers[one] in logging.getLogger(name).handlers
            for one in entry.get("handlers") or ()
        )
    }


def _others(
    before: Running, after: Running, entries: dict[str, dict[str, Any]], old_entries: dict[str, dict[str, Any]]
) -> list[Assignment]:
    """Loggers that are not named: as `dictConfig` has it, children of named ones are reset, and others disabled."""
    disable = after.mapping.get("disable_existing_loggers", True)
    found = []
    for name in sorted(after.existing | old_entries.keys()):
        logger = logging.root.manager.loggerDict.get(name)
        if name in entries or not isinstance(logger, logging.Logger):
            continue
        is_child = any(name.startswith(f"{parent}.") for parent in entries)
        if not is_child:
            found.append(Assignment(logger, disabled=bool(disable)))
        elif not before.mapping:
            found.append(Assignment(logger, [], level=logging.NOTSET, propagate=True))
        elif name in old_entries:
            found.append(Assignment(logger, disabled=False))
    return found


def _filter(one: Any, after: Running) -> Any:
    return after.filters[one] if isinstance(one, str) else one
