"""The memory of a buffer: two header slots, a front and two arenas, over anonymous memory or a file that outlives us.

It is written and parsed as a pair. Where the file lies is the business of `_journal_file`.

A change of the header goes into the older of the slots, with a higher generation and a
checksum: whoever kills the process, one whole slot is there. Nothing is locked here.
"""

from __future__ import annotations

import binascii
import mmap
import struct
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

from jsonl_handler._arena import MOST_MARKS, NO_LIMIT, Arena
from jsonl_handler._losses import Loss, Losses

FRONT_BYTES = 4096
"""Most bytes of the lines that the package itself puts in front of a batch."""

_MAGIC = b"jsonl\x00j1"
_PREAMBLE = struct.Struct("<8sQH")  # magic, bytes of an arena, bytes of the owner's path
_SLOTS = (1024, 2560)
MOST_OWNER = _SLOTS[0] - _PREAMBLE.size
"""A longer path is cut."""
_FRONT = 4096
_ARENAS = _FRONT + FRONT_BYTES
_HEAD = struct.Struct("<QIH")  # generation, checksum, bytes of the rest
# older arena; start, offset, cap; mode, front; count, first, last of the loss; bytes of two texts;
# twice: live, head, limit, marks.
_FIXED = struct.Struct("<BQQQHHQddBBBQQBBQQB")
_MARK = struct.Struct("<Qi")
_MOST_REASON = 200
_MOST = (1 << 63) - 1


class CorruptError(ValueError):
    """The memory does not hold what this room writes; the text says where."""


@dataclass(slots=True)
class Promise:
    """What is being written: the bytes from *start* on, to *target* (a segment) from *offset* on."""

    target: str
    offset: int
    start: int
    cap: int
    mode: int


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
        self.arenas = tuple(
            Arena(memory, base, arena_bytes, publish, kept) for base in (_ARENAS, _ARENAS + arena_bytes)
        )
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
        path = owner.encode("utf-8", "surrogateescape")[:MOST_OWNER]
        preamble = _PREAMBLE.pack(_MAGIC, arena_bytes, len(path)) + path
        # The magic comes last: with it the rest is there.
        memory[len(_MAGIC) : len(preamble)] = preamble[len(_MAGIC) :]
        memory[: len(_MAGIC)] = _MAGIC
        return cls(memory, arena_bytes, kept=True)

    @classmethod
    def parse(cls, memory: mmap.mmap, mirror: Mirror | None = None) -> Self | None:
        """What a process that is gone has left; None when it had not begun; CorruptError when it is no journal.

        Where *memory* is a copy, *mirror* keeps what it was copied from in line with it.
        """
        if _has_not_begun(memory):
            return None
        arena_bytes, _ = read_preamble(memory[: _SLOTS[0]])
        if size_of(arena_bytes) != len(memory):
            raise CorruptError(f"it has {len(memory)} bytes, its header says {size_of(arena_bytes)}")
        slots = [slot for slot in (_read_slot(memory, at) for at in _SLOTS) if slot is not None]
        if not slots:
            raise CorruptError("no header slot has a valid checksum")
        generation, body = max(slots)
        journal = cls(memory, arena_bytes, kept=True)
        journal._mirror = mirror
        journal._generation = generation
        journal._adopt(body)
        return journal

    @property
    def arena_bytes(self) -> int:
        """Size of each arena."""
        return (len(self.memory) - _ARENAS) // 2

    @property
    def owed(self) -> Loss | None:
        """The loss that the stream has not been told of."""
        return self._losses.owed()

    @property
    def front_at(self) -> int:
        """Where the front begins."""
        return _FRONT

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
        end = _FRONT + len(line)
        self._store(_FRONT, line)
        self.front = len(line)
        self._losses.line_is_kept()
        self.publish()
        return end

    def pledge(self, target: str, offset: int, start: int) -> None:
        """Note that what lies at *start* is about to be written to *target* at *offset*."""
        self.promise = Promise(target, offset, start, self.promise.cap, self.promise.mode)
        if start >= _ARENAS:
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
        if position < _ARENAS:
            return None
        return self.arenas[position >= self.arenas[1].base]

    def in_order(self) -> list[Arena]:
        """The arenas that hold lines, older first."""
        return [arena for arena in (self.arenas[self.older], self.arenas[1 - self.older]) if arena.live]

    def publish(self) -> None:
        """Make all of this known."""
        if not self.kept:
            return
        one, two = self.arenas
        promise, loss = self.promise, self._losses.owed()
        target = promise.target.encode("ascii")
        reason = loss.reason.encode()[:_MOST_REASON] if loss is not None else b""
        marks = [_MARK.pack(*mark) for arena in self.arenas for mark in arena.marks]
        # fmt: off
        body = _FIXED.pack(
            self.older, promise.start, promise.offset, promise.cap, promise.mode, self.front,
            *((loss.count, loss.first, loss.last) if loss is not None else (0, 0.0, 0.0)), len(target), len(reason),
            one.live, one.head, one.limit, len(one.marks), two.live, two.head, two.limit, len(two.marks),
        ) + b"".join((target, reason, *marks))
        # fmt: on
        generation = self._generation + 1
        slot = _HEAD.pack(generation, binascii.crc32(body, generation & 0xFFFFFFFF), len(body)) + body
        self._store(_SLOTS[generation & 1], slot)
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

    def _adopt(self, body: bytes) -> None:
        try:
            fields = _FIXED.unpack_from(body)
        except struct.error as error:
            raise CorruptError("a header slot is too short") from error
        older, start, offset, cap, mode, front, count, first, last, target_bytes, reason_bytes, *arenas = fields
        rest = body[_FIXED.size :]
        target, reason, marks = (
            rest[:target_bytes],
            rest[target_bytes : target_bytes + reason_bytes],
            rest[target_bytes + reason_bytes :],
        )
        one, two = arenas[:4], arenas[4:]
        if older > 1 or front > FRONT_BYTES or offset > _MOST or cap > _MOST or not 0o600 <= mode <= 0o666:
            raise CorruptError("a header slot has numbers that this package does not write")
        if len(marks) != (one[3] + two[3]) * _MARK.size:
            raise CorruptError("a header slot has the wrong length")
        if not target.isascii():
            raise CorruptError("a header slot names a segment that this package does not write")
        self.older, self.front = older, front
        self.promise = Promise(target.decode("ascii"), offset, start, cap, mode)
        if count:
            self._losses.present = Loss(reason.decode("utf-8", "replace"), first, last, count)
            # It is told next: as soon as a line about it is kept, it is owed no more.
            self._losses.take()
        split = one[3] * _MARK.size
        for arena, numbers, own in zip(self.arenas, (one, two), (marks[:split], marks[split:]), strict=True):
            _restore(arena, numbers, [*_MARK.iter_unpack(own)])
        self._check_promise()

    def _check_promise(self) -> None:
        if not self.promise.target:
            return
        start = self.promise.start
        arena = self.arena_of(start)
        first, last = (_FRONT, _FRONT + self.front) if arena is None else (arena.head, arena.tail)
        if not first <= start <= last or (arena is not None and not arena.live):
            raise CorruptError("a header slot points outside of what it describes")


def size_of(arena_bytes: int) -> int:
    """Bytes of a journal whose arenas have *arena_bytes* each."""
    return _ARENAS + 2 * arena_bytes


def read_preamble(beginning: bytes) -> tuple[int, str]:
    """(Bytes of an arena, path of the owner's session file) of a journal; CorruptError when it is none."""
    try:
        magic, arena_bytes, length = _PREAMBLE.unpack_from(beginning)
    except struct.error as error:
        raise CorruptError("it is too short") from error
    owner = beginning[_PREAMBLE.size : _PREAMBLE.size + length]
    if magic != _MAGIC or arena_bytes > 1 << 40 or len(owner) != length or b"\0" in owner:
        raise CorruptError("it does not begin like a journal of this layout")
    return arena_bytes, owner.decode("utf-8", "surrogateescape")


def _publisher(journal: Journal) -> Callable[[], None]:
    """What an arena publishes by. It holds no journal: memory that is not needed would stay until a collection."""
    held = weakref.ref(journal)

    def publish() -> None:
        owner = held()
        if owner is not None:
            owner.publish()

    return publish


def _has_not_begun(memory: mmap.mmap) -> bool:
    """True when its process ended before the first publishing was done, so that no line was accepted into it."""
    magic = memory[: len(_MAGIC)]
    if magic != _MAGIC:
        return all(byte in (0, wanted) for byte, wanted in zip(magic, _MAGIC, strict=True))
    second, first = _SLOTS
    return _read_slot(memory, first) is None and not any(memory[second:first])


def _read_slot(memory: mmap.mmap, at: int) -> tuple[int, bytes] | None:
    generation, checksum, length = _HEAD.unpack_from(memory, at)
    body = memory[at + _HEAD.size : at + _HEAD.size + length]
    if (
        not 0 < generation < _MOST
        or _SLOTS[generation & 1] != at
        or len(body) < length
        or binascii.crc32(body, generation & 0xFFFFFFFF) != checksum
    ):
        return None
    return generation, body


def _restore(arena: Arena, numbers: list[int], marks: list[tuple[int, int]]) -> None:
    live, head, limit, _ = numbers
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
