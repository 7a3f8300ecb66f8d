"""Which segments are closed for good, so that no session will ever write to them again.

What is done with them is the business of `_compression`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from jsonl_handler import _session
from jsonl_handler._clock import now
from jsonl_handler._dates import date_of, day_of
from jsonl_handler._names import SegmentName
from jsonl_handler._session_file import names_segment, path_of

_QUIET = 3600.0
_DAYS_PAST = 2


@contextlib.contextmanager
def held_closed(directory: Path, name: SegmentName, *, is_highest: bool, mtime: float) -> Iterator[bool]:
    """True inside the block while no session can go on with a segment that was last written at *mtime*.

    A session never goes back to a lower number. The highest of a date is gone on with by a
    session that resumes its name, so the name is held meanwhile; where it can't be, because
    somebody has it, only a date that is long past is safe.
    """
    if is_current(directory, name):
        yield False
    elif not is_highest:
        yield True
    elif now() - mtime < _QUIET:
        yield False
    else:
        with contextlib.ExitStack() as held:
            yield _hold(directory, name, held) or (date_of(day_of(now())) - name.date).days >= _DAYS_PAST


def is_current(directory: Path, name: SegmentName) -> bool:
    """True when a session, alive or crashed, says that it writes this segment, or can't be asked."""
    return names_segment(path_of(directory, name.prefix, name.session), str(name))


def _hold(directory: Path, name: SegmentName, held: contextlib.ExitStack) -> bool:
    # The file of a crashed session is left to those who know what is to be saved of it.
    if os.path.lexists(path_of(directory, name.prefix, name.session)):
        return False
    try:
        held.callback(_session.claim(directory, name.prefix, name.session).release)
    except _session.TakenError:
        return False
    return True
