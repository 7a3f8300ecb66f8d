"""Closes at the interpreter's exit what nobody else will close: handlers that were logged to after their `close`.

Nothing is registered before the first of them.
"""

from __future__ import annotations

import atexit
import logging
import weakref

_reopened: weakref.WeakSet[logging.Handler] = weakref.WeakSet()


def close_at_exit(handler: logging.Handler) -> None:
    """Have *handler* closed; `logging.shutdown` no longer knows one that `dictConfig` has closed."""
    if not _reopened:
        atexit.unregister(_close_all)
        atexit.register(_close_all)
    _reopened.add(handler)


def _close_all() -> None:
    for handler in list(_reopened):
        handler.close()
