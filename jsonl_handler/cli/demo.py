"""The demo: what the processes log is shown and accounted for, event by event."""

from __future__ import annotations

import json
import sysconfig
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from jsonl_handler.cli import crew, tally, worker

_MISCOUNT = 1
_INTERRUPTED = 130
_SAMPLE_WIDTH = 300


def run_demo(directory: Path, *, processes: int, threads: int, files: int | None, seconds: float) -> int:
    """Run the demo in *directory* and print what came of it; returns the exit code."""
    console = Console()
    paths = standard_library()[:files]
    shares = [paths[number::processes] for number in range(processes)]
    before = time.monotonic()
    with crew.started(shares, directory, threads=threads, seconds=seconds) as team, _progress(console) as bar:
        console.print(f"{processes} processes with {threads} threads each parse {len(paths)} Python files")
        task = bar.add_task("parsed", total=len(paths))
        outcomes = team.outcomes(lambda files: bar.advance(task, files))
        bar.update(task, completed=sum(outcome.events for outcome in outcomes))
    elapsed = time.monotonic() - before

    tallies = tally.read_files(directory, worker.PREFIX, {outcome.stats.session_id for outcome in outcomes})
    events = tally.events_in(tallies)
    console.print(_file_table(tallies))
    for sample in _samples(events):
        text = json.dumps(sample)
        _print(console, text if len(text) <= _SAMPLE_WIDTH else text[:_SAMPLE_WIDTH] + " ...")
    complete = account(console, outcomes, events, elapsed) and len(outcomes) == processes
    if len(outcomes) < processes:
        console.print(f"{processes - len(outcomes)} processes ended without a report", style="red")
    _print(console, f"The files are in {directory}")
    if not complete:
        return _MISCOUNT
    return _INTERRUPTED if team.interrupted else 0


def standard_library() -> list[str]:
    """The Python files of the standard library, small ones first: the slow ones may miss the deadline."""
    root = Path(sysconfig.get_path("stdlib"))
    # What is installed beside the standard library differs from machine to machine.
    found = (path for path in root.rglob("*.py") if not {"site-packages", "dist-packages"} & set(path.parts))
    return [str(path) for path in sorted(found, key=lambda path: path.stat().st_size)]


def account(
    console: Console, outcomes: Sequence[worker.Outcome], events: Sequence[dict[str, Any]], elapsed: float
) -> bool:
    """Print the counts side by side; True when every event logged stands in the files exactly once."""
    logged = sum(outcome.events for outcome in outcomes)
    written = sum(outcome.stats.written for outcome in outcomes)
    dropped = sum(outcome.stats.dropped for outcome in outcomes)
    errors = sum(outcome.syntax_errors for outcome in outcomes)
    repeated = tally.repeated(events)
    complete = logged == written == len(events) and not repeated
    console.print(f"{logged:,} events logged in {elapsed:.1f} s, {errors} of them exceptions")
    console.print(f"{written:,} written, {dropped} dropped, says stats()")
    console.print(f"{len(events):,} lines found, {repeated} of them twice")
    verdict = "every event is accounted for" if complete else "the counts differ"
    console.print(verdict, style="green" if complete else "red")
    return complete


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )


def _file_table(tallies: Iterable[tally.FileTally]) -> Table:
    table = Table("file", "session")
    table.add_column("bytes", justify="right")
    table.add_column("lines", justify="right")
    for one in tallies:
        table.add_row(one.path.name, one.lines[0]["session"], f"{one.size:,}", f"{len(one.lines):,}")
    return table


def _samples(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Two plain events and one with an exception, where there are such."""
    plain = [event for event in events if "exception" not in event]
    return plain[:2] + [event for event in events if "exception" in event][:1]


def _print(console: Console, text: str) -> None:
    # Plain, so that a long line stays one line and brackets stay brackets.
    console.print(text, soft_wrap=True, markup=False, highlight=False)
