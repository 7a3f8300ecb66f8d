"""What happens in one fresh process: a contender is set up, one thing is measured, the numbers go to the parent."""

from __future__ import annotations

import json
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.calls import LOOPS, Event, Place, Rig
from benchmarks.contenders import CONTENDERS

Numbers = dict[str, Any]
PERCENTILES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
_MOST_CALLS_UNTIL_FULL = 200_000


def main() -> None:
    """Do the job that the first argument describes."""
    # The contenders may print what they like.
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    job = json.loads(sys.argv[1])
    place = Place(Path(job["directory"]), **job["place"])
    event = Event.of(**job["event"])
    measure = MEASURES[job["measure"]]
    if measure is stalled:
        numbers = stalled(CONTENDERS[job["contender"]].build, place, event, job)
    else:
        rig = CONTENDERS[job["contender"]].build(place)
        print("ready", file=channel)
        sys.stdin.readline()
        numbers = measure(rig, event, job)
        numbers["counts"] = rig.counts() if rig.counts else None
    print(json.dumps(numbers), file=channel)


def cost(rig: Rig, event: Event, job: dict[str, Any]) -> Numbers:
    """The caller's time, and the CPU time of all threads until the last line is on disk."""
    loop, info, n = LOOPS[rig.style], rig.info, job["n"]
    cpu, own_cpu, begun = time.process_time(), time.thread_time(), time.perf_counter()
    loop(info, event, n)
    called, own_cpu = time.perf_counter(), time.thread_time() - own_cpu
    rig.finish()
    return {
        "caller_s": called - begun,
        "caller_cpu_s": own_cpu,
        "cpu_s": time.process_time() - cpu,
        "total_s": time.perf_counter() - begun,
    }


def latency(rig: Rig, event: Event, job: dict[str, Any]) -> Numbers:
    """How long single calls take, at a pace that leaves time between them."""
    LOOPS[rig.style](rig.info, event, job["warm_up"])
    numbers = _paced(rig, event, job)
    rig.finish()
    return numbers


def stalled(build: Callable[[Place], Rig], place: Place, event: Event, job: dict[str, Any]) -> Numbers:
    """The same while writes to the files don't return and the buffer is full."""
    with _held_up() as hold:
        rig = build(place)
        LOOPS[rig.style](rig.info, event, job["warm_up"])
        hold.clear()
        if rig.counts is not None:
            # From the first drop on `overflow_timeout`, which is waited for once, has passed.
            _call_until(lambda: rig.counts is not None and rig.counts()["dropped"] > 0, rig, event)
        numbers = _paced(rig, event, job)
    rig.finish()
    return {**numbers, "counts": rig.counts() if rig.counts else None}


def memory(rig: Rig, event: Event, job: dict[str, Any]) -> Numbers:
    """How the resident memory grows while records are logged."""
    loop, info = LOOPS[rig.style], rig.info
    loop(info, event, job["warm_up"])
    before = _resident()
    loop(info, event, job["n"])
    after = _resident()
    rig.finish()
    return {"before_bytes": before, "grown_bytes": after - before}


def threads(rig: Rig, event: Event, job: dict[str, Any]) -> Numbers:
    """Some threads that log at once, each its part of the records."""
    loop, info, count = LOOPS[rig.style], rig.info, job["threads"]
    gate = threading.Barrier(count + 1)

    def call() -> None:
        gate.wait()
        loop(info, event, job["n"] // count)

    callers = [threading.Thread(target=call) for _ in range(count)]
    for caller in callers:
        caller.start()
    cpu = time.process_time()
    gate.wait()
    begun = time.perf_counter()
    for caller in callers:
        caller.join()
    called = time.perf_counter()
    rig.finish()
    return {"caller_s": called - begun, "cpu_s": time.process_time() - cpu}


MEASURES: dict[str, Callable[..., Numbers]] = {
    measure.__name__: measure for measure in (cost, latency, stalled, memory, threads)
}


def _paced(rig: Rig, event: Event, job: dict[str, Any]) -> Numbers:
    loop, info, pause = LOOPS[rig.style], rig.info, 1 / job["rate"]
    clock, took = time.perf_counter_ns, []
    due = time.perf_counter()
    for _ in range(job["n"]):
        due += pause
        # To spin instead would keep the GIL from the writer.
        time.sleep(max(due - time.perf_counter(), 0.0))
        begun = clock()
        loop(info, event, 1)
        took.append(clock() - begun)
    took.sort()
    ranks = {name: took[max(math.ceil(part * len(took)) - 1, 0)] / 1000 for name, part in PERCENTILES.items()}
    return {f"{name}_us": value for name, value in ranks.items()}


def _call_until(done: Callable[[], bool], rig: Rig, event: Event) -> None:
    for _ in range(_MOST_CALLS_UNTIL_FULL):
        if done():
            return
        LOOPS[rig.style](rig.info, event, 1)
    raise RuntimeError("the buffer did not fill")


@contextmanager
def _held_up() -> Iterator[threading.Event]:
    """While the event is clear, each write to a file of lines waits without the GIL, as on a disk that hangs."""
    write, flows = os.write, threading.Event()
    flows.set()

    def wait(descriptor: int, content: Any) -> int:
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith(".jsonl"):
            flows.wait()
        return write(descriptor, content)

    os.write = wait
    try:
        yield flows
    finally:
        os.write = write
        flows.set()


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
