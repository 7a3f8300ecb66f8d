"""A disk that refuses: counted each time, told when it begins and when it ends."""

from __future__ import annotations

from pathlib import Path

from jsonl_handler._status import Voice


class Outage:
    """The failed attempts to write to one directory."""

    def __init__(self, directory: Path, voice: Voice) -> None:
        self.errors = 0
        self.last_error: str | None = None
        self._directory = directory
        self._voice = voice
        self._in_a_row = 0

    def note(self, error: OSError, path: Path | None) -> None:
        """One more attempt has failed, on *path* if the error names none."""
        self.errors += 1
        self._in_a_row += 1
        self.last_error = f"{error.strerror or error} ({error.filename or path or self._directory})"
        if self._in_a_row == 1:
            self._voice.tell("disk", f"cannot write to {self._directory}: {self.last_error}; records wait in memory")

    def over(self) -> None:
        """An attempt has succeeded."""
        if self._in_a_row:
            failures, self._in_a_row = self._in_a_row, 0
            self._voice.tell("disk", f"writing to {self._directory} works again, after {failures} failed attempts")
