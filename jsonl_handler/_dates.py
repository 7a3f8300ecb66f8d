"""Which UTC date a record belongs to, when threads race at midnight and clocks jump."""

from __future__ import annotations

import datetime

from jsonl_handler._clock import now

DAY = 86400
"""Seconds in a UTC day; dates are counted in days since the epoch."""

_EPOCH = 719163
"""1970-01-01, as `datetime.date.toordinal` counts."""

_FIRST, _LAST = 1 - _EPOCH, 3652059 - _EPOCH
"""0001-01-01 and 9999-12-31, beyond which `datetime.date` knows none."""


def day_of(created: float) -> int:
    """The UTC date of a moment, in days since the epoch; today for what is no moment."""
    try:
        day = int(created // DAY)
    except (ValueError, OverflowError):
        day = _LAST + 1
    return day if _FIRST <= day <= _LAST else min(int(now() // DAY), _LAST)


def date_of(day: int) -> datetime.date:
    """The date that is *day* days after the epoch.

    Adding a `timedelta` says the same, but crashes CPython 3.13.0 at the interpreter's end.
    """
    return datetime.date.fromordinal(_EPOCH + day)


class OpenDate:
    """The date whose file is open: records from *start* up to *end* belong to it without a question."""

    __slots__ = ("day", "end", "known", "start")

    def __init__(self) -> None:
        self.known = False
        self.day, self.start, self.end = 0, 0.0, -1.0

    def turn(self, created: float) -> bool:
        """A record from outside of the date: True when it opens another one, False when it goes with the open one."""
        moment = now()
        today = int(moment // DAY)
        day = day_of(created)
        if created > moment + DAY:
            # It claims to be more than a day ahead of the clock: no file of its own for that.
            day = today
            if self.known:
                return False
        if self.known and day < self.day <= today:
            # Late. Were the open date ahead of the clock, the clock would have been set back.
            return False
        turned = not self.known or day != self.day
        self.known = True
        self.day, self.start, self.end = day, float(day * DAY), float((day + 1) * DAY)
        return turned
