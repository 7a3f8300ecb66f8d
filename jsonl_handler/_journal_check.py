"""Whether what a journal holds can be what its session has left; nothing is touched before that is known.

A journal may have been planted, or overwritten by somebody else, under a header that is valid.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from jsonl_handler._arena import NO_LIMIT, Arena
from jsonl_handler._dates import date_of
from jsonl_handler._journal import Journal
from jsonl_handler._journal_layout import CorruptError
from jsonl_handler._names import SegmentName
from jsonl_handler._session_file import Facts

# What no line has, whoever encoded it: see `checked_line`.
_NO_TEXT = re.compile(rb"[\x00\r]")


def check(journal: Journal, facts: Facts, directory: Path) -> None:
    """Raises `CorruptError` for a journal that the session of *facts* can't have left in *directory*."""
    promise, arenas = journal.promise, journal.in_order()
    if promise.target:
        target = SegmentName.parse(promise.target, facts.prefix)
        if target is None or target.session != facts.session:
            raise CorruptError(f"the journal names {promise.target!r}, which is no segment of this session")
        # The cap may have been lowered since that segment was begun.
        largest = max(promise.cap, _size(directory / promise.target))
        if promise.offset > largest + 2 * max(arena.size for arena in journal.arenas):
            raise CorruptError(f"the journal names an offset of {promise.offset}, where no segment is so large")
        begun = journal.arena_of(promise.start)
        if begun is not None and (journal.front or not _begins_line(journal, begun.head, promise.start)):
            raise CorruptError("the journal says that a write began in the middle of a line")
    if not arenas and (promise.target or journal.front or journal.owed is not None):
        raise CorruptError("neither of the journal's arenas is in use, and yet something waits")
    _check_lines(journal, journal.front_at, journal.front_at + journal.front)
    for arena in arenas:
        _check_arena(journal, arena)


def _check_arena(journal: Journal, arena: Arena) -> None:
    if not _begins_line(journal, arena.base, arena.head):
        raise CorruptError("an arena begins in the middle of a line")
    for offset, day in arena.marks:
        try:
            date_of(day)
        except (ValueError, OverflowError) as error:
            raise CorruptError(f"a date is no date: {error}") from error
        if offset > arena.tail or (offset > arena.head and not _begins_line(journal, arena.head, offset)):
            raise CorruptError("a date begins in the middle of a line")
    _check_lines(journal, arena.head, arena.tail)
    if arena.limit != NO_LIMIT:
        if arena.tail != arena.limit:
            raise CorruptError("an arena ends before it should")
        return
    # Behind the lines there may be one that was being copied in, of which any bytes may be there; it has one end.
    end = journal.memory.find(b"\n", arena.tail, arena.end) + 1
    if end and journal.memory[end : arena.end].strip(b"\0"):
        raise CorruptError("zeros stand between the lines of an arena")


def _size(path: Path) -> int:
    try:
        return os.lstat(path).st_size
    except FileNotFoundError:
        return 0


def _begins_line(journal: Journal, first: int, at: int) -> bool:
    return at == first or journal.memory[at - 1 : at] == b"\n"


def _check_lines(journal: Journal, start: int, end: int) -> None:
    content = journal.memory[start:end]
    try:
        content.decode()
    except UnicodeDecodeError as error:
        raise CorruptError(f"the journal holds what is no text: {error}") from error
    if (content and not content.endswith(b"\n")) or _NO_TEXT.search(content):
        raise CorruptError("the journal holds what is no lines of text")
