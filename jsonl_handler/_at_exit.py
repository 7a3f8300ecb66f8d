"""Closes at the end of a process what nobody else will close.

That are handlers that were logged to after their `close`, and all handlers in the children
of `multiprocessing`. Nothing is registered before the first of them.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import weakref

# Below all others: other finalizers may log.
_LAST = -1000

_reopened: weakref.WeakSet[logging.Handler] = weakref.WeakSet()
_child = 0
_of_child: weakref.WeakSet[logging.Handler] = weakref.WeakSet()


def close_at_exit(handler: logging.Handler, *, reopened: bool) -> None:
    """Have an open *handler* closed at the process's end, if `logging.shutdown` won't.

    It does not know a handler that was closed before (*reopened*). And the children of
    `multiprocessing` end by ``os._exit``, which on 3.11 and 3.12 runs no `atexit` function,
    but the finalizers of ``multiprocessing.util``.
    """
    if reopened:
        if not _reopened:
            atexit.unregister(_close_all)
            atexit.register(_close_all, _reopened)
        _reopened.add(handler)
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        global _child
        if _child != os.getpid():
            # What a parent registered is forgotten in its child.
            from multiprocessing.util import Finalize

            _child = os.getpid()
            Finalize(None, _close_all, (_of_child,), exitpriority=_LAST)
        _of_child.add(handler)


def _close_all(handlers: weakref.WeakSet[logging.Handler]) -> None:
    for handler in list(handlers):
        handlers.discard(handler)
        handler.close()
