"""The file side of one handler: its session, its segments and their upkeep, joined.

`write_batch` is its whole contract with a writer: it never raises, and says how far it got.
One thread writes at a time; who that is, the callers see to.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Sequence

from jsonl_handler._arena import Cursor, Marks
from jsonl_handler._claimed_session import ClaimedSession
from jsonl_handler._held import owns, within
from jsonl_handler._lineage import Lineage
from jsonl_handler._maintenance import Maintenance, speak_now
from jsonl_handler._origin import key_path
from jsonl_handler._status import Stats
from jsonl_handler._truncation import fit
from jsonl_handler._upkeep import terms
from jsonl_handler.settings import Problem, Settings

_REMARK_BYTES = 1024


class SessionFiles(ClaimedSession):
    """Writes batches of lines to the segments of a session that it claims with the first of them."""

    def __init__(
        self,
        directory: str | os.PathLike[str],
        prefix: str,
        session_id: str | None,
        settings: Settings,
        owner: object,
    ) -> None:
        """*owner* is the handler: a session is handed on from one handler to the next."""
        super().__init__(directory, prefix, session_id, settings, owner)
        self.upkeep.remark = self._remark
        self.maintenance = Maintenance(self.voice, self._look_after)
        # Takes a line of the package itself into the stream, beside the records.
        self.remark: Callable[[bytes], None] | None = None
        self.batches = 0
        self.closing = False
        self._swept_after = -1

    def open(self) -> Lineage:
        """Claim the session, once; where the directory does not allow it, the writer tries again later.

        Raises `SupersededError` when the session has passed to another handler.
        """
        self.closing = False
        if self._session is None:
            self._succession.take_over()
            with self._lock:
                if self._session is None:
                    self._claim_or_tell()
            self.upkeep.recover_a_few()
            self.maintenance.ask_recovery()
        self.maintenance.start()
        lineage = self.lineage
        assert lineage is not None
        return lineage

    def use(self, settings: Settings) -> None:
        """Go by other settings from the next act on; what they say of the files that are there is done at once."""
        before, self.settings, self.upkeep.settings = self.settings, settings, settings
        if self._safekeeping is not None:
            self._safekeeping.settings = settings
        if terms(settings) != terms(before):
            self.maintenance.ask_sweep()

    def tend(self) -> None:
        """Between two batches, and after a change of settings: see that the journal, and the segment, are as wanted."""
        with self._lock:
            if self._safekeeping is not None and self._session is not None:
                self._safekeeping.tend(self._session)
            if self.settings.fsync == "flush":
                self.sync()

    def write_batch(self, lines: bytes | mmap.mmap, cursor: Cursor, end: int, marks: Marks) -> bool:
        """Write ``lines[cursor.at:end]``; False after trouble, which is counted and told.

        *cursor* then stands where it stopped, and the same call goes on there. *marks* are
        pairs (offset, days since the epoch) where a date begins.
        """
        with self._lock:
            settings = self.settings
            try:
                segments = self._ensure_session(cursor)
                segments.fsync, segments.file_mode = settings.fsync, settings.file_mode
                segments.write_all(lines, cursor, end, marks, settings.max_file_bytes)
            except OSError as error:
                if self.closing:
                    # This attempt may have been the last one: half a line is cut now.
                    self._stream.cut()
                self.outage.note(error, self.path)
                return False
            self.batches += 1
            self._note_success()
            return True

    def tell_problems(self, problems: Sequence[Problem]) -> None:
        """Tell of settings that could not be used, once."""
        for problem in problems:
            self.voice.tell("settings", key_path(str(problem)))
        if problems:
            speak_now(self.voice)

    def give_up(self, why: str) -> None:
        """Tell that the handler closes with something unwritten."""
        self.voice.tell("close", f"{why}: {self.outage.last_error or 'the disk does not answer'}")
        # Unless a write hangs, or is further up this very stack, half a line is cut now: nobody may do it later.
        if not owns(self._lock):
            within(self._lock, 0, self._stream.cut)
        self.maintenance.stop()

    def stats(self, session_id: str | None, written: int, dropped: int, pending: int) -> Stats:
        """The numbers of this side, beside those of the records."""
        return Stats(
            session_id=session_id,
            path=self.path,
            accepted=written + dropped + pending,
            written=written,
            dropped=dropped,
            pending=pending,
            bytes_written=self._stream.bytes_written,
            batches=self.batches,
            rotations=max(0, self._stream.opened - 1),
            write_errors=self.outage.errors,
            recovered=self.upkeep.recovered,
            deleted_files=self.upkeep.deleted_files,
            crash_safe=self._is_crash_safe(),
            last_error=self.outage.last_error,
        )

    def end_if_closing(self) -> None:
        """End the session on the disk, if that has been asked for.

        On the writer's thread: a disk that is stuck holds up that one, and not who closes.
        """
        if self.closing:
            with self._lock:
                self._end()

    def close(self, *, hand_over: bool = True) -> None:
        """End the session cleanly; the next handler of this directory may go on with it."""
        self.closing = True
        # A sweep in progress ends here.
        self.maintenance.stop()
        self._succession.close_others()
        with self._lock:
            self._end()
            if hand_over:
                self._succession.leave()
        self.maintenance.stop()

    # How it does it.

    def _note_success(self) -> None:
        self.outage.over()
        opened = self._stream.opened
        if opened != self._swept_after and not self.closing:
            self._swept_after = opened
            self.maintenance.ask_sweep()

    def _look_after(self, stop: Callable[[], bool], *, sweep: bool) -> None:
        session = self._session
        if session is not None:
            session.touch()
        if self._safekeeping is not None:
            self._safekeeping.touch()
        # First: a dead session's last segment is protected only until then.
        self.upkeep.recover(stop)
        if sweep:
            self.upkeep.sweep(stop)

    def _remark(self, message: str, fields: dict[str, object]) -> None:
        if self.remark is not None:
            self.remark(fit(self.own_line(message, **fields), _REMARK_BYTES))
