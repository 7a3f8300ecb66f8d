"""What a user would pick instead of this package, each set up as its own documentation shows.

Where a peer can rotate, it does so by size; all write the timestamp, the level, the logger, the message and the extras.
"""

from __future__ import annotations

import logging
import logging.handlers
from collections.abc import Callable
from importlib import import_module
from queue import Queue
from typing import Any

from benchmarks.calls import Place, Rig
from benchmarks.ours import logger_with

Builder = Callable[[Place], Rig]


def json_formatter(kind: str) -> logging.Formatter:
    """One of python-json-logger's three: Json, Orjson, Msgspec."""
    module = import_module(f"pythonjsonlogger.{kind.lower()}")
    formatter: logging.Formatter = getattr(module, f"{kind}Formatter")(["levelname", "name", "message"], timestamp=True)
    return formatter


def rotating(kind: str) -> Builder:
    """The standard library's rotating handler."""

    def build(place: Place) -> Rig:
        handler = _rotating(place, kind)
        return Rig(logger_with(handler).info, handler.close)

    return build


def queued(kind: str) -> Builder:
    """The same behind the standard library's queue pair."""

    def build(place: Place) -> Rig:
        handler = _rotating(place, kind)
        queue: Queue[Any] = Queue()
        listener = logging.handlers.QueueListener(queue, handler)
        listener.start()

        def finish() -> None:
            listener.stop()
            handler.close()

        return Rig(logger_with(logging.handlers.QueueHandler(queue)).info, finish)

    return build


def concurrent(kind: str) -> Builder:
    """One file for many processes, under a lock."""

    def build(place: Place) -> Rig:
        from concurrent_log_handler import ConcurrentRotatingFileHandler

        handler = ConcurrentRotatingFileHandler(
            str(place.path), maxBytes=place.max_file_bytes, backupCount=place.backups
        )
        handler.setFormatter(json_formatter(kind))
        return Rig(logger_with(handler).info, handler.close)

    return build


def structlog_logger(factory: Callable[..., Any]) -> Callable[..., Any]:
    """structlog's fastest way: orjson, and lines as bytes."""
    import orjson
    import structlog

    structlog.configure(
        cache_logger_on_first_use=True,
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(serializer=orjson.dumps),
        ],
        logger_factory=factory,
    )
    info: Callable[..., Any] = structlog.get_logger().bind().info
    return info


def structlog_bytes(place: Place) -> Rig:
    """structlog without the standard library: no rotation, no buffer."""
    import structlog

    file = open(place.path, "ab")  # noqa: SIM115
    return Rig(structlog_logger(structlog.BytesLoggerFactory(file)), file.close, "keywords")


def loguru(*, enqueue: bool) -> Builder:
    """loguru's `serialize`."""

    def build(place: Place) -> Rig:
        from loguru import logger

        logger.remove()
        logger.add(place.path, format="{message}", serialize=True, enqueue=enqueue, rotation=place.max_file_bytes)

        def finish() -> None:
            logger.complete()
            logger.remove()

        return Rig(logger.info, finish, "keywords")

    return build


def picologging(place: Place) -> Rig:
    """It takes `extra` and forgets it."""
    import picologging
    import picologging.handlers

    handler = picologging.handlers.RotatingFileHandler(
        str(place.path), maxBytes=place.max_file_bytes, backupCount=place.backups
    )
    handler.setFormatter(json_formatter("Orjson"))
    logger = picologging.getLogger("bench")
    logger.setLevel(picologging.INFO)
    logger.addHandler(handler)
    return Rig(logger.info, handler.close, "bare")


def app_log_json(place: Place) -> Rig:
    """A queue, and one file a day."""
    import atexit

    from app_log_json import build_config, get_logger, setup, setup_logging

    setup_logging(build_config("bench", place.directory))
    # It is stopped here, and on 3.11 a listener can't be stopped twice.
    atexit.unregister(setup._listener.stop)
    return Rig(get_logger("bench").info, setup._listener.stop)


def logxide(place: Place) -> Rig:
    """Records made by Rust; no rotation."""
    import logxide

    handler = logxide.logging.FileHandler(str(place.path))
    handler.setFormatter(json_formatter("Orjson"))
    logger = logxide.logging.getLogger("bench")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(handler)

    def finish() -> None:
        logxide.logging.flush()
        handler.close()

    return Rig(logger.info, finish)


def _rotating(place: Place, kind: str) -> logging.Handler:
    handler = logging.handlers.RotatingFileHandler(place.path, maxBytes=place.max_file_bytes, backupCount=place.backups)
    handler.setFormatter(json_formatter(kind))
    return handler
