"""The command `check`: a configuration's report, in words."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from jsonl_handler.configuration import PlannedHandler, PlannedLogger
from jsonl_handler.configuration import check as look_through

_WRONG = 1


def run_check(file: Path, *, table: str | None) -> int:
    """Print what is wrong with *file*, a line each, or what would run; returns the exit code."""
    # As for the program itself: modules beside it may be named.
    sys.path.insert(0, "")
    report = look_through(file, table=table)
    for problem in report.problems:
        typer.echo(problem)
    if report.problems:
        return _WRONG
    for handler in report.handlers:
        _tell_handler(handler)
    for logger in report.loggers:
        _tell_logger(logger)
    return 0


def _tell_handler(handler: PlannedHandler) -> None:
    typer.echo(f"handler {handler.name}: {handler.kind}, level {handler.level}")
    if handler.files is not None:
        typer.echo(f"  files: {handler.files}")
        for key, value in handler.settings.items():
            typer.echo(f"  {key}: {value}")


def _tell_logger(logger: PlannedLogger) -> None:
    level = f"level {logger.level}" if logger.level is not None else "the level of its parent"
    typer.echo(f"logger {logger.name}: {level}, {', '.join(logger.handlers) or 'no handler of its own'}")
