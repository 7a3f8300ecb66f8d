"""Puts what a dead session's journal holds into that session's segments, each line once.

Nothing is cut that was valid: what the segment has already is compared, and the rest is
appended. Whoever ends this halfway leaves it so that the next one goes on: the journal's
header says at any time what is being written where, as it does while the session lives.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from jsonl_handler import _journal_file, _lockfile
from jsonl_handler._arena import Arena, Cursor
from jsonl_handler._journal import Journal
from jsonl_handler._journal_check import check
from jsonl_handler._journal_file import FoundFile
from jsonl_handler._journal_layout import FRONT_BYTES, CorruptError
from jsonl_handler._names import SegmentName
from jsonl_handler._own_lines import about_loss, about_torn, own_line
from jsonl_handler._segment_file import SegmentFile, complete
from jsonl_handler._segments import SegmentWriter
from jsonl_handler._session_file import (
    Facts,
    SessionFile,
    folder_of,
    is_blank,
    is_live,
    names_journal,
    parse_name,
    read_facts,
)
from jsonl_handler._truncation import fit


@dataclass(frozen=True, slots=True)
class Recovered:
    """What became of one dead session: *lines* were put back.

    *gone*: its journal is not there any more, so nobody knows what it held.
    *refused*: why the rest, or all of it, was not touched, in words.
    """

    session: str
    lines: int = 0
    gone: bool = False
    refused: str = ""

    @property
    def text(self) -> str:
        """What there is to tell of it; empty when there is nothing."""
        if self.refused:
            return f"session {self.session!r} can't be recovered: {self.refused}"
        if self.gone:
            return f"session {self.session!r} was ended, and its journal is gone: nobody knows what waited in it"
        if self.lines:
            return f"{self.lines} records of session {self.session!r}, which was ended, were put into its files"
        return ""


def recover_all(
    directory: Path, prefix: str | None = None, stop: Callable[[], bool] = lambda: False
) -> Iterator[Recovered]:
    """Recover the dead sessions of a directory, one by one; with a *prefix* only those that have it.

    *stop* is asked before each. Raises OSError where the folder of the sessions can't be listed.
    """
    folder = folder_of(directory)
    try:
        # Not followed if it is a link: those sessions would be another directory's.
        names = os.listdir(folder) if stat.S_ISDIR(os.lstat(folder).st_mode) else []
    except (FileNotFoundError, NotADirectoryError):
        # A session that is to be opened here tells of it.
        return
    for name in names:
        if stop():
            return
        if parse_name(name, prefix) is None:
            continue
        outcome = _recover(directory, folder / name)
        if outcome is not None:
            yield outcome


def rescue(directory: Path, path: Path, descriptor: int) -> Recovered:
    """Put a dead session's lines back; its lock is held, on *descriptor*. What remains is its session file.

    Raises nothing: what can't be done now, or should not, is in `Recovered.refused`.
    """
    named = parse_name(path.name, None)
    session_id = named[1] if named else path.name
    progress = _Progress()
    try:
        if is_blank(descriptor):
            return Recovered(session_id)
        facts = read_facts(descriptor)
        if facts is None or named is None or (facts.prefix, facts.session) != named:
            raise CorruptError(f"{path} does not say what a session file of this name says")
        with contextlib.ExitStack() as opened:
            # Both are looked at before anything is touched.
            following = _find(facts.next_journal, path, descriptor, opened)
            last = _find(facts.journal, path, descriptor, opened)
            if last is not None and last.journal is None:
                raise CorruptError(f"{last.path}: it is empty")
            # The one that was to take the other's place has all of its lines as soon as it has a header.
            journal = following.journal if following is not None and following.journal is not None else None
            if journal is None and last is not None:
                journal = last.journal
            session = SessionFile(path, facts, descriptor)
            if journal is not None:
                _put_back(journal, session, directory, progress)
            else:
                _mend(facts, directory)
            session.note(journal="", next_journal="")
            for file in (following, last):
                if file is not None:
                    file.remove()
        return Recovered(session_id, progress.lines, journal is None and facts.journal != "")
    except CorruptError as error:
        return Recovered(session_id, refused=f"{error}; it is left as it is")
    except Exception as error:
        # Whatever it is, the other sessions, and the handler that asks, must not suffer from it.
        return Recovered(session_id, progress.lines, refused=f"{error!r}; it is tried again")


def _mend(facts: Facts, directory: Path) -> None:
    """Nothing tells what the rest of half a line was: it is cut."""
    segment = SegmentName.parse(facts.segment, facts.prefix)
    if segment is not None and segment.session == facts.session and not segment.suffix:
        with contextlib.suppress(OSError):
            SegmentFile.resume(directory / str(segment)).close()


@dataclass(slots=True)
class _Progress:
    """How many lines were put back, also when an error comes between them."""

    lines: int = 0


def _recover(directory: Path, path: Path) -> Recovered | None:
    try:
        descriptor = _lockfile.open_existing(path)
    except OSError as error:
        return Recovered(path.name, refused=f"{error}; it is left as it is")
    if descriptor is None:
        return None
    try:
        if is_live(descriptor, path) or not _lockfile.is_linked(descriptor, path):
            return None
        outcome = rescue(directory, path, descriptor)
        if not outcome.refused:
            _lockfile.unlink_if_ours(descriptor, path)
        return outcome
    except OSError as error:
        return Recovered(path.name, refused=f"{error}; it is tried again")
    finally:
        _lockfile.close(descriptor)


def _find(name: str, path: Path, descriptor: int, opened: contextlib.ExitStack) -> FoundFile | None:
    """The journal of a session file, if it is that one's."""
    file = _journal_file.find(name, os.fstat(descriptor).st_uid) if name else None
    if file is None:
        return None
    opened.callback(file.close)
    owner = file.session_file
    # The directory may have been moved. But a copy of it must not take what the original's session has left.
    if owner is not None and not _lockfile.is_linked(descriptor, owner) and names_journal(owner, name):
        raise CorruptError(f"{file.path} belongs to {owner}, of which {path} may be a copy")
    return file


def _put_back(journal: Journal, session: SessionFile, directory: Path, progress: _Progress) -> None:
    """Write what a journal holds; raises `CorruptError` before anything is touched, OSError at any time."""
    facts = session.facts
    check(journal, facts, directory)

    def header(name: SegmentName, torn: int) -> bytes:
        text, fields = about_torn(torn)
        return own_line(text, session=facts.session, **fields) if torn else b""

    writer = SegmentWriter(
        directory,
        facts.prefix,
        facts.session,
        file_mode=journal.promise.mode,
        header=header,
        announce=lambda name: session.note_segment(str(name)),
        resumes=True,
    )
    try:
        _write(journal, writer, directory, facts.session, progress)
    finally:
        writer.close()


def _write(journal: Journal, writer: SegmentWriter, directory: Path, session_id: str, progress: _Progress) -> None:
    """Do what the session would have done next, and keep the journal's header true meanwhile."""
    memory, promise, arenas = journal.memory, journal.promise, journal.in_order()
    if not arenas:
        # Whoever was here before had ended it all but for the session file.
        return
    first = arenas[0]

    def write(cursor: Cursor, end: int, arena: Arena) -> None:
        writer.write_all(memory, cursor, end, arena.marks, promise.cap)

    def write_front(start: int, end: int) -> None:
        write(Cursor(start, pledge=journal.pledge), end, first)

    def put(arena: Arena, start: int) -> None:
        cursor = Cursor(start, pledge=journal.pledge)
        try:
            write(cursor, arena.tail, arena)
        finally:
            progress.lines += memory[start : cursor.at].count(b"\n")
        # It stays in use, empty: what has no line of its own yet goes with its date.
        arena.head, arena.count = arena.tail, 0
        journal.fulfil(None)

    if promise.target:
        # The session ended while it wrote.
        begun = journal.arena_of(promise.start)
        end = journal.front_at + journal.front if begun is None else begun.tail
        missing, start = complete(directory / promise.target, promise.offset, memory, promise.start, end)
        if begun is not None:
            progress.lines += memory[missing:start].count(b"\n")
            put(begun, start)
        else:
            write_front(start, end)
    elif journal.front:
        write_front(journal.front_at, journal.front_at + journal.front)
    loss = journal.owed
    if loss is not None:
        # Before the front is used again: else a part of the new line would pass for the old one's rest.
        journal.fulfil(None)
        text, fields = about_loss(loss)
        line = fit(own_line(text, session=session_id, **fields), FRONT_BYTES)
        write_front(journal.front_at, journal.set_front(line))
    for arena in arenas:
        put(arena, arena.head)
