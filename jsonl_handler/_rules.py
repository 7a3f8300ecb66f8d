"""The rules a setting's value must keep, one check for each kind of value.

Which settings there are, and what happens to a value that breaks its rule, is said in `settings`.
"""

from __future__ import annotations

import logging
import math
import re
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

MAX_INTEGER = 2**63 - 1
"""Above it neither the operating system nor most JSON parsers follow."""

_MODE_TEXT = re.compile(r"(?:0o?)?([0-7]{3})", re.ASCII)
MOST_LEVELS = 100
MOST_VALUES = 10_000
TOO_MUCH = f"must not contain itself, nest deeper than {MOST_LEVELS} levels or hold more than {MOST_VALUES} values"
"""The rule for mappings that people give: a few lines of YAML anchors may stand for billions of values."""


class Kind(Enum):
    """What sort of value a setting takes."""

    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    LEVEL = "level"
    CHOICE = "choice"
    MODE = "mode"
    MAPPING = "mapping"


@dataclass(frozen=True, slots=True)
class Rule:
    """What one setting means, and which values it takes.

    *deletes* marks a limit by which files are deleted: None and "unlimited" switch it off.
    """

    kind: Kind
    meaning: str
    unit: str = ""
    floor: int | None = None
    ceiling: float = math.inf
    choices: tuple[str, ...] = ()
    nullable: bool = False
    deletes: bool = False


class Broken(Exception):
    """A value breaks its rule; the text is the rule in words."""


def check(rule: Rule, value: object) -> object:
    """The value as it is kept, of a plain type; raises `Broken`, whatever *value* is."""
    try:
        if rule.deletes and (value is None or _is_unlimited(value)):
            return None if rule.nullable else 0
        if rule.nullable and value is None:
            return None
        return _CHECKS[rule.kind](rule, value)
    except Broken:
        raise
    except Exception as error:  # A value's own methods may raise anything.
        raise Broken("must be a plain value that can be read") from error


def shown(value: object, most: int = 80) -> str:
    """One short line that shows *value*, even when its own `__repr__` fails."""
    try:
        # Whatever a foreign repr returns must stay one line that any stream can take.
        words = str.split(_SHORT.repr(value))
        text = " ".join(words).encode("utf-8", "backslashreplace").decode()
    except Exception:
        text = "a value that can't be shown"
    return text if len(text) <= most else text[: most - 1] + "…"


def _integer(rule: Rule, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise Broken(f"must be a whole number (a bool, a float or text is none){_no_limit(rule)}")
    # The unbound method asks the number itself, not what a subclass says about it.
    number = int.__index__(value)
    _bounds(rule, number)
    return number


def _number(rule: Rule, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Broken(f"must be a number (a bool or text is none){_no_limit(rule)}")
    try:
        number = float(int.__index__(value)) if isinstance(value, int) else float.__float__(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise Broken(f"must be a finite number{_no_limit(rule)}")
    _bounds(rule, number)
    return number


def _bounds(rule: Rule, number: float) -> None:
    if rule.floor is not None and number < rule.floor:
        raise Broken(f"must be at least {rule.floor}{_no_limit(rule)}")
    if number > rule.ceiling:
        raise Broken(f"must be at most {int(rule.ceiling)}{_no_limit(rule)}")


def _boolean(rule: Rule, value: object) -> bool:
    if not isinstance(value, bool):
        raise Broken("must be true or false")
    return value


def _level(rule: Rule, value: object) -> int:
    if isinstance(value, str):
        known = logging.getLevelNamesMapping()
        name = str.__str__(value)
        level = known.get(name, known.get(name.upper()))
        if level is not None:
            return level
    elif isinstance(value, int) and not isinstance(value, bool):
        return int.__index__(value)
    raise Broken("must be the name or the whole number of a logging level, or None")


def _choice(rule: Rule, value: object) -> str:
    if isinstance(value, str) and str.__str__(value) in rule.choices:
        return str.__str__(value)
    or_none = " or None" if rule.nullable else ""
    raise Broken("must be one of " + ", ".join(f'"{choice}"' for choice in rule.choices) + or_none)


def _mode(rule: Rule, value: object) -> int:
    mode = -1
    if isinstance(value, str):
        # JSON has no octal numbers, so that text is the only form people can read there.
        match = _MODE_TEXT.fullmatch(str.__str__(value))
        mode = int(match[1], 8) if match else -1
    elif isinstance(value, int) and not isinstance(value, bool):
        mode = int.__index__(value)
    if mode & ~0o666 or mode & 0o600 != 0o600:
        raise Broken(
            'must lie in 0o600 to 0o666: the owner reads and writes, nobody executes (octal: 0o640, or as text "0640")'
        )
    return mode


def _mapping(rule: Rule, value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise Broken("must be a mapping or None")
    count = 0

    def copied(part: object, level: int) -> Any:
        nonlocal count
        count += 1
        # The count also ends what a few lines of YAML anchors, or an endless mapping, would blow up to.
        if level > MOST_LEVELS or count > MOST_VALUES:
            raise Broken(TOO_MUCH)
        if isinstance(part, Mapping):
            return {str(key): copied(item, level + 1) for key, item in part.items()}
        if isinstance(part, list | tuple):
            return [copied(item, level + 1) for item in part]
        return part

    return {str(key): copied(item, 1) for key, item in value.items()}


def _is_unlimited(value: object) -> bool:
    return isinstance(value, str) and str.__str__(value).lower() == "unlimited"


def _no_limit(rule: Rule) -> str:
    if not rule.deletes:
        return ""
    return ', or None or "unlimited" for no limit' if rule.nullable else " (0 for no limit)"


_CHECKS: dict[Kind, Callable[[Rule, object], object]] = {
    Kind.INTEGER: _integer,
    Kind.NUMBER: _number,
    Kind.BOOLEAN: _boolean,
    Kind.LEVEL: _level,
    Kind.CHOICE: _choice,
    Kind.MODE: _mode,
    Kind.MAPPING: _mapping,
}

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60
