"""Fresh processes: started alone or some at once, with a bound on their time, each in a folder that is removed."""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LONGEST = 300.0
_PROGRAM = "import sys; sys.path.append({root!r}); from benchmarks.child import main; main()"


class FailedError(Exception):
    """A process did not do its job; says why in its last line."""


@contextmanager
def folder(files: int = 0) -> Iterator[Path]:
    """A new directory for lines, with so many closed, empty segments of ours in it."""
    with tempfile.TemporaryDirectory(prefix="jsonl-handler-bench-") as made:
        directory = Path(made, "logs")
        directory.mkdir()
        today = datetime.datetime.now(datetime.UTC).date()
        for number in range(files):
            (directory / f"telemetry-{today}-{number:08x}.jsonl").touch()
        yield directory


def run_together(job: dict[str, Any], count: int = 1) -> list[dict[str, Any]]:
    """The numbers of *count* processes that do the same job, and begin when all of them are ready."""
    with ExitStack() as stack:
        children = [_start(job, stack) for _ in range(count)]
        # The stalled disk needs no start at a time.
        if job["measure"] != "stalled":
            for child in children:
                _line(child, "ready")
            for child in children:
                assert child.stdin is not None
                child.stdin.write("\n")
                child.stdin.flush()
        answers = [json.loads(_line(child, "{")) for child in children]
        for child in children:
            if child.wait(LONGEST) != 0:
                raise FailedError(_last_words(child))
        return answers


def _start(job: dict[str, Any], stack: ExitStack) -> subprocess.Popen[str]:
    errors = stack.enter_context(tempfile.TemporaryFile("w+"))  # noqa: SIM115
    child = stack.enter_context(
        subprocess.Popen(
            # At the end of the path: an installed package is what is measured.
            [sys.executable, "-c", _PROGRAM.format(root=str(ROOT)), json.dumps(job)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=ROOT,
        )
    )
    child.errors = errors  # type: ignore[attr-defined]
    watch = threading.Timer(LONGEST, child.kill)
    watch.start()
    stack.callback(watch.cancel)
    stack.callback(child.kill)
    return child


def _line(child: subprocess.Popen[str], beginning: str) -> str:
    assert child.stdout is not None
    line = child.stdout.readline()
    if not line.startswith(beginning):
        child.kill()
        child.wait(LONGEST)
        raise FailedError(_last_words(child))
    return line


def _last_words(child: subprocess.Popen[str]) -> str:
    errors = child.errors  # type: ignore[attr-defined]
    errors.seek(0)
    said = errors.read().strip().splitlines()
    return said[-1] if said else f"ended with {child.returncode} and no word"
