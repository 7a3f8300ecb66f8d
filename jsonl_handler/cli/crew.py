"""The processes of the demo: started, listened to, ended.

What they report is handed on as it comes; nothing is printed here.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Event
from pathlib import Path

from jsonl_handler.cli import worker

# When the time is up a process only finishes the files it is at, and writes what waits.
_GRACE = 30.0


@dataclass(slots=True)
class Crew:
    """Processes that are at work; when their time is up, or at Ctrl-C, they begin no other file."""

    stop: Event
    deadline: float
    reports: list[Connection] = field(default_factory=list)
    interrupted: bool = False

    def interrupt(self, *_signal: object) -> None:
        """Ask the processes to end; fit to be a signal handler."""
        self.interrupted = True
        self.stop.set()

    def outcomes(self, advance: Callable[[int], object]) -> list[worker.Outcome]:
        """Wait for the end of all; *advance* is told how many files are done since the last time.

        A process that dies, or that is late by half a minute, has no outcome.
        """
        outcomes = []
        waiting = set(self.reports)
        for deadline in (self.deadline, self.deadline + _GRACE):
            for report in _received(waiting, deadline):
                if isinstance(report, worker.Progress):
                    advance(report.files)
                else:
                    outcomes.append(report)
            self.stop.set()
        return outcomes


def _received(waiting: set[Connection], deadline: float) -> Iterator[worker.Progress | worker.Outcome]:
    """What is reported until *deadline*; a connection that has ended is taken out of *waiting*."""
    while waiting and (ready := wait(waiting, max(0.0, deadline - time.monotonic()))):
        for reports in waiting.intersection(ready):
            try:
                yield reports.recv()
            except EOFError:
                waiting.discard(reports)


@contextmanager
def started(shares: Sequence[Sequence[str]], directory: Path, *, threads: int, seconds: float) -> Iterator[Crew]:
    """Start a process for each share of the files; none of them outlives the block."""
    context = multiprocessing.get_context("spawn")
    crew = Crew(context.Event(), time.monotonic() + seconds)
    children: list[SpawnProcess] = []
    before = signal.signal(signal.SIGINT, crew.interrupt)
    try:
        with _interrupts_held_back():
            for share in shares:
                receiving, sending = context.Pipe(duplex=False)
                job = (share, directory, threads, crew.stop, sending)
                child = context.Process(target=worker.work, args=job)
                child.start()
                # Only the child holds the sending end now: when it is gone, reading ends.
                sending.close()
                children.append(child)
                crew.reports.append(receiving)
        yield crew
    finally:
        for child in children:
            _end(child)
        signal.signal(signal.SIGINT, before)


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Children inherit it: none answers Ctrl-C with a traceback before it is ready."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end(child: SpawnProcess) -> None:
    child.join(_GRACE)
    if child.is_alive():
        child.kill()
        child.join()
