"""The package's own voice, kept short by a rate limit, and the numbers it is asked for.

Notices are queued from anywhere and spoken only where no lock of ours is held:
on the maintenance thread, or in a constructor.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jsonl_handler._clock import monotonic
from jsonl_handler._held import owns, within

if TYPE_CHECKING:
    from pathlib import Path

LOGGER_NAME = "jsonl_handler"

_AT_ONCE = 3
_WINDOW = 60.0


@dataclass(frozen=True, slots=True)
class Stats:
    """What a handler has done so far; ``accepted == written + dropped + pending`` always holds."""

    session_id: str | None
    path: Path | None
    accepted: int
    written: int
    dropped: int
    pending: int
    bytes_written: int
    batches: int
    rotations: int
    write_errors: int
    recovered: int
    deleted_files: int
    crash_safe: bool
    last_error: str | None


@dataclass(frozen=True, slots=True)
class Notice:
    """Something to tell; notices of one *kind* share a rate limit, and *count* is summed while they wait."""

    kind: str
    level: int
    message: str
    count: int = 0


class Voice:
    """Tells of trouble on the logger ``jsonl_handler``: a few at once, then one a minute of each kind."""

    def __init__(self) -> None:
        self.bell: Callable[[], None] | None = None
        self._queue: deque[Notice] = deque(maxlen=1000)
        self._times: dict[str, deque[float]] = {}
        self._held: dict[str, Notice] = {}
        self._speaking = threading.RLock()

    def tell(self, kind: str, message: str, *, level: int = logging.WARNING, count: int = 0) -> None:
        """Queue a notice; safe under any lock, never blocks."""
        self._queue.append(Notice(kind, level, message, count))
        if self.bell is not None:
            self.bell()

    @property
    def pending(self) -> bool:
        """True while something has not been spoken (held back by the rate limit does not count)."""
        return bool(self._queue)

    @property
    def held(self) -> bool:
        """True while the rate limit holds something back."""
        return bool(self._held)

    def speak(self, *, finally_: bool = False) -> None:
        """Say what waits; *finally_* says also what the rate limit holds back."""
        if not owns(self._speaking):
            within(self._speaking, 0, lambda: self._say_all(finally_))

    def _say_all(self, finally_: bool) -> None:
        while self._queue:
            self._one(self._queue.popleft())
        for kind in list(self._held):
            if finally_ or self._may_speak(kind):
                self._say(self._held.pop(kind))

    def _one(self, notice: Notice) -> None:
        held = self._held.get(notice.kind)
        if held is None and self._may_speak(notice.kind):
            self._say(notice)
            return
        total = notice.count + (held.count if held else 0)
        level = max(notice.level, held.level if held else 0)
        self._held[notice.kind] = Notice(notice.kind, level, notice.message, total)

    def _may_speak(self, kind: str) -> bool:
        times = self._times.setdefault(kind, deque(maxlen=_AT_ONCE))
        if len(times) == _AT_ONCE and abs(monotonic() - times[0]) < _WINDOW:
            return False
        times.append(monotonic())
        return True

    def _say(self, notice: Notice) -> None:
        try:
            _dispatch(notice)
        except Exception as error:
            # The last place there is: a handler of the application failed on our notice.
            if sys.stderr is not None:
                print(f"jsonl_handler: {notice.message} (and telling it failed: {error!r})", file=sys.stderr)


def _dispatch(notice: Notice) -> None:
    """Offer a notice to every handler that the logger reaches, but for this package's own.

    A notice about a stream must not feed that stream, so the walk of
    ``Logger.callHandlers`` is repeated here without them. ``Logger.disabled`` is not
    asked: ``dictConfig`` sets it on every logger it does not name.
    """
    logger = logging.getLogger(LOGGER_NAME)
    if logger.manager.disable >= notice.level or logger.getEffectiveLevel() > notice.level:
        return
    record = logger.makeRecord(LOGGER_NAME, notice.level, __file__, 0, notice.message, (), None, "tell")
    if notice.count:
        record.count = notice.count
    if not logger.filter(record):
        return
    heard = False
    at: logging.Logger | None = logger
    while at is not None:
        for handler in list(at.handlers):
            if getattr(handler, "writes_session_files", False):
                continue
            heard = True
            if record.levelno >= handler.level:
                handler.handle(record)
        at = at.parent if at.propagate else None
    last = logging.lastResort
    if not heard and last is not None and record.levelno >= last.level:
        last.handle(logging.makeLogRecord({**record.__dict__, "msg": f"jsonl_handler: {notice.message}"}))
