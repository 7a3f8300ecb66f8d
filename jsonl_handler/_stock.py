"""What lies in a buffer: two arenas of lines, their dates, and what had to be dropped.

It is not thread-safe and waits for nobody: `_admission` and `_handover` see to both.
"""

from __future__ import annotations

from dataclasses import dataclass

from jsonl_handler._arena import Arena
from jsonl_handler._clock import now
from jsonl_handler._dates import OpenDate
from jsonl_handler._journal import Journal
from jsonl_handler._losses import Loss, Losses
from jsonl_handler.settings import Settings


@dataclass(slots=True)
class Batch:
    """What the writer took: lines ``arena.memory[arena.head:arena.tail]``; *loss* and *remarks* go in front of them."""

    arena: Arena
    generation: int
    loss: Loss | None
    remarks: list[bytes]


class Stock:
    """Lines go into one arena while those of the other are written."""

    __slots__ = (
        "_arena", "_date", "_day_end", "_day_start", "_frozen", "_generation", "_limit", "_losses", "_memory",
        "_promised", "_remarks", "_soft", "_spare", "_written", "journal", "settings",
    )  # fmt: skip

    journal: Journal
    _arena: Arena
    _spare: Arena
    _frozen: Batch | None
    _losses: Losses
    _memory: Journal | None
    _remarks: list[bytes]
    _written: int

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._generation = 1
        self._date = OpenDate()
        self._day_start, self._day_end = self._date.start, self._date.end
        self._begin()

    @property
    def waiting(self) -> bool:
        """True while something is to be written: lines, or that lines were lost."""
        return bool(self._arena.count or self._losses.present or self._remarks or self._frozen)

    def _numbers(self) -> tuple[int, int, int]:
        frozen = self._frozen.arena.count if self._frozen else 0
        return self._written, self._losses.dropped, self._arena.count + frozen

    def _has_room(self, line: bytes) -> bool:
        return self._arena.count < self._limit and self._arena.has_room(len(line))

    def _add(self, line: bytes) -> None:
        arena = self._arena
        end = arena.tail + len(line)
        count = arena.count + 1
        arena.memory[arena.tail : end] = line
        arena.tail = end
        arena.count = count

    def _drop(self, reason: str) -> None:
        loss = self._losses.note(reason)
        loss.count += 1
        self._losses.dropped += 1
        self.journal.publish()

    def _drop_oldest(self, reason: str) -> None:
        loss, losses = self._losses.note(reason), self._losses
        arena = self._arena
        second = arena.second()
        # No call stands between these four: an interrupt can't part them.
        arena.head = second
        arena.count -= 1
        loss.count += 1
        losses.dropped += 1
        arena.settle()

    def _turn_date(self, created: float) -> bool:
        """A record from outside of the open date comes: True when it opens another one."""
        turned = self._date.turn(created)
        if turned:
            self._day_start, self._day_end = self._date.start, self._date.end
            self._arena.mark(self._date.day)
        return turned

    def _swap(self) -> Batch | None:
        """Take the lines out; None while those that were taken before are not settled, or when there are none."""
        arena = self._arena
        if self._frozen is not None or not (arena.count or self._losses.present or self._remarks):
            return None
        if not self._date.known:
            self._turn_date(now())
        remarks, self._remarks = self._remarks, []
        self._frozen = Batch(arena, self._generation, self._losses.take(), remarks)
        self.journal.older = int(arena is self.journal.arenas[1])
        self._spare.begin(self._date.day)
        self._arena, self._spare = self._spare, arena
        self._generation += 1
        self._limit = self.settings.buffer_limit
        # What is about to move to smaller memory must fit there.
        self._arena.size = min(self.journal.arena_bytes, self.settings.arena_bytes)
        self._set_soft()
        return self._frozen

    def _count_written(self, batch: Batch) -> None:
        """All of *batch* is written; its memory is free once it has been wiped."""
        if self._frozen is not batch:
            # An interrupt has come between the end of a write and its accounting, which is done again.
            return
        self._written += batch.arena.count
        batch.arena.count = 0
        self.journal.fulfil(batch.arena)

    def _move(self, journal: Journal) -> bool:
        """Go on in other memory, with the lines that wait; False while a batch is being written, or too much waits."""
        old, new = self._arena, journal.arenas[0]
        size = old.tail - old.head
        if not self.fits(new.size):
            return False
        self._serve(journal)
        new.memory[new.base : new.base + size] = old.memory[old.head : old.tail]
        new.head, new.tail, new.count = new.base, new.base + size, old.count
        shift = new.base - old.head
        new.marks = [(max(new.base, offset + shift), day) for offset, day in old.marks]
        new.live = True
        # From here on the new memory counts, and whoever finds both leaves the old one alone.
        new.publish()
        self.journal = journal
        self._arena, self._spare = journal.arenas
        self._memory = None
        self._set_soft()
        return True

    def fits(self, arena_bytes: int) -> bool:
        """True when nothing is being written, and what waits would fit into such an arena."""
        return self._frozen is None and self._arena.tail - self._arena.head <= arena_bytes

    @property
    def promised(self) -> bool:
        """True while lines wait that were accepted when they were to outlive the process, and now are not any more."""
        if self.settings.crash_safe or not self.journal.kept:
            return False
        return self._frozen is not None or (self._arena.count > 0 and self._generation <= self._promised)

    def _adopt(self, settings: Settings, memory: Journal | None) -> None:
        """Go by other settings from now on, and in other *memory*, unless a journal is made for that (see there)."""
        if self.settings.crash_safe and not settings.crash_safe:
            self._promised = self._generation
        self.settings = settings
        # What waits already is not dropped for a limit that came later.
        self._limit = max(settings.buffer_limit, self._arena.count)
        self.journal.limit(settings.max_file_bytes, settings.file_mode)
        self._memory = memory
        self._change_memory()

    def _change_memory(self) -> None:
        """Between two batches: move to the memory that was asked for."""
        if self._memory is not None and not self.journal.kept:
            self._move(self._memory)

    def _begin(self) -> None:
        self._losses = Losses()
        self._remarks = []
        self._frozen = None
        self._memory = None
        self._promised = 0
        self._limit = self.settings.buffer_limit
        self._written = 0
        self.journal = Journal.anonymous(self.settings.arena_bytes)
        self._serve(self.journal)
        self._arena, self._spare = self.journal.arenas
        self._arena.begin(self._date.day)
        self._set_soft()

    def _start_over(self) -> None:
        """In a forked child: what lies here is the parent's, and so is its memory."""
        self.journal.forsake()
        self._begin()

    def _serve(self, journal: Journal) -> None:
        journal.serve(self._losses, self.settings.max_file_bytes, self.settings.file_mode)

    def _set_soft(self) -> None:
        # Past half of the arena the writer is called, so that it comes before the arena is full.
        self._soft = self._arena.base + self._arena.size // 2
