"""Makes the objects that a logging configuration names, aside: no logger knows them yet.

The standard library's `DictConfigurator` does the work; what it does to loggers is done in `_config_loggers`.
"""

from __future__ import annotations

import contextlib
import logging
import logging.config
from collections.abc import Iterator
from typing import Any

from jsonl_handler import _origin
from jsonl_handler._config_ours import Finding, is_reference, kind_of, review
from jsonl_handler._config_plan import Plan, Running
from jsonl_handler._rules import shown
from jsonl_handler.errors import ConfigError

_NOT_YET = "not configured yet"


class Builder(logging.config.DictConfigurator):
    """Resolves and makes what one configuration names; errors are `ConfigError`s with the key path."""

    def __init__(self, mapping: dict[str, Any], named: str | None) -> None:
        # The configurator writes into what it is given, but only into its own copies.
        super().__init__(mapping)
        self._mapping = mapping
        self._named = named

    def resolve(self, name: Any) -> Any:
        """What a dotted name means; before 3.12 the standard library takes no class itself for a handler."""
        return name if callable(name) else super().resolve(name)

    def check_names(self) -> list[Finding]:
        """Import what is named; all that can't be had."""
        found = []
        for where, name in _named(self._mapping):
            try:
                value = self.convert(name) if is_reference(name) else self.resolve(name)
                if where.endswith((".class", ".()")) and not callable(value):
                    found.append(Finding(where, f"must be a class or a function, got {name!r}"))
            except (Exception, SystemExit) as error:
                found.append(Finding(where, f"{name!r} can't be had: {_reason(error)}"))
        if not found:
            handlers = self._mapping.get("handlers")
            for name, entry in handlers.items() if isinstance(handlers, dict) else ():
                kind = kind_of(entry) if isinstance(entry, dict) else None
                if kind is not None:
                    found += review(f"handlers.{name}", self.converted(name), kind).findings
        return found

    def converted(self, name: str) -> dict[str, Any]:
        """A handler's entry with what it refers to in place of the references."""
        entry = (self._mapping.get("handlers") or {})[name]
        return {key: self.convert(value) for key, value in entry.items()}

    def resolved(self) -> dict[str, Any]:
        """The configuration with what its loggers refer to in place of the references."""
        mapping = dict(self._mapping)
        for section in ("loggers", "root", "incremental", "disable_existing_loggers"):
            if section in mapping:
                mapping[section] = self._deep(mapping[section])
        return mapping

    def _deep(self, value: Any) -> Any:
        value = self.convert(value) if isinstance(value, str) else value
        if isinstance(value, dict):
            return {key: self._deep(dict.__getitem__(value, key)) for key in value}
        return [self._deep(item) for item in list.__iter__(value)] if isinstance(value, list) else value

    def build(self, plan: Plan, made: list[logging.Handler]) -> Running:
        """Make what does not stay; each handler is noted in *made* at once, so that a failure leaves none open."""
        parts: dict[str, dict[str, Any]] = {}
        for section, make in (("formatters", self.configure_formatter), ("filters", self.configure_filter)):
            part = self.config.get(section, {})
            for name in part:
                with self._at(f"{section}.{name}"):
                    kept = plan.kept[section]
                    part[name] = kept[name] if name in kept else make(part[name])
            parts[section] = {name: part[name] for name in part}
        handlers = self.config.get("handlers", {})
        handlers.update(plan.kept["handlers"])
        # Other people's last, and of those last who empty their file when they are made.
        rest = sorted(handlers.keys() - plan.kept["handlers"].keys(), key=self._harm)
        order = list(plan.kept["handlers"])
        while rest:
            later = []
            for name in rest:
                with self._at(f"handlers.{name}"), _origin.told_of(self._path(f"handlers.{name}")):
                    try:
                        handler = self.configure_handler(handlers[name])
                    except Exception as error:
                        if _NOT_YET not in str(error.__cause__) or len(rest) == 1:
                            raise
                        later.append(name)
                        continue
                    if not isinstance(handler, logging.Handler):
                        raise ConfigError(None, "", f"must make a logging.Handler, got {shown(handler)}")
                    handlers[name] = handler
                    made.append(handler)
                    order.append(name)
            if len(later) == len(rest):
                raise ConfigError(
                    self._named, f"handlers.{later[0]}", "passes records on to a handler that waits for it"
                )
            rest = later
        # In the order of their making: who passes records on comes after who gets them.
        return Running(self.resolved(), parts["formatters"], parts["filters"], {name: handlers[name] for name in order})

    def change_in_place(self, plan: Plan) -> None:
        """Give handlers that stay their new settings; when one refuses, all have their old ones again."""
        done = []
        try:
            for change in plan.in_place:
                with self._at(f"handlers.{change.name}"), _origin.told_of(self._path(f"handlers.{change.name}")):
                    self._give(change.handler, *change.settings)
                    done.append(change)
        except BaseException:
            for change in done:
                self._give(change.handler, *change.before)
            raise

    def level(self, where: str, level: Any) -> int:
        """The number of a level that is given as the standard library takes it; NOTSET for None."""
        level = self.convert(level)
        found = logging.getLevelNamesMapping().get(level, level) if isinstance(level, str) else level
        if found is None:
            return logging.NOTSET
        if not isinstance(found, int):
            raise ConfigError(self._named, where, f"must be the name or number of a logging level, got {shown(level)}")
        return found

    def _give(self, handler: Any, settings: dict[str, Any], strict: Any) -> None:
        converted = {key: self.convert(value) for key, value in settings.items()}
        handler.replace_settings(converted, strict=self.convert(strict))

    def _harm(self, name: str) -> tuple[bool, bool, str]:
        """What sorts handlers by what their making may do to what runs."""
        entry = self._mapping["handlers"][name]
        return kind_of(entry) is None, str(entry.get("mode", "")).startswith("w"), name

    def _path(self, where: str) -> str:
        return f"{self._named}: {where}" if self._named else where

    @contextlib.contextmanager
    def _at(self, where: str) -> Iterator[None]:
        try:
            yield
        except ConfigError as error:
            raise ConfigError(self._named, ".".join(filter(None, (where, error.where))), error.problem) from error
        except (Exception, SystemExit) as error:
            raise ConfigError(self._named, where, f"can't be made: {_reason(error)}") from error


def _named(mapping: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The names that are resolved, and the key paths to them."""
    for section in ("formatters", "filters", "handlers"):
        entries = mapping.get(section)
        for name, found in entries.items() if isinstance(entries, dict) else ():
            entry = found if isinstance(found, dict) else {}
            key = "()" if "()" in entry else "class"
            value = entry.get(key)
            if isinstance(value, str) and not is_reference(value):
                yield f"{section}.{name}.{key}", value
    yield from _references("", mapping)


def _references(where: str, value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        if is_reference(value):
            yield where, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _references(f"{where}.{key}" if where else str(key), item)
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            yield from _references(f"{where}[{number}]", item)


def _reason(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split())[:500]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
