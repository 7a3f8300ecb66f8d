"""What every handler of this package tells of its session, and how its settings change while it runs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jsonl_handler._reconfiguring import Choice, check_changeable

if TYPE_CHECKING:
    from pathlib import Path

    from jsonl_handler._session_files import SessionFiles
    from jsonl_handler.settings import Settings


class SessionHandler(logging.Handler):
    """A handler that writes to `SessionFiles`."""

    # `_status` asks for it: what the package tells must not feed its own streams.
    writes_session_files = True

    _files: SessionFiles
    _choice: Choice
    _changing: threading.RLock

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self._files.settings

    @property
    def session_id(self) -> str | None:
        """The session's name; None before the first record."""
        lineage = self._files.lineage
        return lineage.session_id if lineage else None

    @property
    def path(self) -> Path | None:
        """The current segment, or the last one; None before the first record."""
        return self._files.path

    @property
    def baseFilename(self) -> str:
        """The same as `logging.FileHandler` names it; empty before the first record."""
        return str(self.path or "")

    def yield_session(self) -> None:
        """Write what waits and give the session up."""
        raise NotImplementedError

    def succeed(self, other: SessionHandler) -> bool:
        """Take the session over from *other*, which this handler replaces; False when it is not of the same files."""
        if not self._files.can_succeed(other._files):
            return False
        other.yield_session()
        self._files.succeed(other._files)
        return True

    # Settings that change.

    def reconfigure(self, **settings: Any) -> None:
        """Change these settings in place: same session, same file, nothing lost; the others stay as they were given.

        Raises `ConfigError` for an unknown key, for what can't be changed in place, for a bad ``file_mode``, and
        for any invalid value if the handler is strict; then nothing has changed. Otherwise an invalid value is told,
        and its default is used. It never waits for the disk.
        """
        self._change(settings, None)

    def replace_settings(self, given: Mapping[str, object], *, strict: bool | None = None) -> None:
        """The same for all settings at once: those that *given* lacks take their defaults.

        *strict* says how the handler checks from now on; None leaves that as it is.
        """
        self._change(given, self._choice.strict if strict is None else strict)

    def _change(self, given: Mapping[str, object], anew: bool | None) -> None:
        """*anew*: all settings are replaced, and are checked strictly or not; None changes only those given."""
        self._check(given)
        while True:
            before = self._choice
            asked = before.changed(given) if anew is None else Choice.of(given, strict=anew)
            after = self._affordable(asked, before)
            with self._changing:
                # No call stands between these two: neither a thread nor an interrupt of this one can part them.
                if self._choice is before:
                    self._choice = after
                    break
        if after.settings != before.settings:
            try:
                self._follow()
            except BaseException:
                # Ctrl-C: half of the rooms must not go by other settings than the rest.
                self._follow()
                raise
        self._files.tell_problems(after.news(before, given))

    def _follow(self) -> None:
        """Have all rooms know of the settings in force.

        No lock is held: a signal handler that changes settings may have interrupted who holds the buffer's. So
        another change may come between, and whoever is last sees that the last one counts.
        """
        while True:
            choice = self._choice
            self._use_settings(choice.settings)
            if self._choice is choice:
                return

    def _check(self, given: Mapping[str, object]) -> None:
        """Raise `ConfigError` for keys that can't be changed in place."""
        check_changeable(given)

    def _affordable(self, choice: Choice, before: Choice) -> Choice:
        """*choice*, or what can be had of it."""
        return choice

    def _use_settings(self, settings: Settings) -> None:
        self._files.use(settings)
