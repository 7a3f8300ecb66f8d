"""What a forked child does first: it owns nothing that its parent has open.

Nothing is done in the parent: a lock taken there before the fork could be one that
another hook waits for, as logging's own does.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol

from jsonl_handler import _lineage, _lockfile


class Forkable(Protocol):
    """A handler that can begin anew, with no session and nothing pending."""

    def start_over(self) -> None: ...


_handlers: weakref.WeakSet[Forkable] = weakref.WeakSet()
_watching = False


def start_over_in_children(handler: Forkable) -> None:
    """Have *handler* start over in every child that this process forks."""
    global _watching
    if not _watching and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_start_over)
        _watching = True
    _handlers.add(handler)


def _start_over() -> None:
    # A lock belongs to the open file: one descriptor left open here would keep a dead parent's session alive.
    _lockfile.close_all()
    _lineage.forget_all()
    for handler in list(_handlers):
        handler.start_over()
