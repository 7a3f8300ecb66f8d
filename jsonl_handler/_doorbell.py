"""How callers call the writer, and how the writer rests until they do.

A raw lock serves as the bell: unlike `threading.Event` and `queue.Queue` it survives a
signal handler that interrupts its own thread inside it.
"""

from __future__ import annotations

import enum
import threading
from _thread import LockType, allocate_lock

NEVER = 1 << 62


class Writer(enum.IntEnum):
    """What the writer does, as far as a caller has to know."""

    ABSENT = 0
    AWAKE = 1
    WAITING = 2
    BACKING_OFF = 3


# An enum's attributes are looked up by a call.
_ABSENT, _AWAKE, _WAITING, _BACKING_OFF = Writer


class Doorbell:
    """The writer's state; the buffer's lock guards all of it but `rest`."""

    __slots__ = ("_bell", "hurried", "thread", "urgent", "wake_at", "writer")

    def __init__(self) -> None:
        self._bell: LockType = allocate_lock()
        self._bell.acquire()
        self.writer = _ABSENT
        self.thread = 0
        self.urgent = self.hurried = False
        # So many waiting records call the writer.
        self.wake_at = 1

    @property
    def absent(self) -> bool:
        """True when no writer is there."""
        return self.writer == _ABSENT

    @property
    def expected(self) -> bool:
        """True while a writer is about to come."""
        return self.writer == _AWAKE and not self.thread

    def attend(self, thread: int) -> None:
        """*thread* is the writer from now on; 0 while it is only about to start."""
        self.writer, self.thread, self.wake_at = _AWAKE, thread, NEVER

    def leave(self) -> None:
        """There is no writer from now on."""
        self.writer, self.thread, self.wake_at = _ABSENT, 0, 1

    def ring(self, urgent: bool, out_of_pause: bool = False) -> bool:
        """Call the writer if it rests; True when there is none."""
        self.urgent = self.urgent or urgent
        self.hurried = self.hurried or out_of_pause
        if self.writer == _WAITING or (out_of_pause and self.writer == _BACKING_OFF):
            # Near the recursion limit this may raise; the state is changed only when the bell has rung.
            try:
                self._bell.release()
            except RuntimeError as error:
                if isinstance(error, RecursionError):
                    raise
                # It has been rung: by an interrupt of this very thread, since.
            self.writer, self.wake_at = _AWAKE, NEVER
        return self.writer == _ABSENT

    def lie_down(self, posture: Writer, wake_at: int) -> None:
        """The writer is about to `rest`."""
        self.writer, self.wake_at = posture, wake_at

    def rest(self, timeout: float | None) -> bool:
        """Sleep, without the buffer's lock, until the bell rings; False after *timeout* seconds."""
        return self._bell.acquire(True, -1 if timeout is None else min(timeout, threading.TIMEOUT_MAX))

    def get_up(self, woken: bool) -> bool:
        """The writer is back; True when it was called."""
        # A ring that came between the time-out and here would end the next rest before it began.
        woken = woken or self._bell.acquire(False)
        self.writer, self.wake_at, self.hurried = _AWAKE, NEVER, False
        return woken
