"""One handler's session on the disk: claimed with its first record, watched while it lives, and ended."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

from jsonl_handler import _lockfile, _session
from jsonl_handler._arena import Cursor
from jsonl_handler._lineage import Lineage
from jsonl_handler._names import SegmentName
from jsonl_handler._outage import Outage
from jsonl_handler._own_lines import about_torn, header_line, own_line
from jsonl_handler._place import absolute_directory, check_prefix
from jsonl_handler._safekeeping import Movable, Safekeeping
from jsonl_handler._segments import SegmentWriter
from jsonl_handler._session_file import SessionFile
from jsonl_handler._status import Voice
from jsonl_handler._stream import Stream
from jsonl_handler._succession import Succession
from jsonl_handler._truncation import fit
from jsonl_handler._upkeep import Upkeep
from jsonl_handler.settings import Settings

_MOST_CLAIMS = 20


class ClaimedSession:
    """The session file, the journal that it names, and the segments; *lineage* is what outlives this handler."""

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
        self.outage = Outage(self.directory, self.voice)
        # What the formatter calls `session` and `seq`.
        self.seq_names = ("session", "seq")
        # A late record may be written by its caller while another thread opens or closes.
        self._lock = threading.RLock()
        self._session: SessionFile | None = None
        self._safekeeping: Safekeeping | None = None
        self._succession = Succession(self.directory, prefix, _session.clean_id(session_id), owner)
        self._stream = Stream(self.directory, prefix, self._header, self._announce)

    # What it is asked.

    @property
    def path(self) -> Path | None:
        """The current segment, or where the first line will go, or the last one; None before the session is open."""
        return self._stream.path

    @property
    def lineage(self) -> Lineage | None:
        """The session; None while there is none."""
        return self._succession.lineage

    @property
    def is_superseded(self) -> bool:
        """True when the session, which is not open here, has passed to another handler."""
        return self._session is None and self._succession.is_lost

    @property
    def is_lost(self) -> bool:
        """True when the session has passed to another handler."""
        return self._succession.is_lost

    # Whose the session is.

    def inherit(self) -> None:
        """Go on with the session of a handler that has closed; for an owner that is ready to take its late records."""
        self._succession.inherit()

    def can_succeed(self, other: ClaimedSession) -> bool:
        """True when *other* owns a session of the same directory, prefix and name."""
        return self._succession.can_follow(other._succession)

    def succeed(self, other: ClaimedSession) -> None:
        """Go on with the session that *other* has just given up; where it could not, take another one."""
        self._succession.follow(other._succession)

    def start_anew(self) -> None:
        """Go on under a session of its own: the one it had has passed to another handler."""
        self._succession.lineage = None

    # What it does.

    def keep_safe(self, buffer: Movable) -> None:
        """Keep the memory of *buffer* in a journal while the session is open."""
        self._safekeeping = Safekeeping(buffer, self.settings, self.voice)

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

    # Within, under the lock.

    def _ensure_session(self, cursor: Cursor) -> SegmentWriter:
        session = self._session
        if session is not None and not session.is_linked():
            # Somebody removed the session file, perhaps with the whole directory.
            self._give_back()
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
        try:
            self._claim_whole()
        except BaseException:
            # Ctrl-C, or a disk in trouble: half a session is none, and the next attempt begins anew.
            with contextlib.suppress(OSError):
                self._give_back()
            raise

    def _claim_whole(self) -> None:
        resumed = self.lineage
        wanted = resumed.session_id if resumed else self._succession.asked
        name = wanted or _session.random_id()
        journal = self._safekeeping.name if self._safekeeping is not None else ""
        why = ""
        for _ in range(_MOST_CLAIMS):
            try:
                session = _session.claim(
                    self.directory, self.prefix, name, self.upkeep.rescue, journal=journal, keep=self._keep
                )
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
            session.note_segment(current.name)
        if resumed is None:
            self._succession.begin(name, segments.last_seq(self.seq_names) + 1)
        else:
            resumed.session_id = name
        if self._safekeeping is not None:
            self._safekeeping.begin(session)
        if wanted is not None and name != wanted:
            self._tell_name(wanted, why)

    def _keep(self, session: SessionFile) -> None:
        self._session = session

    def _give_back(self, *, ended: bool = False) -> None:
        """Give up the session, if there is one, and if it has *ended* its journal; OSError where its file stays."""
        session, keeper = self._session, self._safekeeping
        # Nested, so that each step is taken whatever comes before it.
        try:
            if session is not None and keeper is not None:
                keeper.let_go()
        finally:
            try:
                if session is not None:
                    session.release()
            finally:
                try:
                    if ended and keeper is not None:
                        keeper.end()
                finally:
                    # Only now: who finds none would wait for the lock to claim one.
                    self._session = None

    def _tell_name(self, wanted: str, why: str) -> None:
        fresh = self._succession.session_id
        self.voice.tell("session", f"session {wanted!r} {why}; this handler writes as {fresh!r}")

    def _end(self) -> None:
        self._leave_segments()
        session = self._session
        if session is None:
            return
        self.upkeep.sweep_a_little()
        try:
            self._give_back(ended=True)
        except OSError as error:
            self.voice.tell("disk", f"{session.path} could not be removed: {error}")

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
