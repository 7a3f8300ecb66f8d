"""Programs that run on their own, and fork: what hangs there is ended, and never keeps a pipe open."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from conftest import PATIENCE

import jsonl_handler

PRELUDE = """
    import contextlib, logging, os, signal, sys, threading, time, warnings
    warnings.simplefilter("ignore", DeprecationWarning)
    from jsonl_handler import JsonlHandler, RotatingSessionJsonlHandler
    directory = {directory!r}
    log = logging.getLogger("app")
    log.setLevel(logging.INFO)

    def in_child(act):
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            try:
                act()
                logging.shutdown()
            except BaseException as error:
                print(repr(error), file=sys.stderr, flush=True)
            finally:
                os._exit(0)
        return child
"""


def run(script: str, directory: Path, *, limit: float = 60.0) -> None:
    """Run a program that forks: it must end well, and say nothing."""
    assert run_and_read(script, directory, limit=limit) == ""


def run_and_read(script: str, directory: Path, *, limit: float = 60.0) -> str:
    """Run a program that forks, which must end well; returns what it and its children said."""
    program = directory.parent / "program.py"
    # A file: `spawn` and `forkserver` import it anew.
    program.write_text(textwrap.dedent(PRELUDE).format(directory=str(directory)) + textwrap.dedent(script))
    # The package that is tested, also where it is not installed.
    env = os.environ | {"PYTHONPATH": str(Path(jsonl_handler.__file__).parent.parent)}
    with open(directory.parent / "output", "w+") as output:
        command = [sys.executable, program]
        done = subprocess.run(command, stdout=output, stderr=output, env=env, timeout=limit, check=False)
        output.seek(0)
        said = output.read()
        assert done.returncode == 0, said
        return said


@contextlib.contextmanager
def ended_politely(server: subprocess.Popen[bytes], timeout: float) -> Iterator[None]:
    """A server with a process group of its own gets SIGTERM at the end; what then hangs is killed."""
    try:
        yield
        server.send_signal(signal.SIGTERM)
        server.wait(timeout)
    finally:
        # What a hung master leaves is in its process group, and in no other.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait(timeout)


@contextlib.contextmanager
def served(directory: Path, *command: str, **popen: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A server of `python -m ...`, which a polite SIGTERM ends; what it says is in ``said.txt``."""
    homes = dict.fromkeys(("HOME", "XDG_RUNTIME_DIR"), str(directory))
    env = os.environ | homes | {"PYTHONPATH": f"{Path(jsonl_handler.__file__).parent.parent}{os.pathsep}{directory}"}
    with (directory / "said.txt").open("wb") as said:
        server = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=directory,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
            **popen,
        )
    with ended_politely(server, PATIENCE):
        yield server
