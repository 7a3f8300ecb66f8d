"""Segment names: how they are written, and how they are recognised again.

What does not round-trip was not written by this package and is never touched.
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass, replace
from typing import Self

_REST = re.compile(
    r"-(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})-(?P<session>[a-z0-9]{1,8})"
    r"(?:\.(?P<part>[1-9][0-9]{0,8}))?\.jsonl(?P<suffix>|\.gz|\.zst)",
    re.ASCII,
)


@dataclass(frozen=True, slots=True, order=True)
class SegmentName:
    """One file of one session on one UTC date; names sort by date, then session, then part.

    *suffix* is ``.gz`` or ``.zst`` for a compressed copy, which sorts after the segment itself.
    """

    prefix: str
    date: datetime.date
    session: str
    part: int = 0
    suffix: str = ""

    def __str__(self) -> str:
        number = f".{self.part}" if self.part else ""
        return f"{self.prefix}-{self.date.isoformat()}-{self.session}{number}.jsonl{self.suffix}"

    def next(self) -> Self:
        """The name of the size segment that follows this one; it is not compressed."""
        return replace(self, part=self.part + 1, suffix="")

    def with_suffix(self, suffix: str) -> Self:
        """The name of a copy that is compressed so; of the segment itself, if *suffix* is empty."""
        return replace(self, suffix=suffix)

    @classmethod
    def parse(cls, name: str, prefix: str) -> Self | None:
        """Read a name back; None when this package did not write it with this prefix."""
        if not name.startswith(prefix):
            return None
        match = _REST.fullmatch(name, len(prefix))
        if match is None:
            return None
        try:
            date = datetime.date.fromisoformat(match["date"])
        except ValueError:
            return None
        parsed = cls(prefix, date, match["session"], int(match["part"] or 0), match["suffix"])
        return parsed if str(parsed) == name else None
