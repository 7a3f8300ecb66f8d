"""Keeps a directory small and within its limits: when to sweep, and what to tell of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from time import sleep

from jsonl_handler import _compression, _journal_file, _recovery, _retention, _session_file, _survey
from jsonl_handler._clock import monotonic, now
from jsonl_handler._status import Voice
from jsonl_handler.settings import Settings

_LATELY = 3600.0
_STEP_LISTED = 10_000
_STEP_DELETED = 100
_FEW = 5
_RESTS = 3.0
_LONGEST_REST = 0.005
# A second in all.
_MOST_TRIES = 200


def terms(settings: Settings) -> tuple[_retention.Limits, str | None]:
    """What a sweep goes by."""
    return _retention.Limits.of(settings), settings.compress


class Upkeep:
    """Sweeps the files of one prefix."""

    def __init__(self, directory: Path, prefix: str, settings: Settings, voice: Voice) -> None:
        self.settings = settings
        self.deleted_files = 0
        self._directory = directory
        self._prefix = prefix
        self._voice = voice
        self._told: set[str] = set()
        self._told_of_compression: set[str] = set()
        self._refused: set[str] = set()
        self.recovered = 0
        # Takes a line about what was recovered to the stream: (message, fields).
        self.remark: Callable[[str, dict[str, object]], None] | None = None

    def recover(self, stop: Callable[[], bool]) -> None:
        """Put back what crashed sessions have left, until *stop* says yes."""
        for outcome in _recovery.recover_all(self._directory, self._prefix, stop):
            self._tell(outcome)
        _journal_file.remove_orphans(_session_file.names_journal, stop)

    def recover_a_few(self) -> None:
        """Put back what a few crashed sessions have left, at once.

        A program that always dies early never comes to the rest, and would fill the memory with its journals.
        """
        try:
            outcomes = _recovery.recover_all(self._directory, self._prefix)
            for outcome in islice(outcomes, _FEW):
                self._tell(outcome)
        except OSError:
            # Maintenance comes to it too, and tells.
            return

    def rescue(self, path: Path, descriptor: int) -> bool:
        """Put back what one crashed session has left; False when that can't be done."""
        outcome = _recovery.rescue(self._directory, path, descriptor)
        self._tell(outcome)
        return not outcome.refused

    def _tell(self, outcome: _recovery.Recovered) -> None:
        text = outcome.text
        self.recovered += outcome.lines
        if not text or (outcome.refused and text in self._refused):
            return
        harmless = not (outcome.refused or outcome.gone)
        self._voice.tell("recovery", text, level=logging.INFO if harmless else logging.WARNING)
        if outcome.refused:
            self._refused.add(text)
        if self.remark is not None and (outcome.lines or outcome.gone):
            fields: dict[str, object] = {"recovered": outcome.lines, "ended_session": outcome.session}
            # Somebody who adds up the losses must see that here an unknown number is missing.
            self.remark(text, {**fields, "dropped": None} if outcome.gone else fields)

    def sweep(self, stop: Callable[[], bool]) -> None:
        """Compress and delete until *stop* says yes, or other settings ask for another sweep."""
        begun = self.settings

        def over() -> bool:
            return stop() or (self.settings is not begun and terms(self.settings) != terms(begun))

        # What compression saves need not be deleted. It takes long only once, with a directory that has grown without.
        while self._compress(over):
            self._retain(unhurried(over))
        for _ in range(_MOST_TRIES):
            if not self._retain(unhurried(over)).skipped or over():
                return
            # Who sweeps now may go by other limits, or have looked before our last file was closed.
            sleep(_LONGEST_REST)

    def _compress(self, stop: Callable[[], bool]) -> bool:
        """One turn of compression; True when there is more to do, which should not keep retention waiting."""
        try:
            _compression.tidy(self._directory, self._prefix, stop=stop)
            how = self.settings.compress
            if how is None:
                return False
            result = _compression.compress(self._directory, self._prefix, how, stop=stop)
        except Exception as error:
            self._voice.tell("compression", f"compression could not run: {error!r}")
            return False
        for text in result.problems:
            if text not in self._told_of_compression:
                self._voice.tell("compression", text)
        self._told_of_compression = set(result.problems)
        return result.more

    def _retain(self, stop: Callable[[], bool], **bounds: int) -> _retention.SweepResult:
        """Delete what goes over the limits, within *bounds* (see `_retention.sweep`)."""
        limits = _retention.Limits.of(self.settings)
        result = _retention.sweep(str(self._directory), self._prefix, limits, stop=stop, **bounds)
        self.deleted_files += result.deleted
        # A bounded step that deleted fewer than it might has done what it can for this hour.
        enough = bool(bounds) and not result.skipped and result.deleted < bounds["most_deleted"]
        if result.complete or enough:
            _survey.note_swept(self._directory, self._prefix)
        # Of a limit that stays exceeded only the number changes, and it is told once.
        found = {text.partition(",")[0]: text for text in result.unmet} | dict.fromkeys(result.problems, "")
        for key in found.keys() - self._told:
            self._voice.tell("sweep", found[key] or key)
        # What has been mended since is told again, should it come back.
        self._told = set(found) if result.complete else self._told | set(found)
        return result

    def sweep_a_little(self) -> None:
        """One bounded step, if the last sweep is an hour ago: so programs that always end early are swept too."""
        # A time in the future, from before the clock was set back, is not lately.
        if abs(now() - _survey.last_swept(self._directory, self._prefix)) < _LATELY:
            return
        try:
            self._retain(lambda: False, most_listed=_STEP_LISTED, most_deleted=_STEP_DELETED)
        except Exception as error:
            # The session must end whatever happens here.
            self._voice.tell("sweep", f"retention could not run: {error!r}")


def unhurried(stop: Callable[[], bool]) -> Callable[[], bool]:
    """*stop*, which rests before it says no, three times as long as the work since it was last asked.

    A sweep of 10,000 files without rests made the slowest of a thousand calls half as slow again, on two cores.
    """
    since = monotonic()

    def ask() -> bool:
        nonlocal since
        if stop():
            return True
        # Time that is frozen, or goes on after that, may jump; and nobody waits longer for the end of a sweep.
        sleep(min(max(0.0, monotonic() - since) * _RESTS, _LONGEST_REST))
        since = monotonic()
        return False

    return ask
