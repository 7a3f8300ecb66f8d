"""The entries of this package's own handlers in a logging configuration, and whether their values can be used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jsonl_handler._place import absolute_directory, check_prefix
from jsonl_handler._rules import shown
from jsonl_handler.errors import ConfigError
from jsonl_handler.files import RotatingSessionJsonlHandler, check_keys
from jsonl_handler.handler import JsonlHandler
from jsonl_handler.settings import Problem, Settings

Kind = type[JsonlHandler] | type[RotatingSessionJsonlHandler]

_NAMES: dict[str, Kind] = {
    f"jsonl_handler.{module}{kind.__name__}": kind
    for kind, room in ((JsonlHandler, "handler."), (RotatingSessionJsonlHandler, "files."))
    for module in ("", room)
}
_OF_LOGGING = frozenset({"()", "class", "level", "formatter", "filters", "."})
_IDENTITY = frozenset({"directory", "prefix", "session_id", "strict"})


@dataclass(frozen=True, slots=True)
class Finding:
    """What makes a configuration unusable, and the key path to it."""

    where: str
    problem: str


@dataclass(frozen=True, slots=True)
class Review:
    """What became of one entry: what forbids it, what is used otherwise than given, and the settings in force."""

    findings: list[Finding]
    problems: list[Problem]
    settings: Settings | None


def is_reference(value: object) -> bool:
    """True for a text that stands for something else: a name to import, or another place of the configuration."""
    return isinstance(value, str) and value.startswith(("ext://", "cfg://"))


def kind_of(entry: Mapping[str, Any]) -> Kind | None:
    """The class of ours that an entry names; None for any other, and for a subclass that takes other arguments."""
    named = entry.get("()", entry.get("class"))
    if isinstance(named, str):
        return _NAMES.get(named)
    for kind in (JsonlHandler, RotatingSessionJsonlHandler):
        if isinstance(named, type) and issubclass(named, kind) and named.__init__ is kind.__init__:
            return named
    return None


def settings_in(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of an entry that are settings, which can change in place."""
    return {key: entry[key] for key in entry if key not in _OF_LOGGING and key not in _IDENTITY}


def identity_in(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of an entry for which a handler must be built anew."""
    return {key: entry[key] for key in entry if key not in settings_in(entry) and key not in ("level", "strict")}


def review(where: str, entry: Mapping[str, Any], kind: Kind) -> Review:
    """Check the values of an entry, all of them, as the handler's constructor would."""
    findings = []
    if "directory" not in entry:
        findings.append(Finding(f"{where}.directory", "is missing; give the directory for the files"))
    strict = entry.get("strict", False)
    if not isinstance(strict, bool):
        findings.append(Finding(f"{where}.strict", f"must be true or false, got {shown(strict)}"))
    for key, check in (("directory", absolute_directory), ("prefix", check_prefix)):
        try:
            if key in entry:
                check(entry[key])
        except ConfigError as error:
            findings.append(Finding(f"{where}.{key}", error.problem))
    given = settings_in(entry)
    for key in list(given):
        # One by one, so that each unknown key is told.
        try:
            Settings.load({key: given[key]})
            if not issubclass(kind, JsonlHandler):
                check_keys([key])
        except ConfigError as error:
            findings.append(Finding(f"{where}.{error.where}", error.problem))
            del given[key]
    settings, problems = Settings.load(given)
    if strict is True:
        findings += [Finding(f"{where}.{one.key}", f"{one.rule}, got {shown(one.value)}") for one in problems]
    return Review(findings, problems, settings)
