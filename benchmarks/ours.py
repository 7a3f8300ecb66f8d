"""This package, set up as its users do; and the floor below it."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

from benchmarks.calls import Place, Rig


def logger_with(*handlers: logging.Handler) -> logging.Logger:
    """A logger that reaches these handlers alone."""
    logger = logging.getLogger("bench")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    for handler in handlers:
        logger.addHandler(handler)
    return logger


def null(place: Place) -> Rig:
    """The record alone."""
    return Rig(logger_with(logging.NullHandler()).info, lambda: None)


def console() -> logging.Handler:
    """A handler as it stands in front of many others; it leaves `message` and `asctime` in the record."""
    shown = logging.StreamHandler(open(os.devnull, "w"))  # noqa: SIM115
    shown.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    return shown


def null_behind_console(place: Place) -> Rig:
    """What a console handler takes for itself."""
    return Rig(logger_with(console(), logging.NullHandler()).info, lambda: None)


def defaults(place: Place) -> Rig:
    """One handler, with the encoder that is installed."""
    handler = _handler(place)
    return Rig(logger_with(handler).info, handler.close, counts=_counts(handler))


def with_orjson(place: Place) -> Rig:
    """The extra `fast`."""
    import orjson  # noqa: F401

    return defaults(place)


def with_stdlib_json(place: Place) -> Rig:
    """As without the extra `fast`."""
    sys.modules["orjson"] = None  # type: ignore[assignment]
    return defaults(place)


def behind_console(place: Place) -> Rig:
    """A console handler sees each record first."""
    handler = _handler(place)
    return Rig(logger_with(console(), handler).info, handler.close, counts=_counts(handler))


def with_settings(**settings: Any) -> Callable[[Place], Rig]:
    """Settings other than the defaults."""

    def build(place: Place) -> Rig:
        return with_orjson(replace(place, settings=place.settings | settings))

    return build


def without(*, caller: bool) -> Callable[[Place], Rig]:
    """Without the attributes that the logging HOWTO says how to switch off: thread, process, task, perhaps the caller.

    The last is only for those who never ask for a line number.
    """

    def build(place: Place) -> Rig:
        logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
        logging.logAsyncioTasks = False
        if not caller:
            logging._srcfile = None  # type: ignore[attr-defined]
        return with_orjson(place)

    return build


def with_formatter(**options: Any) -> Callable[[Place], Rig]:
    """A `JsonlFormatter` with options."""

    def build(place: Place) -> Rig:
        import orjson  # noqa: F401

        from jsonl_handler import JsonlFormatter

        handler = _handler(place)
        handler.setFormatter(JsonlFormatter(**options))
        return Rig(logger_with(handler).info, handler.close, counts=_counts(handler))

    return build


def by_write(place: Place) -> Rig:
    """`handler.write` with a line that orjson has made, and no logger at all."""
    import orjson

    handler = _handler(place)

    def info(message: str, **fields: Any) -> None:
        moment = datetime.now(UTC).isoformat()
        handler.write(orjson.dumps({"timestamp": moment, "level": "INFO", "message": message, **fields}))

    return Rig(info, handler.close, "keywords", _counts(handler))


def from_structlog(place: Place) -> Rig:
    """`handler.write`, as the last step of structlog with orjson."""
    from benchmarks.peers import structlog_logger

    handler = _handler(place)

    class Wrapped:
        """The logger that structlog wraps: whatever the level, the line is written."""

        info = staticmethod(handler.write)

    info = structlog_logger(lambda *args: Wrapped())
    return Rig(info, handler.close, "keywords", _counts(handler))


def _handler(place: Place) -> Any:
    from jsonl_handler import JsonlHandler

    return JsonlHandler(place.directory, max_file_bytes=place.max_file_bytes, **place.settings)


def _counts(handler: Any) -> Callable[[], dict[str, Any]]:
    def counts() -> dict[str, Any]:
        stats = asdict(handler.stats())
        return {name: stats[name] for name in ("accepted", "written", "dropped", "pending", "rotations", "batches")}

    return counts
