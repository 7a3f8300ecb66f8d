"""How the memory of a journal is laid out: a preamble, two header slots, a front and two arenas.

What is written here is parsed here. A change of the header goes into the older of the slots,
with a higher generation and a checksum: whoever kills the process, one whole slot is there.
"""

from __future__ import annotations

import binascii
import mmap
import struct
from dataclasses import dataclass
from typing import NamedTuple

from jsonl_handler._arena import Marks
from jsonl_handler._losses import Loss

FRONT_BYTES = 4096
"""Most bytes of the lines that the package itself puts in front of a batch."""

MAGIC = b"jsonl\x00j1"
_PREAMBLE = struct.Struct("<8sQH")  # magic, bytes of an arena, bytes of the owner's path
PREAMBLE_BYTES = 1024
SLOTS = (PREAMBLE_BYTES, 2560)
MOST_OWNER = PREAMBLE_BYTES - _PREAMBLE.size
"""A longer path is cut."""
FRONT = 4096
ARENAS = FRONT + FRONT_BYTES
HEAD = struct.Struct("<QIH")  # generation, checksum, bytes of the rest
# older arena; start, offset, cap; mode, front; count, first, last of the loss; bytes of two texts;
# twice: live, head, limit, marks.
FIXED = struct.Struct("<BQQQHHQddBBBQQBBQQB")
MARK = struct.Struct("<Qi")
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


class ArenaState(NamedTuple):
    """What the header says of one arena."""

    live: bool
    head: int
    limit: int
    marks: Marks


class Header(NamedTuple):
    """What the header says: *loss* is owed, *front* is how many bytes are kept there."""

    older: int
    promise: Promise
    front: int
    loss: Loss | None
    arenas: tuple[ArenaState, ArenaState]


def size_of(arena_bytes: int) -> int:
    """Bytes of a journal whose arenas have *arena_bytes* each."""
    return ARENAS + 2 * arena_bytes


def write_preamble(memory: mmap.mmap, arena_bytes: int, owner: str) -> None:
    """Make blank memory a journal; *owner* is the path of its session file."""
    path = owner.encode("utf-8", "surrogateescape")[:MOST_OWNER]
    preamble = _PREAMBLE.pack(MAGIC, arena_bytes, len(path)) + path
    # The magic comes last: with it the rest is there.
    memory[len(MAGIC) : len(preamble)] = preamble[len(MAGIC) :]
    memory[: len(MAGIC)] = MAGIC


def read_preamble(beginning: bytes) -> tuple[int, str]:
    """(Bytes of an arena, path of the owner's session file) of a journal; CorruptError when it is none."""
    try:
        magic, arena_bytes, length = _PREAMBLE.unpack_from(beginning)
    except struct.error as error:
        raise CorruptError("it is too short") from error
    owner = beginning[_PREAMBLE.size : _PREAMBLE.size + length]
    if magic != MAGIC or arena_bytes > 1 << 40 or len(owner) != length or b"\0" in owner:
        raise CorruptError("it does not begin like a journal of this layout")
    return arena_bytes, owner.decode("utf-8", "surrogateescape")


def has_not_begun(memory: mmap.mmap) -> bool:
    """True when its process ended before the first publishing was done, so that no line was accepted into it."""
    magic = memory[: len(MAGIC)]
    if magic != MAGIC:
        return all(byte in (0, wanted) for byte, wanted in zip(magic, MAGIC, strict=True))
    second, first = SLOTS
    return _read_slot(memory, first) is None and not any(memory[second:first])


def pack_header(generation: int, header: Header) -> tuple[int, bytes]:
    """Where the header of that generation goes, and its bytes."""
    older, promise, front, loss, (one, two) = header
    target = promise.target.encode("ascii")
    reason = loss.reason.encode()[:_MOST_REASON] if loss is not None else b""
    marks = [MARK.pack(*mark) for arena in (one, two) for mark in arena.marks]
    # fmt: off
    body = FIXED.pack(
        older, promise.start, promise.offset, promise.cap, promise.mode, front,
        *((loss.count, loss.first, loss.last) if loss is not None else (0, 0.0, 0.0)), len(target), len(reason),
        one.live, one.head, one.limit, len(one.marks), two.live, two.head, two.limit, len(two.marks),
    ) + b"".join((target, reason, *marks))
    # fmt: on
    checksum = binascii.crc32(body, generation & 0xFFFFFFFF)
    return SLOTS[generation & 1], HEAD.pack(generation, checksum, len(body)) + body


def read_header(memory: mmap.mmap) -> tuple[int, Header]:
    """The newest whole header with its generation; CorruptError when there is none, or it says what nobody writes."""
    slots = [slot for slot in (_read_slot(memory, at) for at in SLOTS) if slot is not None]
    if not slots:
        raise CorruptError("no header slot has a valid checksum")
    generation, body = max(slots)
    return generation, _parse(body)


def _read_slot(memory: mmap.mmap, at: int) -> tuple[int, bytes] | None:
    generation, checksum, length = HEAD.unpack_from(memory, at)
    body = memory[at + HEAD.size : at + HEAD.size + length]
    if (
        not 0 < generation < _MOST
        or SLOTS[generation & 1] != at
        or len(body) < length
        or binascii.crc32(body, generation & 0xFFFFFFFF) != checksum
    ):
        return None
    return generation, body


def _parse(body: bytes) -> Header:
    try:
        fields = FIXED.unpack_from(body)
    except struct.error as error:
        raise CorruptError("a header slot is too short") from error
    older, start, offset, cap, mode, front, count, first, last, target_bytes, reason_bytes, *arenas = fields
    rest = body[FIXED.size :]
    target, reason, marks = (
        rest[:target_bytes],
        rest[target_bytes : target_bytes + reason_bytes],
        rest[target_bytes + reason_bytes :],
    )
    one, two = arenas[:4], arenas[4:]
    if older > 1 or front > FRONT_BYTES or offset > _MOST or cap > _MOST or not 0o600 <= mode <= 0o666:
        raise CorruptError("a header slot has numbers that this package does not write")
    if len(marks) != (one[3] + two[3]) * MARK.size:
        raise CorruptError("a header slot has the wrong length")
    if not target.isascii():
        raise CorruptError("a header slot names a segment that this package does not write")
    split = one[3] * MARK.size
    return Header(
        older,
        Promise(target.decode("ascii"), offset, start, cap, mode),
        front,
        Loss(reason.decode("utf-8", "replace"), first, last, count) if count else None,
        (_state(one, marks[:split]), _state(two, marks[split:])),
    )


def _state(numbers: list[int], marks: bytes) -> ArenaState:
    live, head, limit, _ = numbers
    return ArenaState(bool(live), head, limit, [*MARK.iter_unpack(marks)])
