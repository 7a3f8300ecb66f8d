"""What is wrong with a logging configuration, as far as it can be seen without importing or making anything.

It finds everything in one pass: keys, types, references. The settings of our handlers are checked in `_config_ours`.
"""

from __future__ import annotations

import difflib
import logging
import re
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

from jsonl_handler._config_ours import Finding, is_reference, kind_of, review
from jsonl_handler._rules import shown

_SECTIONS = ("formatters", "filters", "handlers", "loggers")
# Where JSON editors look for the schema of a file.
_EDITORS = "$schema"
_TOP = ("version", "incremental", "disable_existing_loggers", *_SECTIONS, "root")
_OF_LOGGER = ("level", "propagate", "filters", "handlers")
_REFERENCE = re.compile(r"cfg://\s*(\w+)")
_IDENTIFIER = re.compile(r"[a-z_][a-z0-9_]*", re.IGNORECASE | re.ASCII)
_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


def check(mapping: dict[str, Any]) -> list[Finding]:
    """All that makes *mapping* unusable."""
    found = [*_top(mapping)]
    sections = {name: mapping[name] for name in _SECTIONS if isinstance(mapping.get(name), dict)}
    checks: dict[str, Callable[[_Names, str, dict[Any, Any]], Iterator[Finding]]] = {
        "formatters": _formatter,
        "filters": _filter,
        "handlers": _handler,
        "loggers": _logger,
    }
    incremental = mapping.get("incremental") is True
    names = _Names({section: sections.get(section, {}).keys() for section in _SECTIONS}, incremental)
    for section, entries in sections.items():
        for name, entry in entries.items():
            where = f"{section}.{_plain(name)}"
            if not isinstance(name, str):
                found.append(Finding(where, f"a name must be text, got {shown(name)}"))
            elif not isinstance(entry, dict):
                found.append(Finding(where, f"must be a mapping, got {shown(entry)}"))
            else:
                found += checks[section](names, where, entry)
    root = mapping.get("root")
    if isinstance(root, dict):
        found += _logger(names, "root", root)
    return found


@dataclass(frozen=True, slots=True)
class _Names:
    """What the configuration gives names to; one that is *incremental* gives none."""

    of: dict[str, Collection[Any]]
    incremental: bool


def _top(mapping: dict[str, Any]) -> Iterator[Finding]:
    version = mapping.get("version")
    if "version" not in mapping:
        yield Finding("version", "is missing; it must be 1")
    elif version != 1 or isinstance(version, bool):
        yield Finding("version", f"must be 1, got {shown(version)}")
    referred = {match for text in _texts(mapping) for match in _REFERENCE.findall(text)}
    for key, value in mapping.items():
        if key in ("incremental", "disable_existing_loggers"):
            yield from _boolean(key, value)
        elif key in _SECTIONS or key == "root":
            if not isinstance(value, dict):
                yield Finding(key, f"must be a mapping, got {shown(value)}")
        elif key not in (*_TOP, _EDITORS) and key not in referred:
            yield _unknown(_plain(key), _TOP)


def _formatter(names: _Names, where: str, entry: dict[Any, Any]) -> Iterator[Finding]:
    for key in ("()", "class"):
        yield from _class(f"{where}.{key}", entry.get(key))
    if "()" in entry:
        yield from _arguments(where, entry)
        return
    # Before 3.12 the standard library ignores `defaults`.
    known = ("format", "datefmt", "style", "validate", "class", *["defaults"] * (sys.version_info >= (3, 12)))
    yield from (_unknown(f"{where}.{_plain(key)}", known) for key in entry if key not in known)
    for key in ("format", "datefmt", "style"):
        value = entry.get(key)
        if value is not None and not isinstance(value, str):
            yield Finding(f"{where}.{key}", f"must be text, got {shown(value)}")


def _filter(names: _Names, where: str, entry: dict[Any, Any]) -> Iterator[Finding]:
    if "()" in entry:
        yield from _class(f"{where}.()", entry["()"])
        yield from _arguments(where, entry)
    else:
        yield from (_unknown(f"{where}.{_plain(key)}", ("name", "()")) for key in entry if key != "name")


def _handler(names: _Names, where: str, entry: dict[Any, Any]) -> Iterator[Finding]:
    yield from _level(f"{where}.level", entry.get("level"))
    if names.incremental:
        return
    key = "()" if "()" in entry else "class"
    if key not in entry:
        yield Finding(where, "needs a class")
    yield from _class(f"{where}.{key}", entry.get(key))
    formatter = entry.get("formatter")
    if formatter is not None:
        yield from _known(f"{where}.formatter", "formatters", formatter, names)
    yield from _references(f"{where}.filters", "filters", entry.get("filters"), names)
    kind = kind_of(entry)
    if kind is None:
        yield from _arguments(where, entry)
    elif not any(map(is_reference, _texts(entry))):
        # Otherwise the values are seen only when the names are resolved.
        yield from review(where, entry, kind).findings


def _logger(names: _Names, where: str, entry: dict[Any, Any]) -> Iterator[Finding]:
    known = _OF_LOGGER if where != "root" else ("level", "filters", "handlers")
    yield from (_unknown(f"{where}.{_plain(key)}", known) for key in entry if key not in known)
    yield from _level(f"{where}.level", entry.get("level"))
    if entry.get("propagate") not in (None, 0, 1):
        yield from _boolean(f"{where}.propagate", entry["propagate"])
    if not names.incremental:
        yield from _references(f"{where}.handlers", "handlers", entry.get("handlers"), names)
        yield from _references(f"{where}.filters", "filters", entry.get("filters"), names)


def _references(where: str, section: str, value: object, names: _Names) -> Iterator[Finding]:
    if value is None or is_reference(value):
        return
    if not isinstance(value, (list, tuple)):
        yield Finding(where, f"must be a list of names, got {shown(value)}")
        return
    for one in value:
        # Filters may also be given themselves, in a mapping that code makes.
        if not (section == "filters" and (callable(one) or callable(getattr(one, "filter", None)))):
            yield from _known(where, section, one, names)


def _known(where: str, section: str, name: object, names: _Names) -> Iterator[Finding]:
    if is_reference(name):
        return
    if not isinstance(name, str) or name not in names.of[section]:
        there = ", ".join(sorted(map(str, names.of[section]))) or "none"
        yield Finding(where, f"must name one of the {section} ({there}), got {shown(name)}")


def _class(where: str, value: object) -> Iterator[Finding]:
    if value is None or is_reference(value) or callable(value):
        return
    if not isinstance(value, str) or not _DOTTED.fullmatch(value):
        yield Finding(where, f'must be a dotted name such as "logging.StreamHandler", got {shown(value)}')


def _arguments(where: str, entry: dict[Any, Any]) -> Iterator[Finding]:
    for key in entry:
        if key not in ("()", ".") and not (isinstance(key, str) and _IDENTIFIER.fullmatch(key)):
            yield Finding(f"{where}.{_plain(key)}", "must be the name of an argument")
    if "." in entry and not isinstance(entry["."], dict):
        yield Finding(f"{where}..", f"must be a mapping of attributes, got {shown(entry['.'])}")


def _level(where: str, value: object) -> Iterator[Finding]:
    if value is None or is_reference(value):
        return
    if isinstance(value, str):
        if value in logging.getLevelNamesMapping():
            return
        upper = (
            f" (levels are in upper case: {value.upper()})" if value.upper() in logging.getLevelNamesMapping() else ""
        )
        yield Finding(where, f"must be the name or number of a logging level{upper}, got {shown(value)}")
    elif isinstance(value, bool) or not isinstance(value, int):
        yield Finding(where, f"must be the name or number of a logging level, got {shown(value)}")


def _boolean(where: str, value: object) -> Iterator[Finding]:
    if not isinstance(value, bool) and not is_reference(value):
        yield Finding(where, f"must be true or false, got {shown(value)}")


def _unknown(where: str, known: tuple[str, ...]) -> Finding:
    near = difflib.get_close_matches(where.rpartition(".")[2][:64], known, n=1)
    return Finding(
        where, "unknown key; " + (f"did you mean {near[0]}?" if near else f"the keys are {', '.join(known)}")
    )


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list, tuple)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)


def _plain(key: object) -> str:
    return key if isinstance(key, str) and len(key) <= 80 else shown(key)
