"""Forks while other threads log without pause: nothing hangs, nothing is lost, no line is written twice."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from pathlib import Path

import pytest
from children import run
from conftest import rounds, segments_of

FORKS = rounds(20, 200)

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here"),
    pytest.mark.slow,
    pytest.mark.timeout(600),
]


@pytest.mark.parametrize(
    "settings",
    ["buffer_limit=100_000, buffer_bytes=64 * 1024 * 1024", "overflow='block'"],
    ids=["a large buffer", "a caller that waits"],
)
def test_a_storm_of_forks_while_eight_threads_log(healthy: Path, settings: str) -> None:
    """No fork hangs, every line of the parent is there once, and each child's are in a file of its own."""
    script = f"""
        handler = JsonlHandler(directory, max_total_bytes=None, {settings})
        log.addHandler(handler)
        stop = threading.Event()
        counts = [0] * 8
        def work(index):
            while not stop.is_set():
                log.info("parent", extra={{"by": index, "number": counts[index]}})
                counts[index] += 1
        threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
        for thread in threads:
            thread.start()
        def act():
            for number in range(10):
                log.info("child", extra={{"by": os.getpid(), "number": number}})
        for _ in range({FORKS}):
            child = in_child(act)
            # A parent that hangs is ended too.
            signal.alarm(60)
            assert os.waitpid(child, 0)[1] == 0
        signal.alarm(0)
        stop.set()
        for thread in threads:
            thread.join()
        assert handler.stats().dropped == 0
        log.info("counts", extra={{"counts": counts}})
    """
    run(script, healthy, limit=500.0)
    numbers: defaultdict[tuple[str, int], list[int]] = defaultdict(list)
    counts: list[int] = []
    writers = defaultdict(set)
    for path in segments_of(healthy):
        # Half a million of them: not read as strictly as elsewhere.
        for line in map(json.loads, path.read_bytes().splitlines()):
            if line["message"] == "counts":
                counts = line["counts"]
            else:
                numbers[line["message"], line["by"]].append(line["number"])
                writers[line["session"]].add(line["message"] == "parent" or line["by"])
    assert [sorted(numbers["parent", index]) == list(range(count)) for index, count in enumerate(counts)] == [True] * 8
    children = [found for (message, _), found in numbers.items() if message == "child"]
    assert children == [list(range(10))] * FORKS
    assert len(writers) == FORKS + 1
    assert all(len(who) == 1 for who in writers.values())
