"""What was dropped: counted at once, told later, and never told twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jsonl_handler._clock import now


@dataclass(slots=True)
class Loss:
    """One burst of dropped records: how many, from when to when (seconds since the epoch), and why.

    *told* of them have been told of.
    """

    reason: str
    first: float
    last: float
    count: int = 0
    told: int = 0


class Losses:
    """All drops of one buffer; the buffer's lock guards it."""

    __slots__ = ("_taken", "alarm", "dropped", "present")

    def __init__(self) -> None:
        self.dropped = 0
        self.present: Loss | None = None
        self.alarm: Callable[[], None] | None = None
        # On its way into the stream.
        self._taken: Loss | None = None

    def note(self, reason: str) -> Loss:
        """The burst that a drop of now belongs to; the caller counts it there and in `dropped`."""
        moment = now()
        if self.present is None:
            fresh = Loss(reason, moment, moment)
            # Asked again: an interrupt may have dropped a record meanwhile, and begun the burst.
            if self.present is None:
                self.present = fresh
            if self.alarm is not None:
                self.alarm()
        self.present.last = moment
        return self.present

    def take(self) -> Loss | None:
        """End the burst; what is dropped from now on is another one."""
        loss, self.present = self.present, None
        self._taken = loss
        return loss

    def line_is_kept(self) -> None:
        """The line about the burst that was taken is where a crash can't reach it."""
        self._taken = None

    def owed(self) -> Loss | None:
        """What the stream has not been told of."""
        taken, present = self._taken, self.present
        if taken is None or present is None:
            return taken or present
        return Loss(taken.reason, taken.first, present.last, taken.count + present.count)

    @staticmethod
    def tell(loss: Loss) -> int:
        """How many of a burst are still to be told; they count as told from now on."""
        untold, loss.told = loss.count - loss.told, loss.count
        return untold
