"""Interrupts anywhere: an exception or a nested record in the middle of any step leaves buffer and journal right."""

from __future__ import annotations

import json
import mmap
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import lines_of, rounds
from interrupting import at_event, stop_here

from jsonl_handler import RecordBuffer, Settings, recover
from jsonl_handler._journal import Journal
from jsonl_handler._journal_layout import size_of
from jsonl_handler._losses import Loss

pytestmark = [pytest.mark.untraced, pytest.mark.usefixtures("frozen_garbage")]

CREATED = 1_800_000_000.0


def line_of(number: int) -> bytes:
    """A line of some 3,000 bytes: ten of them fill an arena."""
    return json.dumps({"number": number, "fill": "x" * 3000}).encode() + b"\n"


def numbers(content: bytes) -> list[int]:
    """What lines say that must be whole."""
    assert content == b"" or content.endswith(b"\n")
    return [json.loads(line)["number"] for line in content.splitlines()]


class Kept:
    """A buffer over a journal that is no file, so that what a crash would leave can be looked at."""

    def __init__(self, filled: int) -> None:
        settings = Settings(buffer_limit=20, buffer_bytes=65536, overflow_timeout=0.0)
        self.buffer = RecordBuffer(settings)
        self.memory = mmap.mmap(-1, size_of(settings.arena_bytes))
        assert self.buffer.move(Journal.begin(self.memory, settings.arena_bytes, "owner"))
        self.next = 0
        for _ in range(filled):
            self.append()

    def append(self) -> None:
        number, self.next = self.next, self.next + 1
        self.buffer.append(line_of(number), 20, CREATED)

    def waiting(self) -> list[int]:
        arena = self.buffer._arena
        found = numbers(bytes(arena.memory[arena.head : arena.tail]))
        assert len(found) == arena.count
        return found

    def journal_left(self) -> Journal:
        copy = mmap.mmap(-1, len(self.memory))
        copy[:] = self.memory[:]
        journal = Journal.parse(copy)
        assert journal is not None
        return journal

    def left_by_a_crash(self) -> list[int]:
        journal = self.journal_left()
        lines = [bytes(journal.memory[arena.head : arena.tail]) for arena in journal.in_order()]
        return [number for content in lines for number in numbers(content)]

    def check(self) -> None:
        """All that waits would be found after a crash, once, and beside it only what was just dropped or begun."""
        waiting, found = self.waiting(), self.left_by_a_crash()
        assert len(set(found)) == len(found), found
        assert set(waiting) <= set(found), (waiting, found)

    def go_on(self) -> None:
        """Append more, and check after the first few, and once everything has been moved again."""
        for later in range(25):
            self.append()
            if later < 3 or later == 24:
                self.check()


@pytest.mark.parametrize("filled", [0, 9, 10, 14])
def test_ctrl_c_anywhere_in_an_append(filled: int) -> None:
    """Where lines are dropped and moved, too: what waits stays whole and would be found after a crash."""
    for number in range(1000):
        kept = Kept(filled)
        try:
            more = at_event(number, kept.append, stop_here)
        except KeyboardInterrupt:
            more = True
        kept.check()
        kept.go_on()
        if not more:
            return
    raise AssertionError("there is no end of it")


@pytest.mark.parametrize("filled", [0, 9, 10, 14])
def test_a_nested_record_anywhere_in_an_append(filled: int) -> None:
    """A signal handler that logs there: its record is kept too, or counted as dropped."""
    for number in range(1000):
        kept = Kept(filled)
        more = at_event(number, kept.append, kept.append)
        kept.check()
        assert not kept.buffer.aside
        written, dropped, pending = kept.buffer.counts()
        assert (written, dropped + pending) == (0, kept.next)
        kept.go_on()
        if not more:
            return
    raise AssertionError("there is no end of it")


# What a crash would show of them is the cap.
OTHER = Settings(buffer_limit=15, buffer_bytes=65536, overflow_timeout=0.0, max_file_bytes=5000, flush_level=None)


def goes_by_the_other(kept: Kept) -> bool:
    """True when a crash would be recovered by the other settings."""
    kept.buffer.settle_loss(Loss("nothing", 0.0, 0.0))
    return kept.journal_left().promise.cap == 5000


@pytest.mark.parametrize("filled", [9, 14])
def test_a_change_of_settings_anywhere_in_an_append(filled: int) -> None:
    """A signal handler that reconfigures there: it counts at the next call, and drops no more than the policy does."""
    plain = Kept(filled)
    plain.append()
    for number in range(1000):
        kept = Kept(filled)
        more = at_event(number, kept.append, lambda kept=kept: kept.buffer.reconfigure(OTHER))  # type: ignore[misc]
        kept.check()
        assert goes_by_the_other(kept) == more
        written, dropped, pending = kept.buffer.counts()
        assert (written, dropped + pending) == (0, kept.next)
        assert dropped <= plain.buffer.counts()[1]
        kept.go_on()
        if not more:
            return
    raise AssertionError("there is no end of it")


@pytest.mark.parametrize("interrupt", ["append", "change", "Ctrl-C"])
@pytest.mark.parametrize("filled", [14])
def test_an_interrupt_anywhere_in_a_change_of_settings(filled: int, interrupt: str) -> None:
    """A record, another change or Ctrl-C in the middle of it: what waits is there, and the change can be made again."""
    for number in range(1000):
        kept = Kept(filled)
        acts = {
            "append": kept.append,
            "change": lambda kept=kept: kept.buffer.reconfigure(replace(OTHER, max_file_bytes=4096)),
            "Ctrl-C": stop_here,
        }
        before = kept.buffer.counts()[1]
        try:
            more = at_event(number, lambda kept=kept: kept.buffer.reconfigure(OTHER), acts[interrupt])  # type: ignore[misc]
        except KeyboardInterrupt:
            more = True
        kept.check()
        kept.buffer.reconfigure(OTHER)
        assert goes_by_the_other(kept)
        assert kept.buffer.counts()[1] - before <= (interrupt == "append")
        kept.go_on()
        if not more:
            return
    raise AssertionError("there is no end of it")


STORM = """
import faulthandler, gc, itertools, json, logging, os, signal, sys, time
from jsonl_handler import JsonlHandler

seconds, settings = float(sys.argv[2]), json.loads(sys.argv[3])
# Not a signal: whoever hangs in a lock would not see it.
faulthandler.dump_traceback_later(seconds + 40, exit=True)
# In 20 seconds it writes more than the default limits keep.
handler = JsonlHandler(sys.argv[1], session_id="storm", max_total_bytes=None, max_files=None, **settings)
log = logging.Logger("app", logging.INFO)
log.addHandler(handler)
# Finalizers run on the writer's thread too: neither may a number be given twice, nor a record count before it is there.
numbers = {who: itertools.count() for who in ("loop", "signal", "del")}
logged = {who: [] for who in numbers}

def say(who):
    number = next(numbers[who])
    log.info("record", extra={"who": who, "number": number})
    logged[who].append(number)

class Dying:
    def __init__(self):
        self.cycle = self
    def __del__(self):
        say("del")

signal.signal(signal.SIGALRM, lambda number, frame: say("signal"))
say("loop")
gc.set_threshold(1)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
until = time.monotonic() + seconds
while time.monotonic() < until:
    Dying()
    say("loop")
signal.setitimer(signal.ITIMER_REAL, 0)
gc.set_threshold(700)
while len(logged["del"]) < len(logged["loop"]) - 1:
    # The writer may be in the middle of a collection.
    gc.collect()
    time.sleep(0.001)
counts = {who: len(numbers) for who, numbers in logged.items()}
stats = handler.stats()
assert stats.accepted == stats.written + stats.dropped + stats.pending == sum(counts.values()), (stats, counts)
print(json.dumps(counts), flush=True)
if sys.argv[4] == "kill":
    while not handler.stats().crash_safe:
        # Records of an interrupt wait for room in the journal.
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGKILL)
assert handler.flush(20)
assert handler.stats().dropped == stats.dropped
"""


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["close", "kill"])
@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({}, id="default"),
        pytest.param({"flush_interval": 0.001, "max_file_bytes": 50_000, "buffer_bytes": 65536}, id="rotation"),
        pytest.param({"overflow_timeout": 0.0, "buffer_limit": 20, "max_file_bytes": 20_000}, id="overflow"),
    ],
)
def test_a_storm_of_signals_and_finalizers(tmp_path: Path, settings: dict[str, object], ending: str) -> None:
    """A timer of 1 kHz, and a finalizer in each turn, log into a tight loop: no deadlock, each record is there once."""
    seconds = rounds(1, 20)
    done = subprocess.run(
        [sys.executable, "-c", STORM, str(tmp_path), str(seconds), json.dumps(settings), ending],
        capture_output=True,
        timeout=seconds + 60,
        check=False,
    )
    assert done.returncode == (-signal.SIGKILL if ending == "kill" else 0), done.stderr.decode()
    recover(tmp_path)
    counts = json.loads(done.stdout)
    assert min(counts.values()) > 20 * seconds
    lines = lines_of(tmp_path)
    found = Counter((line["who"], line["number"]) for line in lines if "who" in line)
    told = sum(line.get("dropped", 0) for line in lines)
    assert set(found.values()) == {1}
    assert len(found) + told == sum(counts.values())
