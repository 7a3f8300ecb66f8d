"""`RecordBuffer`: the bounded hand-over from the callers to the writer, through two arenas.

It does not know what a line says, where it goes, or how often somebody comes for it. It is one object in
four rooms: what lies in it, how lines come in, how they go out, and, here, how all of that changes.
"""

from __future__ import annotations

import threading
import weakref
from typing import Protocol

from jsonl_handler._handover import Handover
from jsonl_handler._held import owns
from jsonl_handler._journal import NO_MEMORY, Journal
from jsonl_handler.settings import Settings


class Entrance(Protocol):
    """Where lines are made, of at most so many bytes."""

    most: int


class RecordBuffer(Handover):
    """Two arenas: callers append to one while the writer writes the other.

    Every method may be called from any thread, also from a signal handler or a
    ``__del__`` that interrupts another method of the same buffer in its own thread.
    """

    __slots__ = ("_doors", "_wanted")

    def __init__(self, settings: Settings | None = None) -> None:
        # What it is to go by, and has not come to yet.
        self._wanted: tuple[Settings, Journal | None] | None = None
        self._doors: weakref.WeakSet[Entrance] = weakref.WeakSet()
        super().__init__(settings or Settings())

    def counts(self) -> tuple[int, int, int]:
        """(written, dropped, pending), of one moment."""
        with self._lock:
            written, dropped, pending = self._numbers()
            return written, dropped, pending + len(self._side)

    def reconfigure(self, settings: Settings) -> bool:
        """Go by other settings from now on; False when so much memory can't be had, and the old stays.

        What waits already is kept, and written when the new settings say so. Other memory comes
        between two batches: at once, if nothing is being written.
        """
        memory, had = None, True
        if settings.arena_bytes != self.journal.arena_bytes:
            try:
                memory = Journal.anonymous(settings.arena_bytes)
            except NO_MEMORY:
                had = False
        self._wanted = (settings, memory)
        if self._locked(self._follow) is None:
            # This very thread is inside, further up its own stack: the writer sees to it.
            self._bell.ring(True, True)
        for door in list(self._doors):
            door.most = settings.max_record_bytes
        return had

    def serve(self, door: Entrance) -> None:
        """Tell *door* of a new `max_record_bytes`, as long as it is there."""
        self._doors.add(door)

    def forsake(self) -> None:
        """In a forked child: what waits is the parent's, the writer is not there, and whoever waits for it goes on."""
        if not owns(self._lock):
            # Perhaps a thread that is not there either holds it.
            self._lock = threading.RLock()
            self._inside = False
        self._side.clear()
        if self._wanted is not None:
            self.settings, self._wanted = self._wanted[0], None
            self._set_thresholds()
        self._start_over()
        self._bell.leave()
        self._waiting.let_in()
        self._waiting.written(self._generation)

    def _see_to_rest(self) -> None:
        if self._wanted is not None:
            self._follow()
        super()._see_to_rest()

    def _follow(self) -> bool:
        wanted, self._wanted = self._wanted, None
        if wanted is None:
            return True
        settings, memory = wanted
        before, level = self.settings, self._flush_level
        self._adopt(settings, memory)
        self._set_thresholds()
        self._changed = True
        # Levels of what waits are not known; what was to outlive the process is written before it no longer does;
        # and what waits must fit into a smaller arena.
        written_first = (
            self._flush_level < level
            or (before.crash_safe and not settings.crash_safe)
            or settings.arena_bytes < self.journal.arena_bytes
        )
        self._bell.ring(written_first and self.waiting)
        # Who waits for room sees whether he still should.
        self._waiting.let_in()
        return True
