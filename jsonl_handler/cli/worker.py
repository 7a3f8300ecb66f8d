"""One process of the demo: parses Python files in several threads and logs an event for each.

It configures logging as any application does, through one ``dictConfig`` entry.
"""

from __future__ import annotations

import ast
import contextlib
import logging
import logging.config
import signal
import threading
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from jsonl_handler import JsonlHandler, Stats

PREFIX = "demo"
MAX_FILE_BYTES = 32 * 1024
_parsing = threading.Lock()
_LOGGER = "jsonl_handler_demo"
_PROGRESS_EVERY = 10


@dataclass(frozen=True, slots=True)
class Progress:
    """How many more files are done since the last report."""

    files: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one process did: events logged, errors among them, and what its handler counted."""

    events: int
    syntax_errors: int
    stats: Stats


def logging_config(directory: Path) -> dict[str, Any]:
    """The demo's whole ``dictConfig``; segments are small, so that they rotate."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {
            "jsonl": {
                "class": "jsonl_handler.JsonlHandler",
                "directory": str(directory),
                "prefix": PREFIX,
                "max_file_bytes": MAX_FILE_BYTES,
                "flush_interval": 1.0,
            }
        },
        "root": {"level": "INFO", "handlers": ["jsonl"]},
    }


def work(paths: Sequence[str], directory: Path, threads: int, stop: Event, reports: Connection) -> None:
    """Parse *paths* until *stop* is set; sends Progress, and one Outcome at the end."""
    # Ctrl-C reaches every process of the terminal; the parent hears it and sets *stop*.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore", SyntaxWarning)
    warnings.simplefilter("ignore", DeprecationWarning)
    logging.config.dictConfig(logging_config(directory))

    def visit(path: str) -> bool | None:
        return None if stop.is_set() else parse(path)

    parsed: list[bool] = []
    # A parent that is gone reads no reports; the log is complete all the same.
    with contextlib.suppress(BrokenPipeError):
        with ThreadPoolExecutor(threads) as pool:
            for number, good in enumerate(pool.map(visit, paths), start=1):
                if good is not None:
                    parsed.append(good)
                if number % _PROGRESS_EVERY == 0:
                    reports.send(Progress(_PROGRESS_EVERY))
        reports.send(Outcome(len(parsed), parsed.count(False), _final_stats()))


def parse(path: str) -> bool:
    """Parse one file and log one event; False when it is no valid Python."""
    logger = logging.getLogger(_LOGGER)
    started = time.perf_counter()
    source = Path(path).read_bytes()
    event: dict[str, object] = {"path": path, "bytes": len(source)}
    try:
        # CPython up to 3.11.7 confuses the depths of two trees that are made at a time (its issue 106905).
        with _parsing:
            tree = ast.parse(source, path)
    except (SyntaxError, ValueError, RecursionError):
        event["seconds"] = round(time.perf_counter() - started, 6)
        logger.exception("not parsed", extra=event)
        return False
    event["nodes"] = sum(1 for _ in ast.walk(tree))
    event["seconds"] = round(time.perf_counter() - started, 6)
    logger.info("parsed", extra=event)
    return True


def _final_stats() -> Stats:
    handler = next(handler for handler in logging.getLogger().handlers if isinstance(handler, JsonlHandler))
    handler.flush()
    return handler.stats()
