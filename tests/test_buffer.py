"""`RecordBuffer` against a plain model: each line is written in order, pending, or counted as dropped."""

from __future__ import annotations

import itertools
import math
import sys
import threading

import pytest
from conftest import PATIENCE, parse_strictly, rounds
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from jsonl_handler import RecordBuffer, Settings, _admission
from jsonl_handler._stock import Batch

NOON = 43200.0
DAY = 86400.0


def settings(**changes: object) -> Settings:
    loaded, problems = Settings.load({"buffer_bytes": 65536, "overflow_timeout": 0.0, **changes})
    assert problems == []
    return loaded


def lines_in(batch: Batch) -> list[bytes]:
    arena = batch.arena
    return bytes(arena.memory[arena.head : arena.tail]).splitlines(keepends=True)


class BufferMachine(RuleBasedStateMachine):
    """Appends of all sizes and dates, takes, ends of writes; no writer thread, so nobody waits."""

    @initialize(limit=st.integers(10, 40), overflow=st.sampled_from(["drop_oldest", "drop_newest"]))
    def begin(self, limit: int, overflow: str) -> None:
        self.settings = settings(buffer_limit=limit, overflow=overflow, flush_batch_size=10, max_record_bytes=32768)
        self.buffer = RecordBuffer(self.settings)
        self.accepted = 0
        self.waiting: list[bytes] = []
        self.frozen: Batch | None = None
        self.frozen_lines: list[bytes] = []
        self.written = 0
        self.told = 0

    @rule(size=st.integers(1, 32768), day=st.integers(0, 2))
    def append(self, size: int, day: int) -> None:
        line = (str(self.accepted).encode() + b"." * size)[:32760] + b"\n"
        before = self.buffer.counts()[1]
        self.buffer.append(line, 20, NOON + day * DAY)
        dropped = self.buffer.counts()[1] - before
        self.accepted += 1
        if self.settings.overflow == "drop_oldest":
            self.waiting = [*self.waiting, line][dropped:]
        elif not dropped:
            self.waiting.append(line)

    @rule(count=st.integers(1, 60))
    def append_many(self, count: int) -> None:
        for _ in range(count):
            self.append(20, 1)

    @precondition(lambda self: self.frozen is None)
    @rule()
    def take(self) -> None:
        self.frozen = self.buffer.take()
        if self.frozen is None:
            assert not self.waiting
            return
        self.frozen_lines, self.waiting = self.waiting, []
        assert lines_in(self.frozen) == self.frozen_lines
        marks = self.frozen.arena.marks
        assert marks[0][0] <= self.frozen.arena.head
        assert [offset for offset, _ in marks] == sorted({offset for offset, _ in marks})
        if self.frozen.loss:
            self.told += self.frozen.loss.count

    @precondition(lambda self: self.frozen is not None)
    @rule()
    def done(self) -> None:
        assert self.frozen is not None
        assert lines_in(self.frozen) == self.frozen_lines, "a frozen arena was touched"
        self.buffer.done(self.frozen)
        self.written += len(self.frozen_lines)
        self.frozen = None
        self.frozen_lines = []

    @invariant()
    def each_line_is_somewhere(self) -> None:
        written, dropped, pending = self.buffer.counts()
        assert written == self.written
        assert pending == len(self.waiting) + len(self.frozen_lines)
        assert written + dropped + pending == self.accepted
        assert len(self.waiting) <= self.settings.buffer_limit

    def teardown(self) -> None:
        if not hasattr(self, "buffer"):
            return
        if self.frozen is not None:
            self.done()
        self.take()
        assert self.told == self.buffer.counts()[1]


TestBuffer = BufferMachine.TestCase
TestBuffer.settings = hypothesis_settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_marks_say_where_each_date_begins() -> None:
    """A batch that spans dates tells the file side where to cut, also after the oldest lines were dropped."""
    buffer = RecordBuffer(settings(buffer_limit=10))
    for day in range(4):
        for _ in range(4):
            buffer.append(b"%d\n" % day, 20, NOON + day * DAY)
    batch = buffer.take()
    assert batch is not None
    assert batch.loss is not None
    assert batch.loss.count == 6
    found = []
    marks = [*batch.arena.marks, (batch.arena.tail, -1)]
    for (start, day), (end, _) in itertools.pairwise(marks):
        found += [(day, line) for line in bytes(batch.arena.memory[max(start, batch.arena.head) : end]).splitlines()]
    assert found == [(1, b"1")] * 2 + [(2, b"2")] * 4 + [(3, b"3")] * 4


@pytest.mark.parametrize("created", [math.nan, math.inf, -math.inf, 1e300, -1e300])
def test_a_moment_that_is_none_goes_with_the_open_date(created: float) -> None:
    """A record whose `created` makes no sense is kept, in today's file."""
    buffer = RecordBuffer(settings())
    buffer.append(b"line\n", 20, created)
    assert buffer.counts() == (0, 0, 1)


def test_a_line_that_no_arena_holds_is_cut() -> None:
    """The buffer never waits for room that can't come; a line that was made for a larger arena stays valid JSON."""
    buffer = RecordBuffer(settings())
    buffer.append(b'{"message":"' + b"x" * 40000 + b'"}\n', 20, NOON)
    batch = buffer.take()
    assert batch is not None
    line = bytes(batch.arena.memory[batch.arena.head : batch.arena.tail])
    assert len(line) <= 32768
    assert parse_strictly(line)["truncated"] is True


def test_without_a_writer_the_caller_is_told() -> None:
    """`append` says that somebody must fetch the line, while nobody is there to do so."""
    buffer = RecordBuffer(settings())
    assert buffer.append(b"line\n", 20, NOON) is True
    buffer.attend()
    assert buffer.append(b"line\n", 20, NOON) is False


def test_a_writer_leaves_only_when_nothing_waits() -> None:
    """A line that comes while the writer is about to go is never left behind."""
    buffer = RecordBuffer(settings())
    buffer.attend()
    buffer.append(b"line\n", 20, NOON)
    assert buffer.leave() is False
    batch = buffer.take()
    assert batch is not None
    assert buffer.leave() is False
    buffer.done(batch)
    assert buffer.leave() is True


def test_a_nested_line_is_put_aside_and_taken_along() -> None:
    """A line appended while this thread is inside the buffer is kept, within the bound, and the rest is counted."""
    buffer = RecordBuffer(settings(buffer_limit=10, flush_batch_size=10))
    buffer.attend()
    buffer._locked(lambda: [buffer.append(b"%d\n" % number, 20, NOON) for number in range(15)])
    assert buffer.counts() == (0, 5, 10)
    batch = buffer.take()
    assert batch is not None
    assert lines_in(batch) == [b"%d\n" % number for number in range(10)]


def test_the_writers_own_thread_never_waits_for_room() -> None:
    """With `overflow="block"`, a line logged on the writer's thread does not wait for the writer."""
    buffer = RecordBuffer(settings(buffer_limit=10, flush_batch_size=10, overflow="block"))
    buffer.attend()
    for _ in range(12):
        buffer.append(b"line\n", 20, NOON)
    assert buffer.counts() == (0, 2, 10)


def test_the_arenas_stay_where_they_are() -> None:
    """Memory does not grow with the number of records: the same two arenas serve for ever."""
    buffer = RecordBuffer(settings())
    seen = set()
    for _ in range(10):
        buffer.append(b"line\n", 20, NOON)
        batch = buffer.take()
        assert batch is not None
        seen.add(id(batch.arena))
        buffer.done(batch)
    assert len(seen) == 2


def test_a_flush_waits_for_the_batch_that_holds_its_records() -> None:
    """The waiter of a flush is released when what was accepted before is written, not earlier, not later."""
    buffer = RecordBuffer(settings())
    assert buffer.ask_flush() is True
    buffer.append(b"1\n", 20, NOON)
    first = buffer.take()
    assert first is not None
    of_first = buffer.ask_flush()
    buffer.append(b"2\n", 20, NOON)
    of_second = buffer.ask_flush()
    assert not isinstance(of_first, bool)
    assert not isinstance(of_second, bool)
    buffer.done(first)
    assert of_first.acquire(blocking=False)
    assert not of_second.acquire(blocking=False)
    second = buffer.take()
    assert second is not None
    buffer.done(second)
    assert of_second.acquire(blocking=False)


def test_appends_from_eight_threads_lose_nothing() -> None:
    """Threads that append at once each find their lines in the order in which they wrote them."""
    buffer = RecordBuffer(settings(buffer_limit=100_000, buffer_bytes=1 << 22))
    barrier = threading.Barrier(8)

    def work(name: int) -> None:
        barrier.wait()
        for number in range(1000):
            buffer.append(b"%d %d\n" % (name, number), 20, NOON)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    batch = buffer.take()
    assert batch is not None
    found: dict[int, list[int]] = {name: [] for name in range(8)}
    for line in lines_in(batch):
        name, number = map(int, line.split())
        found[name].append(number)
    assert all(numbers == list(range(1000)) for numbers in found.values())


@pytest.mark.parametrize("has_gil", [True, False])
def test_an_append_waits_for_the_lock_only_without_a_global_one(has_gil: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """While nobody changes anything an append takes no lock; where threads run at once it always does."""
    monkeypatch.setattr(_admission, "_HAS_GIL", has_gil)
    buffer = RecordBuffer(settings())
    # A writer that is awake need not be called.
    buffer.attend()
    buffer.append(b"first\n", 20, NOON)
    buffer.append(b"second\n", 20, NOON)
    appending = threading.Thread(target=buffer.append, args=(b"third\n", 20, NOON), daemon=True)
    with buffer._lock:
        appending.start()
        appending.join(PATIENCE if has_gil else 0.1)
        assert appending.is_alive() is not has_gil
    appending.join(PATIENCE)
    assert buffer.counts() == (0, 0, 3)


def test_an_append_waits_for_who_changes_the_buffer() -> None:
    """A line that comes while another thread changes the buffer is appended afterwards."""
    buffer = RecordBuffer(settings())
    buffer.append(b"first\n", 20, NOON)
    inside, go_on = threading.Event(), threading.Event()

    def change() -> None:
        inside.set()
        assert go_on.wait(PATIENCE)

    changing = threading.Thread(target=buffer._locked, args=(change,), daemon=True)
    changing.start()
    assert inside.wait(PATIENCE)
    appending = threading.Thread(target=buffer.append, args=(b"second\n", 20, NOON), daemon=True)
    appending.start()
    appending.join(0.1)
    assert buffer._arena.count == 1
    go_on.set()
    appending.join(PATIENCE)
    changing.join(PATIENCE)
    assert buffer.counts() == (0, 0, 2)


@pytest.mark.parametrize("has_gil", [True, False])
def test_threads_that_change_as_often_as_they_can_tear_nothing(has_gil: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight threads append while another takes batches: each line is there once, whole, in its thread's order."""
    monkeypatch.setattr(_admission, "_HAS_GIL", has_gil)
    count = rounds(1_000, 20_000)
    buffer = RecordBuffer(settings(overflow="block", buffer_limit=200))
    found: list[bytes] = []

    def take() -> None:
        buffer.attend()
        while len(found) < 8 * count:
            buffer.wait(0.001)
            batch = buffer.take()
            if batch is not None:
                found.extend(lines_in(batch))
                buffer.done(batch)

    def append(who: int) -> None:
        for number in range(count):
            buffer.append(b"%d %d %s\n" % (who, number, b"x" * (number % 50)), 20, NOON + DAY * (number % 97 == 0))

    threads = [threading.Thread(target=take, daemon=True)]
    buffer.expect()
    threads += [threading.Thread(target=append, args=(who,), daemon=True) for who in range(8)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
    finally:
        sys.setswitchinterval(interval)
    expected = {who: [b"%d %d %s\n" % (who, n, b"x" * (n % 50)) for n in range(count)] for who in range(8)}
    assert {who: [line for line in found if line.startswith(b"%d " % who)] for who in range(8)} == expected
    assert buffer.counts() == (8 * count, 0, 0)
