"""The tunables: their names, defaults and rules, and how a mapping becomes `Settings`.

What a rule checks is in `_rules`, what an unknown key is told in `_aliases`; reading files is not done here.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Self

from jsonl_handler._aliases import advice
from jsonl_handler._rules import MAX_INTEGER, Broken, Kind, Rule, check, shown
from jsonl_handler.errors import ConfigError

_KIB = 1024
_MIB = 1024 * _KIB
_NOTHING: Mapping[str, object] = {}


@dataclass(frozen=True, slots=True)
class Problem:
    """A value that could not be taken as it was given, and what happens instead."""

    key: str
    # Somebody's object: its own comparison or repr may raise, so neither is asked.
    value: object = field(repr=False, compare=False)
    rule: str
    consequence: str

    def __str__(self) -> str:
        return f"{self.key}: {self.rule}, got {shown(self.value)}; {self.consequence}"


def _whole(default: int, unit: str, floor: int, meaning: str, **more: Any) -> Any:
    return _setting(default, Kind.INTEGER, meaning, unit=unit, floor=floor, ceiling=MAX_INTEGER, **more)


def _seconds(default: float, meaning: str) -> Any:
    # No thread can wait for longer.
    return _setting(default, Kind.NUMBER, meaning, unit="seconds", floor=0, ceiling=threading.TIMEOUT_MAX)


def _setting(default: object, kind: Kind, meaning: str, **more: Any) -> Any:
    # A context holds dicts; without it settings can still be hashed.
    return field(
        default=default,
        hash=kind is not Kind.MAPPING,
        metadata={"rule": Rule(kind=kind, meaning=meaning, **more)},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The tunables of one handler, checked; `load` makes them, a change is a new object."""

    flush_interval: float = _seconds(
        15.0, "How long a record may wait in the buffer; 0 writes as soon as the writer is free."
    )
    flush_batch_size: int = _whole(100, "records", 1, "This many waiting records start a write at once.")
    flush_level: int | None = _setting(
        logging.ERROR,
        Kind.LEVEL,
        "A record at or above it starts a write at once: a level's name or number; None for no level.",
        nullable=True,
    )
    buffer_limit: int = _whole(500, "records", 10, "Most records in the buffer that the writer has not taken yet.")
    buffer_bytes: int = _whole(_MIB, "bytes", 64 * _KIB, "Most bytes in the buffer, both arenas together.")
    overflow: Literal["drop_oldest", "drop_newest", "block"] = _setting(
        "drop_oldest",
        Kind.CHOICE,
        'What gives way when the buffer is full: "drop_oldest", "drop_newest",'
        ' or "block" to wait for room however long.',
        choices=("drop_oldest", "drop_newest", "block"),
    )
    overflow_timeout: float = _seconds(0.1, "How long a caller waits for room before the policy drops; once per stall.")
    max_record_bytes: int = _whole(
        256 * _KIB,
        "bytes",
        _KIB,
        'A longer line is cut down to valid JSON with `"truncated": true`; at most one arena.',
    )
    max_file_bytes: int = _whole(5 * _MIB, "bytes", 4096, "Size of one segment.")
    max_age_days: float | None = _setting(
        30.0,
        Kind.NUMBER,
        "Files last written longer ago are deleted; None for no limit.",
        unit="days",
        floor=1,
        nullable=True,
        deletes=True,
    )
    max_total_bytes: int | None = _whole(
        100 * _MIB,
        "bytes",
        4096,
        "While all files together are larger, the oldest are deleted; None for no limit.",
        nullable=True,
        deletes=True,
    )
    max_files: int | None = _whole(
        10_000,
        "files",
        1,
        "While there are more files, the oldest are deleted; None for no limit.",
        nullable=True,
        deletes=True,
    )
    min_free_bytes: int = _whole(
        0, "bytes", 0, "While the disk has less free, the oldest are deleted; 0 for no limit.", deletes=True
    )
    compress: Literal["gzip", "zstd"] | None = _setting(
        None,
        Kind.CHOICE,
        'Closed segments are compressed: "gzip", or "zstd" (needs Python 3.14 or the extra zstd); None for no.',
        choices=("gzip", "zstd"),
        nullable=True,
    )
    fsync: Literal["never", "rotate", "flush"] = _setting(
        "never",
        Kind.CHOICE,
        'When a segment is forced to the disk: "never", "rotate" when it is left or closed,'
        ' or "flush" after each batch too.',
        choices=("never", "rotate", "flush"),
    )
    crash_safe: bool = _setting(
        True,
        Kind.BOOLEAN,
        "Keep the buffer in a journal, from which it is put back after a crash; where that can't be done it is told.",
    )
    enabled: bool = _setting(True, Kind.BOOLEAN, "False refuses records at the door; nothing is written.")
    context: Mapping[str, Any] | None = _setting(
        None, Kind.MAPPING, "A mapping written once per file, in a header line; None for none.", nullable=True
    )
    file_mode: int = _setting(
        0o600,
        Kind.MODE,
        'Permissions of new files, 0o600 to 0o666, also as octal text such as "0640"; directories made get 0o700.',
    )
    close_timeout: float = _seconds(5.0, "How long `close()`, a bare `flush()` and the interpreter's exit may wait.")

    suspended: frozenset[str] = frozenset()
    """The deletion limits that were invalid, so that nothing is deleted by them; not a key."""

    @property
    def arena_bytes(self) -> int:
        """Size of one of the buffer's two arenas, so of the longest line, in bytes."""
        return self.buffer_bytes // 2

    @classmethod
    def load(cls, mapping: Mapping[str, object], *, strict: bool = False) -> tuple[Self, list[Problem]]:
        """Check *mapping*, key by key; a missing key takes its default.

        A value that breaks its rule takes its default too and is a `Problem`.
        An invalid deletion limit suspends that deletion, since 0 or -1 was meant as "unlimited".
        Raises `ConfigError` for an unknown key, for a bad `file_mode`, and with *strict* for any Problem;
        nothing else, whatever the values are.
        """
        given = known(mapping)
        values: dict[str, Any] = {key: default for key, (default, _) in _KEYS.items()}
        refused: dict[str, str] = {}
        for key, value in given.items():
            try:
                values[key] = check(RULES[key], value)
            except Broken as broken:
                if RULES[key].kind is Kind.MODE:
                    raise ConfigError(None, key, f"{broken}, got {shown(value)}") from None
                refused[key] = str(broken)
        suspended = frozenset(key for key in refused if RULES[key].deletes)
        crossed = _cross(values, given.keys() - refused.keys(), suspended)
        problems = [Problem(key, given[key], rule, _consequence(key, values[key])) for key, rule in refused.items()]
        problems += [Problem(key, given[key], *texts) for key, texts in crossed.items()]
        if strict and problems:
            raise _refusal([(p.key, f"{p.rule}, got {shown(p.value)}") for p in problems])
        return cls(**values, suspended=suspended), problems


_KEYS: dict[str, tuple[Any, Rule]] = {
    each.name: (each.default, each.metadata["rule"]) for each in fields(Settings) if each.metadata
}
RULES: dict[str, Rule] = {key: rule for key, (_, rule) in _KEYS.items()}
KEYS: tuple[str, ...] = tuple(RULES)


def without_memory(
    mapping: Mapping[str, object], why: str, *, strict: bool, instead: Mapping[str, object] = _NOTHING
) -> tuple[Settings, Problem]:
    """The settings where the system refused the given `buffer_bytes` (*why*): with those of *instead*, or the default.

    With *strict* that is a `ConfigError`.
    """
    given = known(mapping)
    value = given.pop("buffer_bytes", None)
    settings, _ = Settings.load({**given, **instead})
    consequence = _consequence("buffer_bytes", settings.buffer_bytes)
    problem = Problem("buffer_bytes", value, f"so much memory can't be had ({why})", consequence)
    if strict:
        raise ConfigError(None, problem.key, f"{problem.rule}, got {shown(problem.value)}")
    return settings, problem


def known(mapping: Mapping[str, object]) -> dict[str, object]:
    """The known keys with plain names; every unknown one is in one error."""
    try:
        items = [(_plain(key), value) for key, value in mapping.items()]
    except Exception as error:
        raise ConfigError(None, "", f"settings must be a mapping, got {shown(mapping)}") from error
    units = {key: rule.unit for key, rule in RULES.items()}
    unknown = [
        (shown(key)[1:-1] or "''", f"unknown setting; {advice(key, units)}") for key, _ in items if key not in RULES
    ]
    if unknown:
        raise _refusal(unknown)
    return dict(items)


def _plain(key: object) -> str:
    return str.__str__(key) if isinstance(key, str) else f"{shown(key)} (no text)"


def _cross(values: dict[str, Any], chosen: set[str], suspended: frozenset[str]) -> dict[str, tuple[str, str]]:
    """Clamp *values* to each other and to what is installed; rule and consequence for each that the user chose."""
    texts = {}
    if values["compress"] is not None:
        # Few ask for it, and it brings much along.
        from jsonl_handler._codec import is_available

        if not is_available(values["compress"]):
            values["compress"] = None
            texts["compress"] = (
                "needs Python 3.14 or the package backports.zstd",
                'segments stay uncompressed; install "jsonl-handler[zstd]", or use "gzip"',
            )
    total = None if "max_total_bytes" in suspended else values["max_total_bytes"]
    for key, bound, name, consequence in (
        ("flush_batch_size", values["buffer_limit"], "buffer_limit", "{} is used instead"),
        ("max_record_bytes", values["buffer_bytes"] // 2, "half of buffer_bytes", "{} is used instead"),
        (
            "max_file_bytes",
            total,
            "max_total_bytes",
            "it is kept, but one session's current file, which is never deleted, may then exceed the total",
        ),
    ):
        if bound is None or values[key] <= bound:
            continue
        if key in chosen:
            texts[key] = (f"must be at most {name} ({bound})", consequence.format(bound))
        if key not in chosen or key != "max_file_bytes":
            values[key] = bound
    return texts


def _consequence(key: str, value: object) -> str:
    if RULES[key].deletes:
        return f"deletion by {key} is suspended"
    default = "the default " if value == _KEYS[key][0] else ""
    return f"{default}{shown(value)} is used instead"


def _refusal(errors: list[tuple[str, str]]) -> ConfigError:
    (where, problem), *others = errors
    return ConfigError(None, where, ". ".join([problem, *(f"{key}: {text}" for key, text in others)]))
