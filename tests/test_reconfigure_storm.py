"""Settings change while everything else goes on, and whoever ends the process then: each record is there once."""

from __future__ import annotations

import gzip
import logging
import os
import random
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import (
    PATIENCE,
    Disk,
    journals_mapped,
    journals_of,
    messages_of,
    parse_strictly,
    record,
    rounds,
    tmpfs,
    until,
)
from crashed import crash
from killing import assert_all_there, recover_while_killed, run_and_end

import jsonl_handler.pair
from jsonl_handler import JsonlHandler, recover

Make = Callable[..., JsonlHandler]

THREADS = 8

# What drops nothing on a healthy disk, and deletes nothing.
HARMLESS: dict[str, list[Any]] = {
    "flush_interval": [0, 0.001, 1.0, 600.0],
    "flush_batch_size": [1, 10, 1000],
    "flush_level": ["INFO", "ERROR", None],
    "buffer_limit": [10, 100, 1000],
    "buffer_bytes": [65536, 100_001, 1 << 20, 4 << 20],
    "overflow_timeout": [0.1, 60.0],
    "max_record_bytes": [2000, 100_000],
    "max_file_bytes": [4096, 50_000, 5 << 20],
    "max_age_days": [None, 1000, -1],
    "max_total_bytes": [None, 1 << 40],
    "max_files": [None, 1 << 40],
    "min_free_bytes": [0, 1],
    "compress": [None, "gzip"],
    "fsync": ["never", "rotate"],
    "crash_safe": [True, False],
    "context": [None, {"version": 1}, {"version": 2}],
    "file_mode": [0o600, 0o640],
    "close_timeout": [PATIENCE, 2 * PATIENCE],
}


def all_lines(logs: Path) -> list[dict[str, Any]]:
    lines = []
    for path in logs.glob("telemetry-*"):
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        assert content == b"" or content.endswith(b"\n")
        lines += [parse_strictly(line) for line in content.splitlines()]
    return lines


def numbers(handler: JsonlHandler, thread: int, stop: threading.Event, counts: list[int]) -> None:
    while not stop.is_set():
        handler.handle(record("number", level=logging.INFO, thread_=thread, number=counts[thread]))
        counts[thread] += 1


def storm(handler: JsonlHandler, count: int) -> list[int]:
    """Change settings so often while eight threads log; how many records each has logged."""
    stop = threading.Event()
    counts = [0] * THREADS
    threads = [threading.Thread(target=numbers, args=(handler, thread, stop, counts)) for thread in range(THREADS)]
    for thread in threads:
        thread.start()
    choice = random.Random(count)
    try:
        for _ in range(count):
            keys = choice.sample(sorted(HARMLESS), choice.choice([1, 1, 2, 5]))
            handler.reconfigure(**{key: choice.choice(HARMLESS[key]) for key in keys})
            stop.wait(choice.choice([0, 0, 0.001, 0.01]))
    finally:
        stop.set()
        for thread in threads:
            thread.join(PATIENCE)
    return counts


@pytest.mark.untraced
@pytest.mark.usefixtures("uncollected")
def test_eight_threads_log_while_settings_change(make: Make, logs: Path) -> None:
    """Each record is there once, in one session, and no thread, descriptor or memory is left over."""
    logging.getLogger("jsonl_handler").addHandler(logging.NullHandler())
    handler = make(overflow="block", close_timeout=PATIENCE)
    handler.handle(record("number", thread_=-1, number=0))
    assert handler.flush(PATIENCE)
    session, threads = handler.session_id, threading.active_count()
    descriptors = len(os.listdir("/proc/self/fd"))

    counts = storm(handler, rounds(100, 1000))

    handler.replace_settings({"compress": None})
    assert handler.flush(PATIENCE)
    assert handler.stats().dropped == 0
    assert len(journals_of(logs)) <= 1
    # A sweep that goes on has a few more open.
    until(lambda: len(os.listdir("/proc/self/fd")) <= descriptors)
    assert threading.active_count() <= threads
    until(lambda: journals_mapped() <= 1)
    handler.close()
    assert journals_of(logs) == []
    assert journals_mapped() == 0
    lines = all_lines(logs)
    found = Counter((line["thread_"], line["number"]) for line in lines if "thread_" in line)
    logged = [(thread, number) for thread in range(THREADS) for number in range(counts[thread])]
    assert found == Counter([(-1, 0), *logged])
    assert {line["session"] for line in lines} == {session}


CHANGES = [
    "handler.reconfigure(buffer_bytes=65536)",
    "handler.reconfigure(buffer_bytes=8 << 20)",
    "handler.reconfigure(crash_safe=False)",
    "handler.reconfigure(crash_safe=False); handler.reconfigure(crash_safe=True, buffer_bytes=4 << 20)",
    "handler.reconfigure(max_file_bytes=4096, file_mode=0o640)",
    "handler.reconfigure(buffer_limit=10, overflow='drop_newest')",
]


@tmpfs
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("moment", ["", "time.sleep(0.002)", "time.sleep(0.02)"])
def test_killed_right_after_a_change(tmp_path: Path, change: str, moment: str) -> None:
    """What waited in the buffer is recovered, by the new settings; nothing of it was in danger meanwhile."""
    crash(tmp_path, 90, after=f"{change}\n{moment}", max_file_bytes=100_000)
    recover(tmp_path)
    assert messages_of(tmp_path) == [str(number) for number in range(90)]
    if "max_file_bytes" in change:
        sizes = [path.stat().st_size for path in tmp_path.glob("*.jsonl")]
        assert len(sizes) > 2
        assert max(sizes) <= 4096
        assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("*.jsonl")} <= {0o600, 0o640}


FAILING = """
import errno
write = os.write
def refuse(descriptor, content):
    if os.readlink(f"/proc/self/fd/{descriptor}").endswith(".jsonl"):
        if handler.stats().write_errors == 0:
            handler._files.outage.errors += 1
            return write(descriptor, content[:{half}])
        raise OSError(errno.ENOSPC, "full")
    return write(descriptor, content)
big = "x" * 900
for number in range({before}):
    log.info("big")
settle()
os.write = refuse
"""


@tmpfs
def test_killed_in_the_middle_of_a_write_to_a_segment_that_is_too_large_now(tmp_path: Path) -> None:
    """Half a line was written far beyond the new cap: its rest goes there, and what follows to segments within it."""
    before = FAILING.replace("{half}", "1000").replace("{before}", "1000")
    after = "handler.reconfigure(max_file_bytes=4096)\ntime.sleep(0.01)\n"
    write = "log.critical('now')\nwhile handler.stats().write_errors < 2: time.sleep(0.001)\n"
    crash(
        tmp_path, 60, before=before, after=write + after, max_file_bytes=1 << 20, buffer_bytes=65536, overflow="block"
    )
    recover(tmp_path)
    expected = Counter([*["big"] * 1000, *map(str, range(60)), "now"])
    assert Counter(messages_of(tmp_path)) == expected
    sizes = sorted(path.stat().st_size for path in tmp_path.glob("*.jsonl"))
    assert sizes[-1] > 100_000
    assert len(sizes) > 2
    assert sizes[-2] <= 4096


@tmpfs
@pytest.mark.slow
def test_killed_at_any_moment_of_a_storm(tmp_path: Path) -> None:
    """A process that changes its memory and its caps all the time loses nothing when it is killed."""
    logs = tmp_path / "logs"
    changes = [
        {"buffer_bytes": 65536},
        {"buffer_bytes": 1 << 20},
        {"max_file_bytes": 4096},
        {"max_file_bytes": 100_000, "flush_interval": 0.001},
        {"flush_interval": 10.0, "flush_batch_size": 50},
        {"buffer_limit": 50, "file_mode": 0o640},
        {"buffer_limit": 500, "context": {"version": 1}},
    ]
    for number in range(rounds(2, 50)):
        choice = random.Random(number)
        reported = run_and_end(logs, choice, 9, changes=changes)
        recover_while_killed(logs, choice, kills=choice.randint(0, 2))
        assert_all_there(logs, reported)


@pytest.mark.untraced
def test_a_disk_that_fails_now_and_then(make: Make, logs: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """So it is while the disk refuses every few writes, in the middle of lines."""
    monkeypatch.setattr(jsonl_handler.pair, "_FIRST_PAUSE", 0.001)
    monkeypatch.setattr(jsonl_handler.pair, "_LONGEST_PAUSE", 0.002)
    logging.getLogger("jsonl_handler").addHandler(logging.NullHandler())
    handler = make(overflow="block", close_timeout=PATIENCE)
    stop = threading.Event()
    choice = random.Random(1)

    def trouble() -> None:
        while not stop.wait(0.001):
            disk.shortest = choice.randint(1, 300)
            disk.fill()
            stop.wait(0.003)
            disk.mend()
        disk.shortest = None

    troubler = threading.Thread(target=trouble)
    troubler.start()
    try:
        counts = storm(handler, rounds(60, 600))
    finally:
        stop.set()
        troubler.join(PATIENCE)
        disk.mend()
    handler.close()
    found = Counter((line["thread_"], line["number"]) for line in all_lines(logs) if "thread_" in line)
    assert found == Counter((thread, number) for thread in range(THREADS) for number in range(counts[thread]))
