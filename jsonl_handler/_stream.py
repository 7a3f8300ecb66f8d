"""The segments that one handler writes, of one session after another, and how much that was in all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from jsonl_handler._clock import now
from jsonl_handler._dates import date_of, day_of
from jsonl_handler._names import SegmentName
from jsonl_handler._segments import SegmentWriter
from jsonl_handler.settings import Settings


class Stream:
    """*segments* are those of the present session; None before the first one, and after the end."""

    def __init__(
        self,
        directory: Path,
        prefix: str,
        header: Callable[[SegmentName, int], bytes],
        announce: Callable[[SegmentName], None],
    ) -> None:
        """*header* makes the first line of a segment, and *announce* is told of each before it is used."""
        self.segments: SegmentWriter | None = None
        self._directory = directory
        self._prefix = prefix
        self._header = header
        self._announce = announce
        self._bytes_before = self._opened_before = 0
        self._last_path: Path | None = None

    @property
    def path(self) -> Path | None:
        """The current segment, or where the first line will go, or the last one; None before there was a session."""
        segments = self.segments
        if segments is None:
            return self._last_path
        today = date_of(day_of(now()))
        return segments.path or segments.expected_path(today)

    @property
    def bytes_written(self) -> int:
        """All bytes, headers and the package's own lines included."""
        segments = self.segments
        return self._bytes_before + (segments.bytes_written if segments else 0)

    @property
    def opened(self) -> int:
        """How many segments were opened."""
        segments = self.segments
        return self._opened_before + (segments.opened if segments else 0)

    def begin(self, session_id: str, settings: Settings, *, resumes: bool) -> SegmentWriter:
        """Go on with the segments of another session; the present ones must have been left."""
        self.segments = SegmentWriter(
            self._directory,
            self._prefix,
            session_id,
            file_mode=settings.file_mode,
            fsync=settings.fsync,
            header=self._header,
            announce=self._announce,
            resumes=resumes,
        )
        return self.segments

    def leave(self) -> None:
        """Close the present segment."""
        segments = self.segments
        if segments is not None:
            path = segments.path
            try:
                segments.close()
            finally:
                written, opened = segments.bytes_written, segments.opened
                # No call between these: Ctrl-C must not have them counted by half.
                self._last_path = path
                self._bytes_before += written
                self._opened_before += opened
                self.segments = None

    def cut(self) -> None:
        """After a write that failed for good: cut half a line."""
        if self.segments is not None:
            self.segments.close()

    def sync(self, settings: Settings) -> None:
        """Unless `fsync` is "never", see that the current segment is on the disk; raises OSError."""
        if self.segments is not None:
            self.segments.fsync = settings.fsync
            self.segments.sync()
