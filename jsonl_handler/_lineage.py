"""A session's name and its count of records, which pass from one handler to the next inside a process."""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Callable
from typing import Any


class SupersededError(Exception):
    """The session belongs to another handler by now."""


class Lineage:
    """One session: its id, the number that its next record gets, and the handler that owns it now.

    *holder* is the handler that has it open: another one, if a closed handler was logged to again.
    """

    __slots__ = ("asked", "holder", "next_seq", "owner", "session_id")

    def __init__(self, session_id: str, first_seq: int, owner: weakref.ref[Any], *, asked: str | None = None) -> None:
        """*asked* is the name that was asked for: it may have been in use."""
        self.session_id = session_id
        self.asked = asked
        self.next_seq: Callable[[], int] = itertools.count(first_seq).__next__
        self.owner = self.holder = owner


_MOST_KEPT = 64
_closed: dict[tuple[str, str], list[Lineage]] = {}
# Re-entrant: a signal handler that logs may have interrupted who holds it.
_lock = threading.RLock()


def leave(key: tuple[str, str], lineage: Lineage) -> None:
    """The owner of a session of *key* (real directory, prefix) has closed; the next one may go on with it."""
    with _lock:
        left = _closed.setdefault(key, [])
        if lineage not in left:
            left.append(lineage)
        del left[:-_MOST_KEPT]


def inherit(key: tuple[str, str], asked: str | None, heir: Any) -> Lineage | None:
    """The session of a handler that has closed, for the one built after it; None when there is none.

    A handler that asks for another session by name does not inherit. Of several the last
    goes first: dictConfig closes in the reverse of the order in which it builds.
    """
    with _lock:
        owner = weakref.ref(heir)
        for lineage in _closed.get(key, [])[::-1]:
            if (asked is None or asked in (lineage.asked, lineage.session_id)) and _take(key, lineage):
                lineage.owner = owner
                return lineage
        return None


def bequeath(key: tuple[str, str], lineage: Lineage, heir: weakref.ref[Any]) -> bool:
    """Let *heir* have this very session of a handler that has closed; False when another one was faster."""
    with _lock:
        if not _take(key, lineage):
            return False
        lineage.owner = heir
        return True


def _take(key: tuple[str, str], lineage: Lineage) -> bool:
    """Take a session that was left; False when an interrupt of this very thread was faster."""
    left = _closed.get(key, [])
    try:
        left.remove(lineage)
    except ValueError:
        return False
    if not left:
        _closed.pop(key, None)
    return True


def is_lost(lineage: Lineage, handler: weakref.ref[Any]) -> bool:
    """True when another handler owns the session by now."""
    return lineage.owner() not in (None, handler())


def hold(lineage: Lineage, handler: weakref.ref[Any]) -> Any | None:
    """*handler* opens the session: the handler that has it open, None when that is no other.

    Raises `SupersededError` when another one has taken the session over meanwhile.
    """
    with _lock:
        if is_lost(lineage, handler):
            raise SupersededError(lineage.session_id)
        lineage.owner = handler
        holder, lineage.holder = lineage.holder(), handler
        return None if holder is handler() else holder


def forget_all() -> None:
    """In a forked child: its parent's sessions are not its own, and another thread may have held the lock."""
    global _lock
    _lock = threading.RLock()
    _closed.clear()
