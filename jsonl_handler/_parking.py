"""No thread of this package runs while its process forks: each is asked to end before, and may begin again after.

It waits for them for at most `PATIENCE` in all, and holds no lock while the process forks:
hooks run newest first, and logging's own then waits for a lock whose holder may need ours.
"""

from __future__ import annotations

import threading
import weakref
from _thread import get_ident
from collections.abc import Callable
from typing import Protocol

from jsonl_handler._clock import monotonic
from jsonl_handler._held import owns, within
from jsonl_handler._status import Voice

PATIENCE = 0.05
_LONG = 1.0


class Parkable(Protocol):
    """Something that has a thread."""

    begins_last: bool

    @property
    def voice(self) -> Voice: ...

    def park(self, timeout: float) -> None:
        """Ask the thread to end, and let none begin; *timeout* is for a lock that must be had to wake it."""

    def wait_parked(self, timeout: float) -> bool:
        """Wait for its end; False when it goes on after *timeout* seconds, or is the caller."""

    def unpark(self) -> None:
        """Let a thread begin again, and begin it if it has something to do."""

    def forsake(self) -> None:
        """In the child: the thread is not there, whatever state it left."""


_threads: weakref.WeakValueDictionary[int, Parkable] = weakref.WeakValueDictionary()
# One thread at a time parks or unparks; the forks under way have a ticket each, the ident of their thread.
_guard = threading.RLock()
_tickets: list[int] = []


def park_at_forks(one: Parkable) -> None:
    """Have the thread of *one* end for each fork."""
    _threads[id(one)] = one


def before_fork() -> None:
    """Park all threads."""
    patience = _Patience()
    # Owned: a signal handler or a `__del__` forks while this very thread parks. It is spared, and so
    # is one whose lock the parking thread waits for.
    if owns(_guard):
        return
    for one in within(_guard, PATIENCE, lambda: _park(patience)) or []:
        _try(one, lambda one=one: patience.spend(one.wait_parked))  # type: ignore[misc]


def _park(patience: _Patience) -> list[Parkable]:
    _tickets.append(get_ident())
    all_of_them = _all()
    for one in all_of_them:
        _try(one, lambda one=one: one.park(patience.left()))  # type: ignore[misc]
    return all_of_them


def after_fork() -> None:
    """In the parent: unpark them, unless another thread is about to fork too."""
    me = get_ident()
    if owns(_guard) or me not in _tickets:
        return
    _tickets.remove(me)
    # Who holds the guard for long unparks them himself, and waits for a lock that this thread holds.
    if not _tickets:
        within(_guard, _LONG, _unpark_all)


def _unpark_all() -> None:
    if not _tickets:
        # Maintenance last: whether it begins depends on who else has.
        _unpark(sorted(_all(), key=lambda one: one.begins_last))


def forget_all() -> None:
    """In the child: the threads are not there, and another one may have held the guard."""
    global _guard
    _guard = threading.RLock()
    _tickets.clear()
    for one in _all():
        _try(one, one.forsake)
    _threads.clear()


class _Patience:
    """The time that is left for all of them together."""

    def __init__(self) -> None:
        self._deadline = monotonic() + PATIENCE
        self._over = False

    def left(self) -> float:
        # A frozen clock never gets there: then the first wait that was in vain ends it.
        return 0.0 if self._over else min(max(self._deadline - monotonic(), 0.0), PATIENCE)

    def spend(self, wait: Callable[[float], bool]) -> None:
        self._over = not wait(self.left()) or self._over


def _all() -> list[Parkable]:
    return [one for reference in _threads.valuerefs() if (one := reference()) is not None]


def _unpark(rest: list[Parkable]) -> None:
    for number, one in enumerate(rest, 1):
        try:
            _try(one, one.unpark)
        except BaseException:
            # Ctrl-C: nobody would come to unpark the others.
            _unpark(rest[number:])
            raise


def _try(one: Parkable, act: Callable[[], object]) -> None:
    try:
        act()
    except Exception as error:
        # `os.fork` would print a traceback on stderr.
        one.voice.tell("fork", f"a thread could not be parked for a fork: {error!r}")
