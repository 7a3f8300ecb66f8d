"""The memory of a buffer: two arenas and what a stranger must know of them, over anonymous memory or a file.

How it is laid out is said in `_journal_layout`, where the file lies in `_journal_file`. Nothing is locked here.
"""

from __future__ import annotations

import mmap
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Self

from jsonl_handler import _journal_layout as layout
from jsonl_handler._arena import MOST_MARKS, NO_LIMIT, Arena
from jsonl_handler._journal_layout import ARENAS, FRONT, ArenaState, CorruptError, Header, Promise, size_of
from jsonl_handler._losses import Loss, Losses

Mirror = Callable[[int, bytes], None]
"""Where what changes goes too: the position and the bytes."""

NO_MEMORY = (OSError, OverflowError, ValueError, MemoryError)
"""What the system raises where the memory for a journal can't be had."""

_NOTHING = Promise("", 0, 0, 0, 0o600)


class Journal:
    """Two arenas and what a stranger must know of them; *kept* says that it may outlive the process."""

    __slots__ = (
        "__weakref__", "_generation", "_losses", "_mirror", "arenas", "front", "kept", "memory", "older", "promise",
    )  # fmt: skip

    def __init__(self, memory: mmap.mmap, arena_bytes: int, *, kept: bool) -> None:
        self.memory = memory
        self.kept = kept
        self.older = 0
        self.front = 0
        self.promise = _NOTHING
        publish = _publisher(self)
        self.arenas = tuple(Arena(memory, base, arena_bytes, publish, kept) for base in (ARENAS, ARENAS + arena_bytes))
        self._generation = 0
        self._losses: Losses = Losses()
        self._mirror: Mirror | None = None

    @classmethod
    def anonymous(cls, arena_bytes: int) -> Self:
        """Memory that ends with the process."""
        # Private: the default is shared, and a forked child would write into its parent's lines.
        flags = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
        return cls(mmap.mmap(-1, size_of(arena_bytes), **flags), arena_bytes, kept=False)

    @classmethod
    def begin(cls, memory: mmap.mmap, arena_bytes: int, owner: str) -> Self:
        """A new journal in blank memory; *owner* is the path of its session file."""
        layout.write_preamble(memory, arena_bytes, owner)
        return cls(memory, arena_bytes, kept=True)

    @classmethod
    def parse(cls, memory: mmap.mmap, mirror: Mirror | None = None) -> Self | None:
        """What a process that is gone has left; None when it had not begun; CorruptError when it is no journal.

        Where *memory* is a copy, *mirror* keeps what it was copied from in line with it.
        """
        if layout.has_not_begun(memory):
            return None
        arena_bytes, _ = layout.read_preamble(memory[: layout.PREAMBLE_BYTES])
        if size_of(arena_bytes) != len(memory):
            raise CorruptError(f"it has {len(memory)} bytes, its header says {size_of(arena_bytes)}")
        journal = cls(memory, arena_bytes, kept=True)
        journal._mirror = mirror
        journal._generation, header = layout.read_header(memory)
        journal._adopt(header)
        return journal

    @property
    def arena_bytes(self) -> int:
        """Size of each arena."""
        return (len(self.memory) - ARENAS) // 2

    @property
    def owed(self) -> Loss | None:
        """The loss that the stream has not been told of."""
        return self._losses.owed()

    @property
    def front_at(self) -> int:
        """Where the front begins."""
        return FRONT

    def serve(self, losses: Losses, cap: int, mode: int) -> None:
        """Tell of these *losses* from now on, and of how large segments may be and what mode they get."""
        self._losses = losses
        self.promise = Promise("", 0, 0, cap, mode)

    def limit(self, cap: int, mode: int) -> None:
        """Segments may be so large from now on, and get this mode."""
        self.promise = replace(self.promise, cap=cap, mode=mode)
        self.publish()

    def set_front(self, line: bytes) -> int:
        """Keep a line of the package itself until it is written, and count its loss as told; where it ends."""
        end = FRONT + len(line)
        self._store(FRONT, line)
        self.front = len(line)
        self._losses.line_is_kept()
        self.publish()
        return end

    def pledge(self, target: str, offset: int, start: int) -> None:
        """Note that what lies at *start* is about to be written to *target* at *offset*."""
        self.promise = Promise(target, offset, start, self.promise.cap, self.promise.mode)
        if start >= ARENAS:
            # Whatever stood in the front is in a file by now.
            self.front = 0
        self.publish()

    def fulfil(self, arena: Arena | None) -> None:
        """All that was pledged is written, so that *arena* (None: the front) holds nothing any more."""
        self.front = 0
        self.promise = Promise("", 0, 0, self.promise.cap, self.promise.mode)
        if arena is None:
            self.publish()
        else:
            arena.forget()

    def arena_of(self, position: int) -> Arena | None:
        """The arena that a position lies in; None for the front."""
        if position < ARENAS:
            return None
        return self.arenas[position >= self.arenas[1].base]

    def in_order(self) -> list[Arena]:
        """The arenas that hold lines, older first."""
        return [arena for arena in (self.arenas[self.older], self.arenas[1 - self.older]) if arena.live]

    def publish(self) -> None:
        """Make all of this known."""
        if not self.kept:
            return
        one, two = (ArenaState(arena.live, arena.head, arena.limit, arena.marks) for arena in self.arenas)
        generation = self._generation + 1
        header = Header(self.older, self.promise, self.front, self._losses.owed(), (one, two))
        self._store(*layout.pack_header(generation, header))
        self._generation = generation

    def forsake(self) -> None:
        """In a forked child: this memory is the parent's; whoever still holds an arena writes somewhere else."""
        self.kept = False
        self.memory = mmap.mmap(-1, len(self.memory))
        for arena in self.arenas:
            arena.memory, arena.wipes = self.memory, False

    def _store(self, at: int, content: bytes) -> None:
        end = at + len(content)
        # No call in this line: a fork in an interrupt of it would have the child store into its parent's memory.
        self.memory[at:end] = content
        if self._mirror is not None:
            self._mirror(at, content)

    def _adopt(self, header: Header) -> None:
        self.older, self.front, self.promise = header.older, header.front, header.promise
        if header.loss is not None:
            self._losses.present = header.loss
            # It is told next: as soon as a line about it is kept, it is owed no more.
            self._losses.take()
        for arena, state in zip(self.arenas, header.arenas, strict=True):
            _restore(arena, state)
        self._check_promise()

    def _check_promise(self) -> None:
        if not self.promise.target:
            return
        start = self.promise.start
        arena = self.arena_of(start)
        first, last = (FRONT, FRONT + self.front) if arena is None else (arena.head, arena.tail)
        if not first <= start <= last or (arena is not None and not arena.live):
            raise CorruptError("a header slot points outside of what it describes")


def _publisher(journal: Journal) -> Callable[[], None]:
    """What an arena publishes by. It holds no journal: memory that is not needed would stay until a collection."""
    held = weakref.ref(journal)

    def publish() -> None:
        owner = held()
        if owner is not None:
            owner.publish()

    return publish


def _restore(arena: Arena, state: ArenaState) -> None:
    live, head, limit, marks = state
    if not live:
        return
    offsets = [offset for offset, _ in marks]
    if (
        not arena.base <= head <= arena.end
        or not (limit == NO_LIMIT or head <= limit <= arena.end)
        or not (0 < len(marks) <= MOST_MARKS and offsets == sorted(offsets))
        or not arena.base <= offsets[0] <= head
        or offsets[-1] > arena.end
    ):
        raise CorruptError("a header slot points outside of its arena")
    end = arena.memory.find(b"\0", head, arena.end)
    end = min(arena.end if end < 0 else end, limit)
    # What has no newline was being appended, and not accepted yet.
    arena.tail = max(head, arena.memory.rfind(b"\n", head, end) + 1)
    arena.head, arena.live, arena.limit, arena.marks = head, True, limit, marks
    arena.count = arena.memory[head : arena.tail].count(b"\n")
