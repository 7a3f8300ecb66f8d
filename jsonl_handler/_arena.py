"""One arena: lines laid end to end in a stretch of a buffer's memory, with the places where a UTC date begins.

It is not thread-safe and decides nothing; its owner holds a lock and chooses what goes.
Behind its lines all bytes are 0, so that who finds the memory after a crash sees where they end.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from dataclasses import dataclass, field

NO_LIMIT = (1 << 64) - 1
MOST_MARKS = 16

Marks = list[tuple[int, int]]
"""Pairs (offset in the memory, date from there on), ascending."""

Pledge = Callable[[str, int, int], None]
"""Told before bytes are written: segment, offset in it, position of the bytes in the memory."""


@dataclass(slots=True)
class Cursor:
    """How far a batch has been written, in bytes from where it *begun*; it stands still where an error stopped it."""

    at: int
    begun: int = -1
    pledge: Pledge | None = None

    def __post_init__(self) -> None:
        if self.begun < 0:
            self.begun = self.at


@dataclass(slots=True)
class Arena:
    """The lines ``memory[head:tail]``, *count* of them, somewhere in the *size* bytes from *base* on.

    *live*: they are accepted, and not yet in a file. *limit* is where they end while there
    are other bytes behind them. *publish* makes both known to whoever comes after a crash.
    """

    memory: mmap.mmap
    base: int
    size: int
    publish: Callable[[], None]
    wipes: bool
    head: int = 0
    tail: int = 0
    count: int = 0
    live: bool = False
    limit: int = NO_LIMIT
    marks: Marks = field(default_factory=list)

    @property
    def end(self) -> int:
        """The first byte that is not the arena's."""
        return self.base + self.size

    def begin(self, day: int) -> None:
        """Take lines from now on; what comes belongs to *day*."""
        self.head = self.tail = self.base
        self.count = 0
        self.limit = NO_LIMIT
        self.marks = [(self.base, day)]
        self.live = True
        self.publish()

    def mark(self, day: int) -> None:
        """Lines appended from here on belong to *day*."""
        kept = self.marks[:-1] if self.marks[-1][0] == self.tail else self.marks
        if len(kept) == MOST_MARKS:
            # The clock has jumped sixteen times since the last write: what comes goes with the date before.
            return
        # In one step: an interrupt must not leave an arena without any.
        self.marks = [*kept, (self.tail, day)]
        self.publish()

    def second(self) -> int:
        """Where the second-oldest line begins."""
        return self.memory.find(b"\n", self.head, self.tail) + 1

    def settle(self) -> None:
        """Bring the rest in line with a head that has moved."""
        while len(self.marks) > 1 and self.marks[1][0] <= self.head:
            del self.marks[0]
        if self.count:
            self.publish()
        else:
            self._move_to_base(0, [(self.base, self.marks[-1][1])])

    def has_room(self, size: int) -> bool:
        """True when *size* bytes fit, if need be after the lines moved to the front.

        They move only to where they don't overlap themselves, so that a crash in
        the middle leaves them whole.
        """
        if self.tail + size <= self.end:
            return True
        live = self.tail - self.head
        if live > self.head - self.base or live + size > self.size:
            return False
        self.memory[self.base : self.base + live] = self.memory[self.head : self.tail]
        gone = self.head - self.base
        self._move_to_base(live, [(max(self.base, offset - gone), day) for offset, day in self.marks])
        return True

    def forget(self) -> None:
        """Its lines are in a file, or told as lost."""
        self.live = False
        self.publish()

    def wipe(self) -> None:
        """Make all bytes 0 again where lines were."""
        self._wipe(self.base, self.tail)

    def _wipe(self, start: int, stop: int) -> None:
        if self.wipes and start < stop:
            self.memory[start:stop] = bytes(stop - start)

    def _move_to_base(self, live: int, marks: Marks) -> None:
        end, before = self.base + live, self.tail
        # No call stands between these four: an interrupt can't part them.
        self.marks = marks
        self.head = self.base
        self.tail = end
        self.limit = end
        try:
            self._publish_end(end, before)
        except BaseException:
            # Ctrl-C: half done it would be wrong for whoever comes after a crash, done again it is not.
            self._publish_end(end, before)
            raise

    def _publish_end(self, end: int, before: int) -> None:
        """First where the lines end, then zeros behind them, then "they end at the first zero" again."""
        self.limit = end
        self.publish()
        self._wipe(end, before)
        self.limit = NO_LIMIT
        self.publish()
