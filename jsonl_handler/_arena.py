"""One arena: lines laid end to end in a fixed piece of memory, with the place where a UTC date begins.

It is not thread-safe and decides nothing; its owner holds a lock and chooses what goes.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass, field

Marks = list[tuple[int, int]]
"""Pairs (offset in the arena, date from there on), ascending."""


@dataclass(slots=True)
class Cursor:
    """How far a batch has been written, in bytes from where it *begun*; it stands still where an error stopped it."""

    at: int
    begun: int = -1

    def __post_init__(self) -> None:
        if self.begun < 0:
            self.begun = self.at


@dataclass(slots=True)
class Arena:
    """The lines ``memory[head:tail]``, *count* of them."""

    memory: mmap.mmap
    size: int
    head: int = 0
    tail: int = 0
    count: int = 0
    marks: Marks = field(default_factory=list)

    @classmethod
    def of(cls, size: int) -> Arena:
        """An empty arena of *size* bytes in anonymous memory."""
        # Private: the default is shared, and a forked child would write into its parent's lines.
        flags = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
        return cls(mmap.mmap(-1, size, **flags), size)

    def begin(self, day: int) -> None:
        """Forget what was here; what comes belongs to *day*."""
        self.head = self.tail = self.count = 0
        self.marks = [(0, day)]

    def mark(self, day: int) -> None:
        """Lines appended from here on belong to *day*."""
        if self.marks and self.marks[-1][0] == self.tail:
            self.marks.pop()
        self.marks.append((self.tail, day))

    def second(self) -> int:
        """Where the second-oldest line begins."""
        return self.memory.find(b"\n", self.head, self.tail) + 1

    def settle(self) -> None:
        """Bring the marks in line with a head that has moved."""
        while len(self.marks) > 1 and self.marks[1][0] <= self.head:
            del self.marks[0]
        if not self.count:
            self.head = self.tail = 0
            self.marks = [(0, self.marks[-1][1])]

    def has_room(self, size: int) -> bool:
        """True when *size* bytes fit, if need be after the lines moved to the front.

        They move only to where they don't overlap themselves, so that a crash in
        the middle leaves them whole.
        """
        if self.tail + size <= self.size:
            return True
        live = self.tail - self.head
        if live > self.head or live + size > self.size:
            return False
        self.memory[:live] = self.memory[self.head : self.tail]
        self.marks = [(max(0, offset - self.head), day) for offset, day in self.marks]
        self.head, self.tail = 0, live
        return True
