"""What happens around a fork: threads are parked before it, and a child owns nothing that its parent has open."""

from __future__ import annotations

import os
import weakref
from typing import Protocol

from jsonl_handler import _lineage, _lockfile, _parking
from jsonl_handler._status import Voice


class Forkable(Protocol):
    """A handler that can begin anew, with no session and nothing pending; or what watches over handlers."""

    def start_over(self) -> None: ...


_handlers: weakref.WeakSet[Forkable] = weakref.WeakSet()
_watching = False


def start_over_in_children(handler: Forkable) -> None:
    """Have *handler* start over in every child that this process forks."""
    global _watching
    if not _watching and hasattr(os, "register_at_fork"):
        os.register_at_fork(
            before=_parking.before_fork, after_in_parent=_parking.after_fork, after_in_child=_start_over
        )
        _watching = True
    _handlers.add(handler)


def _start_over() -> None:
    _parking.forget_all()
    # A lock belongs to the open file: one descriptor left open here would keep a dead parent's session alive.
    _lockfile.close_all()
    _lineage.forget_all()
    # What has `begins_last` starts a thread that uses the others.
    for handler in sorted(_handlers, key=lambda one: getattr(one, "begins_last", False)):
        try:
            handler.start_over()
        except Exception as error:
            # `os.fork` would print a traceback; the handler's own voice may have been in use at the fork.
            voice = Voice()
            voice.tell("fork", f"{handler!r} keeps no records in the forked child {os.getpid()}: {error!r}")
            voice.speak()
