"""The command and its demo: every event is accounted for, or the exit code says so."""

from __future__ import annotations

import importlib.metadata
import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("typer")
pytest.importorskip("rich")

from rich.console import Console

from jsonl_handler import Stats
from jsonl_handler.cli.demo import account
from jsonl_handler.cli.worker import Outcome

TIMEOUT = 100
COMMAND = [sys.executable, "-m", "jsonl_handler"]
PLAIN = {"NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "120"}


def run(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=cwd,
        env=os.environ | PLAIN | environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )


@pytest.mark.slow
def test_the_demo_accounts_for_every_event(tmp_path: Path) -> None:
    """Two processes log an event a file, their segments rotate, and each event stands there exactly once."""
    folder = tmp_path / "demo"
    limits = ["--files", "400", "--seconds", str(TIMEOUT)]

    done = run("demo", "--directory", str(folder), "--processes", "2", *limits, cwd=tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "every event is accounted for" in done.stdout
    assert str(folder) in done.stdout
    logged = int(re.search(r"([\d,]+) events logged", done.stdout)[1].replace(",", ""))
    lines = [json.loads(line) for path in folder.glob("demo-*.jsonl") for line in path.read_bytes().splitlines()]
    events = [line for line in lines if "seq" in line]
    assert len(events) == len({(event["session"], event["seq"]) for event in events}) == logged == 400
    assert {"path", "bytes", "seconds"} <= set.intersection(*map(set, events))
    assert len({event["session"] for event in events}) == 2
    assert any(path.name.endswith(".1.jsonl") for path in folder.iterdir())


def test_the_demo_leaves_its_files_in_a_new_folder_that_it_names(tmp_path: Path) -> None:
    """Without a directory the files are in a temporary folder, and the last line says which."""
    arguments = ["demo", "--processes", "1", "--threads", "2", "--files", "20", "--seconds", str(TIMEOUT)]

    done = run(*arguments, cwd=tmp_path, TMPDIR=str(tmp_path))

    assert done.returncode == 0, done.stdout + done.stderr
    folder = Path(done.stdout.splitlines()[-1].removeprefix("The files are in "))
    assert folder.parent == tmp_path
    assert list(folder.glob("demo-*.jsonl"))


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_ends_the_demo_politely(tmp_path: Path) -> None:
    """After Ctrl-C what was logged is still accounted for, and no traceback is shown."""
    demo = subprocess.Popen(
        [*COMMAND, "demo", "--directory", str(tmp_path), "--processes", "2", "--seconds", "60"],
        cwd=tmp_path,
        env=os.environ | PLAIN | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    with demo:
        # It says so once its processes are started; from then on it answers Ctrl-C itself.
        first = next(line for line in demo.stdout if "parse" in line)
        os.killpg(demo.pid, signal.SIGINT)
        rest, _ = demo.communicate(timeout=TIMEOUT)

    assert first
    assert "Traceback" not in rest
    assert "every event is accounted for" in rest
    assert demo.returncode == 130


def test_without_the_extra_the_command_names_the_remedy(tmp_path: Path) -> None:
    """Without typer the command says in one line what to install, and exits with 2."""
    (tmp_path / "typer.py").write_text("raise ModuleNotFoundError(name='typer')\n", encoding="utf-8")

    done = run("demo", cwd=tmp_path, PYTHONPATH=os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))

    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "pip install 'jsonl-handler[cli]'" in done.stderr


def test_help_names_every_option(tmp_path: Path) -> None:
    """``demo --help`` names the options of the demo."""
    done = run("demo", "--help", cwd=tmp_path)

    assert done.returncode == 0
    assert all(option in done.stdout for option in ("--directory", "--processes", "--threads", "--files", "--seconds"))


def test_the_version_is_that_of_the_distribution(tmp_path: Path) -> None:
    """``--version`` prints the version that pip installed."""
    try:
        installed = importlib.metadata.version("jsonl-handler")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the package is not installed")

    done = run("--version", cwd=tmp_path)

    assert done.stdout == f"{installed}\n"


def outcome(events: int, *, written: int) -> Outcome:
    stats = Stats(
        session_id="1a2b3c4d",
        path=None,
        accepted=events,
        written=written,
        dropped=events - written,
        pending=0,
        bytes_written=0,
        batches=1,
        rotations=0,
        write_errors=0,
        recovered=0,
        deleted_files=0,
        crash_safe=False,
        last_error=None,
    )
    return Outcome(events=events, syntax_errors=0, stats=stats)


@pytest.mark.parametrize(
    ("written", "numbers", "complete"),
    [
        (3, [0, 1, 2], True),
        (2, [0, 1], False),
        (3, [0, 1], False),
        (3, [0, 1, 1], False),
        (3, [0, 1, 2, 2], False),
    ],
    ids=["all there", "one dropped", "one not in the files", "one twice, one missing", "one twice"],
)
def test_the_demo_notices_every_miscount(written: int, numbers: list[int], complete: bool) -> None:
    """An event that is missing or stands there twice is told, and is no success."""
    events = [{"session": "1a2b3c4d", "seq": number} for number in numbers]
    console = Console(file=io.StringIO())

    assert account(console, [outcome(3, written=written)], events, 1.0) is complete
