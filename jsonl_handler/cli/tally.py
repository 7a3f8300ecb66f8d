"""What the demo finds in its files: lines counted, and compared with what was logged.

It reads the files as any other program would, with the standard library alone.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class FileTally:
    """One file: its size in bytes, and its lines."""

    path: Path
    size: int
    lines: tuple[dict[str, Any], ...]


def read_files(directory: Path, prefix: str, sessions: Collection[str | None]) -> list[FileTally]:
    """Read the files whose lines belong to *sessions*, in the order they were begun.

    Raises ValueError when a line is not valid JSON.
    """
    tallies = []
    for path in directory.glob(f"{prefix}-*.jsonl"):
        content = path.read_bytes()
        lines = tuple(json.loads(line) for line in content.splitlines())
        if any(line.get("session") in sessions for line in lines):
            tallies.append(FileTally(path, len(content), lines))
    return sorted(tallies, key=lambda one: (one.lines[0]["session"], one.lines[0]["timestamp"]))


def events_in(tallies: Iterable[FileTally]) -> list[dict[str, Any]]:
    """The lines that are events; a line of the package itself has no ``seq``."""
    return [line for tally in tallies for line in tally.lines if "seq" in line]


def repeated(events: Iterable[dict[str, Any]]) -> int:
    """How many events stand there more than once: (session, seq) names one for good."""
    counts = Counter((event["session"], event["seq"]) for event in events)
    return sum(count - 1 for count in counts.values())
