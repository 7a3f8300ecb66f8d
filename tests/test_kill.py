"""Whatever ends the process, what was accepted is in a file afterwards, once (P3)."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import pytest
from conftest import rounds
from killing import assert_all_there, recover_while_killed, run_and_end

pytestmark = pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="there is no tmpfs for a journal here")

SETTINGS = [
    pytest.param({}, id="default"),
    pytest.param({"max_file_bytes": 4096, "flush_interval": 0.001, "buffer_bytes": 65536}, id="rotation"),
    pytest.param({"disk": 40, "overflow": "block", "flush_interval": 0.001, "max_file_bytes": 20_000}, id="full-disk"),
    pytest.param({"session_id": "same", "max_file_bytes": 100_000}, id="resumed"),
]


@pytest.mark.slow
@pytest.mark.parametrize("options", SETTINGS)
def test_kill_9(tmp_path: Path, options: dict[str, object]) -> None:
    """Killed at a random moment, and recovered by programs that are killed too, no record is lost or there twice."""
    logs = tmp_path / "logs"
    reported: set[bytes] = set()
    for number in range(rounds(2, 50)):
        choice = random.Random(number)
        reported |= run_and_end(logs, choice, signal.SIGKILL, **options)
        if "session_id" not in options:
            recover_while_killed(logs, choice, kills=choice.randint(0, 2))
            assert_all_there(logs, reported)
    recover_while_killed(logs, random.Random(), kills=0)
    assert_all_there(logs, reported)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "ending"),
    [(signal.SIGTERM, None), (None, "_exit"), (None, "segfault"), (None, "return")],
    ids=["SIGTERM", "_exit", "segfault", "return"],
)
def test_other_ends(tmp_path: Path, number: int | None, ending: str | None) -> None:
    """So it is with SIGTERM, `os._exit`, a crash of the interpreter, and a `multiprocessing` child that returns."""
    logs = tmp_path / "logs"
    reported: set[bytes] = set()
    for seed in range(rounds(1, 20)):
        reported |= run_and_end(logs, random.Random(seed), number, ending=ending)
    assert reported
    recover_while_killed(logs, random.Random(), kills=2)
    assert_all_there(logs, reported)
