"""Keeps a buffer's memory in a journal that the session file names, while the session lives.

Where no journal can be kept the memory is anonymous, and that is told.
"""

from __future__ import annotations

import contextlib
from typing import Protocol

from jsonl_handler import _journal_file
from jsonl_handler._journal import NO_MEMORY, Journal
from jsonl_handler._journal_file import JournalFile
from jsonl_handler._session_file import SessionFile
from jsonl_handler._status import Voice
from jsonl_handler.settings import Settings


class Movable(Protocol):
    """What has its lines in the memory of a journal, and can go on in another one's."""

    journal: Journal

    @property
    def aside(self) -> bool: ...

    @property
    def promised(self) -> bool: ...

    def fits(self, arena_bytes: int) -> bool: ...

    def move(self, journal: Journal) -> bool: ...


class Safekeeping:
    """The journal of one handler; whoever calls it, but for `touch`, holds the lock of the file side."""

    def __init__(self, buffer: Movable, settings: Settings, voice: Voice) -> None:
        self.settings = settings
        self._buffer = buffer
        self._voice = voice
        self._file: JournalFile | None = None
        self._named = False
        # The size of arenas for which no journal could be had.
        self._refused: int | None = None

    @property
    def crash_safe(self) -> bool:
        """True while what waits in the buffer would be found after a crash."""
        return self._file is not None and self._named and not self._buffer.aside

    @property
    def name(self) -> str:
        """The journal that has what waits in the buffer; empty when there is none."""
        return self._file.name if self._file is not None and self._file.is_linked() else ""

    def begin(self, session: SessionFile) -> None:
        """A session has been claimed; its file names the journal from the start, if there is one."""
        self._refused = None
        self._named = session.facts.journal != "" and session.facts.journal == self.name
        if not self._named:
            self.tend(session)

    def tend(self, session: SessionFile) -> None:
        """Between two batches: see that the journal is there, if one is wanted, and is of the right size."""
        file, size = self._file, self.settings.arena_bytes
        if not self.settings.crash_safe:
            self._leave(session)
            return
        if file is not None and self._named:
            if not file.is_linked():
                self._voice.tell("journal", f"the journal {file.name} was removed; a new one is made")
                self._named = False
            elif file.journal.arena_bytes == size:
                return
        if not self._buffer.fits(size):
            if self._named:
                # What waits is written first.
                return
            size = self._buffer.journal.arena_bytes
        if self._refused != size:
            self._renew(session, size)

    def touch(self) -> None:
        """Show that the journal is in use."""
        file = self._file
        if file is not None:
            file.touch()

    def let_go(self) -> None:
        """The session file is about to be removed: what comes from now on would not be found."""
        self._named = False

    def end(self) -> None:
        """The session has ended cleanly: nothing waits, and its file is gone."""
        file = self._file
        self._named = False
        if file is not None:
            file.remove()
            if self._buffer.journal is file.journal:
                # Who still refers to a closed handler must not keep its memory of the tmpfs.
                self._move_out()
        self._file = None

    def _leave(self, session: SessionFile) -> None:
        """Go on in memory that ends with the process, once all is written that was accepted when it was to be safe."""
        self._refused = None
        if not self._buffer.journal.kept or self._buffer.promised:
            return
        # In this order: what the session file names is put back after a crash, though it may be written by then.
        try:
            session.note(journal="", next_journal="")
        except OSError:
            # A disk in trouble, which is told of: the journal stays until after the next batch.
            return
        self._named = False
        if self._move_out():
            self.end()

    def _move_out(self) -> bool:
        """Go on in memory that ends with the process; False while that can't be."""
        try:
            return self._buffer.move(Journal.anonymous(self.settings.arena_bytes))
        except NO_MEMORY as error:
            self._voice.tell("journal", f"no other memory than the journal's can be had: {error}; it is used on")
            return False

    def _renew(self, session: SessionFile, size: int) -> None:
        """Make a journal and move there; whoever finds the session file meanwhile looks for both."""
        made: JournalFile | None = None
        try:
            name = _journal_file.new_name()
            session.note(journal=self.name if self._named else session.facts.journal, next_journal=name)
            made = _journal_file.create(name, size, session.path)
            self._buffer.move(made.journal)
        except (OSError, ValueError) as error:
            self._refused = size
            self._tell(error)
        finally:
            if made is not None:
                self._settle(session, made)

    def _settle(self, session: SessionFile, made: JournalFile) -> None:
        """Have the session file name the journal that the buffer is in: the one that was *made*, or the old one."""
        # It is asked: where Ctrl-C has come between, nobody was told whether it had moved.
        if self._buffer.journal is made.journal:
            before, self._file, self._named = self._file, made, True
            with contextlib.suppress(OSError):
                # If the disk refuses, it still is named as the next one.
                session.note(journal=made.name, next_journal="")
            if before is not None:
                before.remove()
        else:
            made.remove()
            with contextlib.suppress(OSError):
                session.note(next_journal="")

    def _tell(self, error: Exception) -> None:
        reason = getattr(error, "strerror", None) or error
        if self._named and self._file is not None:
            text = f"no journal of another size can be had in {_journal_file.PLACE}: {reason}; the old one stays"
        else:
            text = (
                f"no journal can be kept in {_journal_file.PLACE}: {reason};"
                " records that wait in memory are lost if this process is killed"
            )
        self._voice.tell("journal", text)
