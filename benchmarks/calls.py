"""The logging call that is measured: one event, and the ways in which loggers take it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MESSAGE = "request answered"
EVENT: dict[str, Any] = {"path": "/basket", "status": 200, "ms": 12.5, "user": "alice", "cached": True}


@dataclass(frozen=True, slots=True)
class Event:
    """What each record of a run says."""

    message: str = MESSAGE
    fields: dict[str, Any] = field(default_factory=lambda: dict(EVENT))

    @classmethod
    def of(cls, message_bytes: int | None = None, extras: int | None = None) -> Event:
        """One with a message of so many bytes, or with so many extras."""
        message = MESSAGE if message_bytes is None else "x" * message_bytes
        values = list(EVENT.values())
        numbered = range(extras or 0)
        fields = EVENT if extras is None else {f"field_{number}": values[number % len(values)] for number in numbered}
        return cls(message, dict(fields))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a contender writes, and the settings that differ from its defaults.

    *settings* are keyword arguments of `JsonlHandler`, which other contenders do not look at.
    """

    directory: Path
    max_file_bytes: int = 5 * 1024 * 1024
    backups: int = 100
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The file of a contender that is told of one."""
        return self.directory / "bench.jsonl"


@dataclass(frozen=True, slots=True)
class Rig:
    """A logger that is ready: *style* says how *info* takes an event, *finish* returns when all is on disk.

    *counts* tells what was accepted, written and dropped, where the contender knows.
    """

    info: Callable[..., Any]
    finish: Callable[[], Any]
    style: str = "extra"
    counts: Callable[[], dict[str, Any]] | None = None


# A loop for each style, so that no contender pays for a call in between.


def _with_extra(info: Callable[..., Any], event: Event, n: int) -> None:
    message, fields = event.message, event.fields
    for _ in range(n):
        info(message, extra=fields)


def _with_keywords(info: Callable[..., Any], event: Event, n: int) -> None:
    message, fields = event.message, event.fields
    for _ in range(n):
        info(message, **fields)


def _bare(info: Callable[..., Any], event: Event, n: int) -> None:
    message = event.message
    for _ in range(n):
        info(message)


LOOPS: dict[str, Callable[[Callable[..., Any], Event, int], None]] = {
    "extra": _with_extra,
    "keywords": _with_keywords,
    "bare": _bare,
}
