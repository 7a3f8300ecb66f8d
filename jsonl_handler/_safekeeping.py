"""Keeps a buffer's memory in a journal that the session file names, while the session lives.

Where no journal can be kept the memory is anonymous, and that is told.
"""

from __future__ import annotations

import contextlib
from typing import Protocol

from jsonl_handler import _journal_file
from jsonl_handler._journal import Journal
from jsonl_handler._journal_file import JournalFile
from jsonl_handler._session_file import SessionFile
from jsonl_handler._status import Voice
from jsonl_handler.settings import Settings


class Movable(Protocol):
    """What has its lines in the memory of a journal, and can go on in another one's."""

    @property
    def aside(self) -> bool: ...

    def move(self, journal: Journal) -> bool: ...


class Safekeeping:
    """The journal of one handler; whoever calls it, but for `touch`, holds the lock of the file side."""

    def __init__(self, buffer: Movable, settings: Settings, voice: Voice) -> None:
        self.settings = settings
        self._buffer = buffer
        self._voice = voice
        self._file: JournalFile | None = None
        self._named = self._refused = False

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
        self._refused = False
        self._named = session.facts.journal != "" and session.facts.journal == self.name
        if not self._named:
            self.tend(session)

    def tend(self, session: SessionFile) -> None:
        """Between two batches: see that the journal is there, if one is wanted."""
        file = self._file
        if not self.settings.crash_safe or self._refused:
            return
        if file is not None and self._named:
            if file.is_linked():
                return
            self._voice.tell("journal", f"the journal {file.name} was removed; a new one is made")
            self._named = False
        self._renew(session)

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
        file, self._file = self._file, None
        self._named = False
        if file is not None:
            file.remove()

    def _renew(self, session: SessionFile) -> None:
        """Make a journal and move there; whoever finds the session file meanwhile looks for both."""
        made: JournalFile | None = None
        try:
            name = _journal_file.new_name()
            session.note(next_journal=name)
            made = _journal_file.create(name, self.settings.arena_bytes, session.path)
            if self._buffer.move(made.journal):
                before, self._file, made = self._file, made, None
                session.note(journal=name, next_journal="")
                self._named = True
                if before is not None:
                    before.remove()
        except (OSError, ValueError) as error:
            self._refused = True
            self._tell(error)
        finally:
            if made is not None:
                made.remove()
                with contextlib.suppress(OSError):
                    session.note(next_journal="")

    def _tell(self, error: Exception) -> None:
        reason = getattr(error, "strerror", None) or error
        self._voice.tell(
            "journal",
            f"no journal can be kept in {_journal_file.PLACE}: {reason};"
            " records that wait in memory are lost if this process is killed",
        )
