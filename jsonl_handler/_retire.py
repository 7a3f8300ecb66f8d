"""Closes handlers that are no longer needed, on a thread of its own: nobody waits for one that hangs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from jsonl_handler._status import Voice
from jsonl_handler._worker import Worker

_PATIENCE = 10.0


def retire(handlers: Sequence[logging.Handler], voice: Voice) -> None:
    """Flush and close *handlers*; after ten seconds it is told, and what hangs is left to its thread."""
    if not handlers:
        return
    left = list(handlers)

    def close_all() -> None:
        while left:
            try:
                _close(left[0])
            except Exception as error:
                voice.tell("retire", f"{type(left[0]).__name__} could not be closed: {error!r}")
            del left[0]

    worker = Worker(close_all, "jsonl-handler-retire")
    if not worker.start():
        # At the interpreter's exit.
        close_all()
    elif not worker.join(_PATIENCE):
        names = ", ".join(type(one).__name__ for one in left[:1])
        voice.tell("retire", f"a handler takes long to close and is left to itself ({names})")


def is_listening(handler: object) -> bool:
    """True for a `QueueHandler` whose listener, which `dictConfig` made for it, was started."""
    return isinstance(getattr(getattr(handler, "listener", None), "_thread", None), threading.Thread)


def _close(handler: logging.Handler) -> None:
    if is_listening(handler):
        # What is in its queue is handled before it goes.
        handler.listener.stop()  # type: ignore[attr-defined]
    handler.acquire()
    try:
        handler.flush()
    finally:
        handler.release()
    handler.close()
