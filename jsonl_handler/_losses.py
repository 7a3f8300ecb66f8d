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

    __slots__ = ("alarm", "dropped", "present")

    def __init__(self) -> None:
        self.dropped = 0
        self.present: Loss | None = None
        self.alarm: Callable[[], None] | None = None

    def note(self, reason: str) -> Loss:
        """The burst that a drop of now belongs to; the caller counts it there and in `dropped`."""
        moment = now()
        if self.present is None:
            self.present = Loss(reason, moment, moment)
            if self.alarm is not None:
                self.alarm()
        self.present.last = moment
        return self.present

    def take(self) -> Loss | None:
        """End the burst; what is dropped from now on is another one."""
        loss, self.present = self.present, None
        return loss

    @staticmethod
    def tell(loss: Loss) -> int:
        """How many of a burst are still to be told; they count as told from now on."""
        untold, loss.told = loss.count - loss.told, loss.count
        return untold
