"""One handler's place in the line of those that have a session, one after another."""

from __future__ import annotations

import contextlib
import os
import weakref
from pathlib import Path
from typing import Any

from jsonl_handler import _lineage
from jsonl_handler._lineage import Lineage


class Succession:
    """Which session is this handler's; *lineage* is None while it has none."""

    def __init__(self, directory: Path, prefix: str, asked: str | None, owner: object) -> None:
        """*owner* is the handler, *asked* the name that it asked for."""
        self.lineage: Lineage | None = None
        self.asked = asked
        self._directory = directory
        self._prefix = prefix
        self._owner = weakref.ref(owner)

    @property
    def session_id(self) -> str | None:
        """The name of the session."""
        return self.lineage.session_id if self.lineage else None

    @property
    def is_lost(self) -> bool:
        """True when the session has passed to another handler."""
        return self.lineage is not None and _lineage.is_lost(self.lineage, self._owner)

    def begin(self, session_id: str, first_seq: int = 0) -> Lineage:
        """Have a new session."""
        self.lineage = Lineage(session_id, first_seq, self._owner, asked=self.asked)
        return self.lineage

    def inherit(self) -> None:
        """Go on with the session of a handler that has closed, if one was left."""
        self.lineage = _lineage.inherit(self._key(), self.asked, self._owner())

    def leave(self) -> None:
        """Leave the session to the next handler, if it still is this one's."""
        if self.lineage is not None and not self.is_lost:
            _lineage.leave(self._key(), self.lineage)

    def can_follow(self, other: Succession) -> bool:
        """True when *other* owns a session of the same directory, prefix and name."""
        lineage = other.lineage
        return (
            lineage is not None
            and lineage.owner() is other._owner()
            and other._key() == self._key()
            and self.asked in (None, lineage.asked, lineage.session_id)
        )

    def follow(self, other: Succession) -> None:
        """Go on with the session that *other* has just left, unless somebody else was faster."""
        lineage = other.lineage
        if lineage is not None and _lineage.bequeath(self._key(), lineage, self._owner):
            # It may have found another one, that an earlier handler had left.
            spare, self.lineage = self.lineage, lineage
            if spare is not None:
                _lineage.leave(self._key(), spare)

    def take_over(self) -> None:
        """Have a closed handler that was logged to again give up the session that is this one's now.

        Raises `SupersededError` when it has passed to another handler.
        """
        holder: Any = _lineage.hold(self.lineage, self._owner) if self.lineage is not None else None
        if holder is not None:
            holder.yield_session()

    def close_others(self) -> None:
        """Have the session closed also where it is open in a closed handler that was logged to again."""
        with contextlib.suppress(_lineage.SupersededError):
            self.take_over()

    def _key(self) -> tuple[str, str]:
        return os.path.realpath(self._directory), self._prefix
