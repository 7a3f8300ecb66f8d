"""The file side of one handler: its session, its segments and their upkeep, joined.

`write_batch` is its whole contract with a writer: it never raises, and says how far it got.
One thread writes at a time; who that is, the callers see to.
"""

from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from jsonl_handler import _lockfile, _session
from jsonl_handler._arena import Cursor, Marks
from jsonl_handler._lineage import Lineage
from jsonl_handler._maintenance import Maintenance, speak_now
from jsonl_handler._names import SegmentName
from jsonl_handler._origin import key_path
from jsonl_handler._outage import Outage
from jsonl_handler._own_lines import about_torn, header_line, own_line
from jsonl_handler._safekeeping import Movable, Safekeeping
from jsonl_handler._segments import SegmentWriter
from jsonl_handler._session_file import SessionFile
from jsonl_handler._status import Stats, Voice
from jsonl_handler._stream import Stream
from jsonl_handler._succession import Succession
from jsonl_handler._truncation import fit
from jsonl_handler._upkeep import Upkeep, terms
from jsonl_handler.errors import ConfigError
from jsonl_handler.settings import Problem, Settings, check_prefix

_MOST_CLAIMS = 20
_REMARK_BYTES = 1024


class SessionFiles:
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
        _lockfile.prepare()
        # The program may change its working directory later.
        self.directory = absolute_directory(directory)
        self.prefix = prefix = check_prefix(prefix)
        self.settings = settings
        self.voice = Voice()
        self.upkeep = Upkeep(self.directory, prefix, settings, self.voice)
        self.upkeep.remark = self._remark
        self.maintenance = Maintenance(self.voice, self._look_after)
        # Takes a line of the package itself into the stream, beside the records.
        self.remark: Callable[[bytes], None] | None = None
        self._safekeeping: Safekeeping | None = None
        self.batches = 0
        self.outage = Outage(self.directory, self.voice)
        self._succession = Succession(self.directory, prefix, _session.clean_id(session_id), owner)
        # A late record may be written by its caller while another thread opens or closes.
        self._lock = threading.RLock()
        self._session: SessionFile | None = None
        self._stream = Stream(self.directory, prefix, self._header, self._announce)
        self._swept_after = -1
        self.closing = False
        # What the formatter calls `session` and `seq`.
        self.seq_names = ("session", "seq")

    # What it is asked.

    @property
    def path(self) -> Path | None:
        """The current segment, or where the first line will go, or the last one; None before the session is open."""
        return self._stream.path

    @property
    def lineage(self) -> Lineage | None:
        """The session; None while there is none."""
        return self._succession.lineage

    # What it does.

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

    def keep_safe(self, buffer: Movable) -> None:
        """Keep the memory of *buffer* in a journal while the session is open."""
        self._safekeeping = Safekeeping(buffer, self.settings, self.voice)

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

    def start_anew(self) -> None:
        """Go on under a session of its own: the one it had has passed to another handler."""
        self._succession.lineage = None

    @property
    def is_superseded(self) -> bool:
        """True when the session, which is not open here, has passed to another handler."""
        return self._session is None and self._succession.is_lost

    @property
    def is_lost(self) -> bool:
        """True when the session has passed to another handler."""
        return self._succession.is_lost

    def inherit(self) -> None:
        """Go on with the session of a handler that has closed; for an owner that is ready to take its late records."""
        self._succession.inherit()

    def can_succeed(self, other: SessionFiles) -> bool:
        """True when *other* owns a session of the same directory, prefix and name."""
        return self._succession.can_follow(other._succession)

    def succeed(self, other: SessionFiles) -> None:
        """Go on with the session that *other* has just given up; where it could not, take another one."""
        self._succession.follow(other._succession)

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

    def sync(self) -> None:
        """Unless `fsync` is "never", see that the current segment is on the disk; trouble is counted and told."""
        with self._lock:
            try:
                self._stream.sync(self.settings)
            except OSError as error:
                self.outage.note(error, self.path)

    def own_line(self, message: str, **fields: object) -> bytes:
        """A line of the package itself; it has no `seq`."""
        return own_line(message, session=self._succession.session_id, **fields)

    def tell_problems(self, problems: Sequence[Problem]) -> None:
        """Tell of settings that could not be used, once."""
        for problem in problems:
            self.voice.tell("settings", key_path(str(problem)))
        if problems:
            speak_now(self.voice)

    def give_up(self, why: str) -> None:
        """Tell that the handler closes with something unwritten."""
        self.voice.tell("close", f"{why}: {self.outage.last_error or 'the disk does not answer'}")
        # Unless a write hangs, half a line is cut now: nobody may be there to do it later.
        if self._lock.acquire(blocking=False):
            try:
                self._stream.cut()
            finally:
                self._lock.release()
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

    def _is_crash_safe(self) -> bool:
        session = self._session
        if session is None or self._safekeeping is None or not self._safekeeping.crash_safe:
            return False
        try:
            # Without it nobody would find the journal; the next write makes it anew.
            return session.is_linked()
        except OSError:
            # Another thread has just ended the session.
            return False

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

    def _ensure_session(self, cursor: Cursor) -> SegmentWriter:
        session = self._session
        if session is not None and not session.is_linked():
            # Somebody removed the session file, perhaps with the whole directory.
            self._session = None
            session.release()
            session = None
            if self._stream.segments is not None:
                self._stream.segments.confirm(cursor)
        if session is None:
            if self._succession.is_lost:
                self.start_anew()
            self._claim()
        segments = self._stream.segments
        assert segments is not None
        return segments

    def _end(self) -> None:
        self._leave_segments()
        session = self._session
        if session is None:
            return
        self.upkeep.sweep_a_little()
        keeper = self._safekeeping
        try:
            if keeper is not None:
                keeper.let_go()
            try:
                session.release()
            finally:
                if keeper is not None:
                    keeper.end()
        except OSError as error:
            self.voice.tell("disk", f"{session.path} could not be removed: {error}")
        finally:
            # Only now: who finds none would wait for the lock to claim one.
            self._session = None

    def _claim_or_tell(self) -> None:
        try:
            self._claim()
        except OSError as error:
            self.outage.note(error, self.path)
            if self.lineage is None:
                # Not the name that was asked for: what its last `seq` was can't be seen now.
                self._succession.begin(_session.random_id())
                if self._succession.asked:
                    self._tell_name(self._succession.asked, "could not be claimed")

    def _claim(self) -> None:
        resumed = self.lineage
        wanted = resumed.session_id if resumed else self._succession.asked
        name = wanted or _session.random_id()
        journal = self._safekeeping.name if self._safekeeping is not None else ""
        why = ""
        for _ in range(_MOST_CLAIMS):
            try:
                self._session = _session.claim(self.directory, self.prefix, name, self.upkeep.rescue, journal=journal)
                break
            except _session.TakenError as taken:
                why = why or taken.why
                name = _session.random_id()
        else:
            raise OSError(f"no free session name in {self.directory}")
        segments = self._stream.segments
        if segments is None or name != wanted:
            self._leave_segments()
            segments = self._stream.begin(name, self.settings, resumes=name == wanted)
        elif (current := segments.path) is not None:
            self._session.note_segment(current.name)
        if resumed is None:
            self._succession.begin(name, segments.last_seq(self.seq_names) + 1)
        else:
            resumed.session_id = name
        if self._safekeeping is not None:
            self._safekeeping.begin(self._session)
        if wanted is not None and name != wanted:
            self._tell_name(wanted, why)

    def _tell_name(self, wanted: str, why: str) -> None:
        fresh = self._succession.session_id
        self.voice.tell("session", f"session {wanted!r} {why}; this handler writes as {fresh!r}")

    def _leave_segments(self) -> None:
        self.sync()
        self._stream.leave()

    def _announce(self, name: SegmentName) -> None:
        if self._session is not None:
            self._session.note_segment(str(name))

    def _header(self, name: SegmentName, torn: int) -> bytes:
        if torn:
            text, fields = about_torn(torn)
            self.voice.tell("torn", f"{name}: {text}", count=1)
            return self.own_line(text, **fields)
        if self.settings.context is None:
            return b""
        return fit(header_line(name.session, name.part, self.settings.context), self.settings.max_record_bytes)

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


def absolute_directory(directory: object) -> Path:
    """An absolute path for a handler's *directory*; raises `ConfigError` when it is none."""
    try:
        if isinstance(directory, (str, os.PathLike)) and (named := os.fspath(directory)):
            os.fsencode(named)
            if "\0" not in named:
                return Path(os.path.abspath(named))
    except (OSError, TypeError, ValueError) as error:
        raise ConfigError(None, "directory", f"{directory!r} can't be used: {error}; give an absolute path") from error
    raise ConfigError(None, "directory", f"must be a path, got {directory!r}; give the directory for the files")
