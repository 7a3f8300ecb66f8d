"""What a logging configuration would do, without doing it; what it names is imported, as applying it would."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jsonl_handler._config_apply import findings
from jsonl_handler._config_build import Builder
from jsonl_handler._config_ours import kind_of, review
from jsonl_handler._config_plan import loggers_in
from jsonl_handler._place import absolute_directory
from jsonl_handler._rules import shown
from jsonl_handler.errors import ConfigError
from jsonl_handler.settings import KEYS, Settings


@dataclass(frozen=True, slots=True)
class PlannedHandler:
    """One handler: its class, its level, where its files go, and its settings that are not the defaults."""

    name: str
    kind: str
    level: str
    files: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PlannedLogger:
    """One logger: its level, None for that of its parent, and its handlers."""

    name: str
    level: str | None
    handlers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """What is wrong with a configuration, and what would run; the latter is there if it can be applied at all."""

    problems: list[str]
    handlers: list[PlannedHandler] = field(default_factory=list)
    loggers: list[PlannedLogger] = field(default_factory=list)


def report(mapping: dict[str, Any], named: str | None) -> Report:
    """Look a configuration through, all of it."""
    # What is wrong at one place is told once, the plainest first.
    found = {one.where: one for one in reversed(findings(mapping, named, even_so=True))}
    if found:
        told = [str(ConfigError(named, one.where, one.problem)) for one in reversed(found.values())]
        return Report(told + _problems(mapping, named))
    if mapping.get("incremental") is True:
        return Report([], [], _loggers(mapping))
    builder = Builder(mapping, named)
    converted = {name: builder.converted(name) for name in mapping.get("handlers") or {}}
    handlers = [_handler(name, mapping["handlers"][name], entry) for name, entry in converted.items()]
    return Report(_problems({"handlers": converted}, named), handlers, _loggers(builder.resolved()))


def _problems(mapping: dict[str, Any], named: str | None) -> list[str]:
    """What would be used otherwise than it was given, in the entries of our handlers."""
    handlers = mapping.get("handlers")
    told = []
    for name, entry in handlers.items() if isinstance(handlers, dict) else ():
        kind = kind_of(entry) if isinstance(entry, dict) else None
        if kind is not None and entry.get("strict") is not True:
            where = f"{named}: handlers.{name}" if named else f"handlers.{name}"
            told += [f"{where}.{one}" for one in review(where, entry, kind).problems]
    return told


def _handler(name: str, entry: Mapping[str, Any], converted: Mapping[str, Any]) -> PlannedHandler:
    named_kind = entry.get("()", entry.get("class"))
    kind_text = named_kind if isinstance(named_kind, str) else getattr(named_kind, "__qualname__", shown(named_kind))
    level = _level(entry.get("level")) or "NOTSET"
    kind = kind_of(entry)
    if kind is None:
        return PlannedHandler(name, kind_text, level)
    seen = review(f"handlers.{name}", converted, kind)
    session = converted.get("session_id") or "SESSION"
    files = absolute_directory(converted["directory"]) / f"{converted.get('prefix', 'telemetry')}-DATE-{session}.jsonl"
    defaults = Settings()
    others = {key for key in KEYS if getattr(seen.settings, key) != getattr(defaults, key)}
    settings = {key: _value(key, getattr(seen.settings, key)) for key in KEYS if key in others}
    return PlannedHandler(name, kind_text, level, str(files), settings)


def _loggers(mapping: dict[str, Any]) -> list[PlannedLogger]:
    return [
        PlannedLogger(name or "root", _level(entry.get("level")), tuple(map(str, entry.get("handlers") or ())))
        for name, entry in sorted(loggers_in(mapping).items())
    ]


def _level(level: object) -> str | None:
    return logging.getLevelName(level) if isinstance(level, int) else level if isinstance(level, str) else None


def _value(key: str, value: object) -> str:
    if key == "file_mode" and isinstance(value, int):
        return oct(value)
    if key == "flush_level" and value is not None:
        return str(_level(value))
    return shown(value)
