"""Applies a logging configuration by the smallest step: check, build aside, swap, retire.

Until the swap nothing of what runs has changed, and nothing after it can be refused.
"""

from __future__ import annotations

import logging
import logging.config
import threading
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from jsonl_handler._config_build import Builder
from jsonl_handler._config_check import check
from jsonl_handler._config_loggers import Assignment, all_loggers, assignments, existing, settle, swap
from jsonl_handler._config_ours import Finding
from jsonl_handler._config_plan import Plan, Running, plan, same
from jsonl_handler._retire import is_listening, retire
from jsonl_handler._session_handler import SessionHandler
from jsonl_handler._status import Voice
from jsonl_handler.errors import ConfigError

# Every supported Python has it; only what takes and releases it has other names.
_logging_lock: Any = logging._lock  # type: ignore[attr-defined]
_MOMENT = 0.02
_by_name: Any = logging._handlers  # type: ignore[attr-defined]


def findings(mapping: dict[str, Any], named: str | None, *, even_so: bool = False) -> list[Finding]:
    """All that is wrong with *mapping*; what it names is imported once nothing else is, or *even_so*."""
    found = check(mapping)
    if mapping.get("incremental") is not True and (even_so or not found):
        builder = Builder(mapping, named)
        found += builder.check_names()
        found = found or check(builder.resolved())
    return found


def refuse(found: list[Finding], named: str | None) -> None:
    """Raise one `ConfigError` that tells all findings, if there are any."""
    if found:
        first, *others = found
        problem = "; ".join([first.problem, *(f"{one.where}: {one.problem}" for one in others)])
        raise ConfigError(named, first.where, problem)


def apply(mapping: dict[str, Any], named: str | None, running: Running, voice: Voice, *, anew: bool) -> Running:
    """Make *mapping* what runs, and return it; *running* itself when that is so already.

    *anew* is a new call of `configure`. Raises `ConfigError`, and then nothing has changed.
    """
    refuse(findings(mapping, named), named)
    if mapping.get("incremental") is True:
        return _increment(mapping, named, running)
    builder = Builder(mapping, named)
    mapping = builder.resolved()
    if anew:
        running = replace(running, existing=existing())
    step = plan(running, mapping)
    if step.nothing:
        return running
    if not step.structural:
        levels = _levels(builder, step)
        builder.change_in_place(step)
        _set(levels)
        return replace(running, mapping=mapping)
    return _rebuild(builder, step, running, voice)


def _rebuild(builder: Builder, step: Plan, running: Running, voice: Voice) -> Running:
    made: list[logging.Handler] = []
    try:
        after = replace(builder.build(step, made), existing=running.existing)
        assigned = assignments(running, after)
        levels = _levels(builder, step)
        builder.change_in_place(step)
    except BaseException:
        # A factory may have given out a handler that is in use.
        used = {id(handler) for logger in all_loggers() for handler in logger.handlers}
        used |= {id(handler) for handler in running.handlers.values()}
        retire([one for one in made if id(one) not in used], voice)
        raise
    going = _going(running, after, assigned)
    _hand_over(running, after, going)
    # Without logging's lock: a thread may collect a handler as it begins, and would wait for the lock.
    _start_listeners(after, running)
    with _logging_lock:
        swap(assigned)
        _set(levels)
    if any(one.passing for one in assigned):
        # Records that have passed the one logger get to its parent before the handler leaves that.
        threading.Event().wait(_MOMENT)
    with _logging_lock:
        settle(assigned)
        attached = {id(handler) for logger in all_loggers() for handler in logger.handlers}
        gone = [one for one in going if id(one) not in attached]
        _rename(gone, after)
    retire(gone, voice)
    return after


def _going(running: Running, after: Running, assigned: Iterable[Assignment]) -> list[logging.Handler]:
    """The handlers that are no longer needed, those first that pass records on to others."""
    stay = {id(one) for one in after.handlers.values()}
    stay |= {id(handler) for one in assigned for handler in one.handlers or ()}
    there = [handler for one in assigned if one.handlers is not None for handler in one.logger.handlers]
    return [one for one in dict.fromkeys((*reversed(running.handlers.values()), *there)) if id(one) not in stay]


def _hand_over(running: Running, after: Running, going: Iterable[logging.Handler]) -> None:
    """A handler of ours goes on with the session of the one that it replaces: of its name, or else of its files."""
    old = [one for one in going if isinstance(one, SessionHandler)]
    for name, new in after.handlers.items():
        if isinstance(new, SessionHandler) and new is not running.handlers.get(name):
            first = sorted(old, key=lambda one: one is not running.handlers.get(name))
            bequeathed = next((one for one in first if new.succeed(one)), None)
            old = [one for one in old if one is not bequeathed]


def _start_listeners(after: Running, running: Running) -> None:
    """The listener of a `QueueHandler` that is replaced was started by the program, which knows nothing of the new."""
    for name, new in after.handlers.items():
        old = running.handlers.get(name)
        if old is not new and is_listening(old):
            new.listener.start()  # type: ignore[attr-defined]


def _levels(builder: Builder, step: Plan) -> list[tuple[logging.Handler, int]]:
    return [(handler, builder.level(f"handlers.{handler.name}.level", level)) for handler, level in step.levels]


def _set(levels: Iterable[tuple[logging.Handler, int]]) -> None:
    for handler, level in levels:
        handler.setLevel(level)


def _rename(gone: Iterable[logging.Handler], after: Running) -> None:
    """Let the names mean the new handlers; an old one that closes takes its name out, whoever has it by then."""
    for handler in gone:
        if _by_name.get(handler.name) is handler:
            handler.name = None
        else:
            handler._name = None  # type: ignore[attr-defined]
    for name, handler in after.handlers.items():
        if _by_name.get(name) is not handler:
            handler.name = name


def _increment(mapping: dict[str, Any], named: str | None, running: Running) -> Running:
    """Change levels and `propagate` alone, as `dictConfig` does when it is told ``incremental``."""
    handlers = mapping.get("handlers") or {}
    refuse(
        [Finding(f"handlers.{name}", "there is no such handler yet") for name in handlers if name not in _by_name],
        named,
    )
    merged = running.mapping
    for section in ("handlers", "loggers"):
        old = merged.get(section) or {}
        changed = {name: {**old[name], **entry} for name, entry in (mapping.get(section) or {}).items() if name in old}
        merged = merged | {section: {**old, **changed}}
    if merged.get("root") and mapping.get("root"):
        merged = merged | {"root": {**merged["root"], **mapping["root"]}}
    logging.config.dictConfig(mapping)
    if not running.mapping:
        return replace(running)
    # What is said later is compared with what runs now.
    return running if same(merged, running.mapping) else replace(running, mapping=merged)
