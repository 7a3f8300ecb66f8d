"""Whatever ends the process, what was accepted is in a file afterwards, once (P3)."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PATIENCE, messages_of, rounds, segments_of
from killing import assert_all_there, recover_while_killed, run_and_end

pytestmark = pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="there is no tmpfs for a journal here")

LATE = """
import logging, os, signal, sys
from jsonl_handler import JsonlHandler
handler = JsonlHandler(sys.argv[1], flush_interval=3600)
log = logging.getLogger("app")
log.addHandler(handler)
log.warning("before")
handler.close()
for number in range(20):
    log.warning("late %d", number)
assert handler.stats().crash_safe
os.kill(os.getpid(), signal.SIGKILL)
"""

SETTINGS = [
    pytest.param({}, id="plain"),
    pytest.param({"overflow": "drop_oldest"}, id="dropping"),
    pytest.param({"max_file_bytes": 4096, "flush_interval": 0.001, "buffer_bytes": 65536}, id="rotation"),
    pytest.param({"disk": 40, "flush_interval": 0.001, "max_file_bytes": 20_000}, id="full-disk"),
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


def test_a_closed_handler_that_is_logged_to_is_safe_as_well(tmp_path: Path) -> None:
    """After `close`, and more records, and `kill -9`, all of them are there."""
    done = subprocess.run([sys.executable, "-c", LATE, str(tmp_path)], stderr=subprocess.PIPE, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (-signal.SIGKILL, b"")
    recover_while_killed(tmp_path, random.Random(), kills=0)
    assert messages_of(tmp_path) == ["before", *(f"late {number}" for number in range(20))]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("tail") is None, reason="there is no tail here")
def test_a_reader_that_follows_sees_each_line_once(tmp_path: Path) -> None:
    """`tail -F` on a segment, whose writers are killed and recovered: nothing is taken back, or shown twice."""
    logs, seen = tmp_path / "logs", tmp_path / "seen"
    choice = random.Random(7)
    options = {"session_id": "same", "max_file_bytes": 1 << 40, "max_total_bytes": None, "flush_interval": 0.002}
    reported = run_and_end(logs, choice, signal.SIGKILL, **options)
    recover_while_killed(logs, choice, kills=0)
    (segment,) = segments_of(logs)
    with open(seen, "wb") as output, open(tmp_path / "told", "wb") as errors:
        tail = subprocess.Popen(["tail", "-F", "-n", "+1", segment], stdout=output, stderr=errors)
    try:
        for _ in range(rounds(5, 60)):
            reported |= run_and_end(logs, choice, signal.SIGKILL, **options)
            recover_while_killed(logs, choice, kills=choice.randint(0, 2))
        assert_all_there(logs, reported)
        if segments_of(logs) != [segment]:
            pytest.skip("it became midnight")
        for _ in range(int(PATIENCE / 0.05)):
            if seen.stat().st_size >= segment.stat().st_size:
                break
            with contextlib.suppress(subprocess.TimeoutExpired):
                tail.wait(0.05)
    finally:
        tail.kill()
        tail.wait(PATIENCE)
    assert seen.read_bytes() == segment.read_bytes()
    assert (tmp_path / "told").read_text() == ""
