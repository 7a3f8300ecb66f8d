"""From a source, a mapping or the text of a file, to a plain mapping of bounded size.

What its keys mean is not known here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jsonl_handler._rules import MOST_LEVELS, MOST_VALUES, TOO_MUCH
from jsonl_handler.errors import ConfigError

FORMATS = (".toml", ".json", ".yaml", ".yml")


def parse(content: bytes, path: Path, named: str, table: str | None) -> dict[str, Any]:
    """The mapping in a file's *content*, or the *table* in it; raises `ConfigError` (with the line, for a syntax)."""
    try:
        # Some editors begin a file with a byte order mark.
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(named, "", f"must be UTF-8 text, and is not in line {line}") from error
    try:
        parsed = _PARSERS[path.suffix.lower()](text)
    except ConfigError as error:
        raise ConfigError(named, error.where, error.problem) from error
    except RecursionError as error:
        raise ConfigError(named, "", TOO_MUCH) from error
    except Exception as error:
        # Each format has its own; all of them say where.
        raise ConfigError(named, "", " ".join(str(error).split())) from error
    return plain(parsed, named, table)


def plain(source: object, named: str | None, table: str | None) -> dict[str, Any]:
    """A copy of *source*, or of the *table* in it, in dicts and lists; other values are taken as they are."""
    where = []
    for part in table.split(".") if table is not None else ():
        where.append(part)
        if not isinstance(source, Mapping) or part not in source:
            raise ConfigError(named, ".".join(where), "there is no such table")
        source = source[part]
    if not isinstance(source, Mapping):
        raise ConfigError(named, ".".join(where), f"must be a mapping, got {type(source).__name__}")
    try:
        copied = _Copy().of(source, 0)
    except RecursionError as error:
        raise ConfigError(named, ".".join(where), TOO_MUCH) from error
    except ConfigError as error:
        raise ConfigError(named, ".".join(where), error.problem) from error
    except Exception as error:
        raise ConfigError(named, ".".join(where), f"can't be read: {error!r}") from error
    assert isinstance(copied, dict)
    return copied


class _Copy:
    """Copies containers, and counts: a few lines of YAML anchors may stand for billions of values."""

    def __init__(self) -> None:
        self._count = 0

    def of(self, value: object, level: int) -> object:
        self._count += 1
        if level > MOST_LEVELS or self._count > MOST_VALUES:
            raise ConfigError(None, "", TOO_MUCH)
        if isinstance(value, Mapping):
            return {key: self.of(item, level + 1) for key, item in value.items()}
        if type(value) is list:
            return [self.of(item, level + 1) for item in value]
        if type(value) is tuple:
            return tuple(self.of(item, level + 1) for item in value)
        return value


def _toml(text: str) -> object:
    import tomllib

    return tomllib.loads(text)


def _json(text: str) -> object:
    return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigError(None, "", f"the key {twice!r} stands twice in one object")
    return found


def _no_constant(constant: str) -> object:
    raise ConfigError(None, "", f"{constant} is no JSON")


def _yaml(text: str) -> object:
    try:
        import yaml  # type: ignore[import-untyped]
    except ModuleNotFoundError as error:
        remedy = 'install "jsonl-handler[yaml]", or write TOML or JSON'
        raise ConfigError(None, "", f"reading YAML needs PyYAML, which is not installed; {remedy}") from error
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return {}
        # Before anything is made of it: merging mappings (`<<`) doubles them as often as a bomb likes.
        _Sizes().of(node, 0)
        return loader.construct_document(node)
    finally:
        loader.dispose()


class _Sizes:
    """How many values a node of YAML stands for, its aliases written out."""

    def __init__(self) -> None:
        self._known: dict[int, int | None] = {}

    def of(self, node: Any, level: int) -> int:
        size = self._known.get(id(node), 0)
        if size is None or level > MOST_LEVELS:
            # It is further up: it contains itself.
            raise ConfigError(None, "", TOO_MUCH)
        if size:
            return size
        self._known[id(node)] = None
        size = 1
        for part in node.value if isinstance(node.value, list) else ():
            size += sum(self.of(one, level + 1) for one in (part if isinstance(part, tuple) else (part,)))
            if size > 10 * MOST_VALUES:
                raise ConfigError(None, "", TOO_MUCH)
        self._known[id(node)] = size
        return size


_PARSERS: dict[str, Callable[[str], object]] = {".toml": _toml, ".json": _json, ".yaml": _yaml, ".yml": _yaml}
