"""The crash model: the real buffer, journal, writer and recovery, on a machine that can stop at every single step.

A step is a store into the journal's memory or a call that changes a file; a store may be
torn. What a killed process leaves is then what the next one finds.
"""

from __future__ import annotations

import contextlib
import errno
import json
import mmap
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import lines_of, rounds, segments_of
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from jsonl_handler import BatchQueueListener, RecordBuffer, Settings, _journal_file, _lockfile, _maintenance, recover
from jsonl_handler._session_files import SessionFiles

STEPS = ("write", "pwrite", "ftruncate", "unlink", "link", "posix_fallocate", "utime", "mkdir", "open")


class Killed(BaseException):
    """The process is no more."""


class Machine:
    """Counts the steps, and stops at the one that was chosen; the disk refuses when it is told to."""

    def __init__(self) -> None:
        self.left: int | None = None
        self.torn = 0
        self.dead = False
        self.disk: list[int] = []
        self._real = {name: getattr(os, name) for name in STEPS}

    def step(self) -> bool:
        """True when the process dies in the middle of this step."""
        if self.dead:
            raise Killed
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                self.dead = True
                return True
        return False

    @contextlib.contextmanager
    def running(self, left: int | None, torn: int = 0) -> Iterator[None]:
        """Run what is inside until *left* steps are done; of the next one *torn* bytes are."""
        self.left, self.torn, self.dead = left, torn, False
        for name in STEPS:
            setattr(os, name, getattr(self, name, None) or self._stepping(name))
        try:
            yield
        finally:
            self.left, self.dead = None, False
            for name, real in self._real.items():
                setattr(os, name, real)

    def write(self, descriptor: int, content: Any) -> int:
        write = self._real["write"]
        is_segment = os.readlink(f"/proc/self/fd/{descriptor}").endswith(".jsonl")
        if self.step():
            # What lies within one page (a session file) is written whole or not at all: no signal comes between.
            if is_segment or self.torn % 2:
                write(descriptor, bytes(content)[: self.torn] if is_segment else content)
            raise Killed
        if not is_segment or not self.disk:
            written: int = write(descriptor, content)
            return written
        fits = self.disk.pop(0)
        if not fits:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return int(write(descriptor, bytes(content)[:fits]))

    def pwrite(self, descriptor: int, content: bytes, at: int) -> int:
        pwrite = self._real["pwrite"]
        if not self.step():
            return int(pwrite(descriptor, content, at))
        pwrite(descriptor, content[: self.torn], at)
        raise Killed

    def _stepping(self, name: str) -> Callable[..., Any]:
        real = self._real[name]

        def act(*args: Any, **kwargs: Any) -> Any:
            if name == "open" and not args[1] & os.O_CREAT:
                return real(*args, **kwargs)
            if self.step():
                raise Killed
            return real(*args, **kwargs)

        return act


machine = Machine()


class Memory(mmap.mmap):
    """Memory whose stores are steps; one that is torn leaves some of its bytes, from the front or from the back."""

    def __setitem__(self, key: Any, content: Any) -> None:
        if not machine.step():
            super().__setitem__(key, content)
            return
        start = key.start or 0
        some = min(machine.torn, len(content))
        if some % 2:
            super().__setitem__(slice(start, start + some), content[:some])
        elif some:
            super().__setitem__(slice(key.stop - some, key.stop), content[-some:])
        raise Killed


class Life:
    """One process: a buffer, a writer and a file side, with no thread but the caller's."""

    def __init__(self, directory: Path, settings: Settings, session_id: str | None) -> None:
        self.buffer = RecordBuffer(settings)
        self.files = SessionFiles(directory, "t", session_id, settings, self)
        self.files.keep_safe(self.buffer)
        self.listener = BatchQueueListener(self.buffer, self.files)
        self.listener.on_settled = self.files.tend
        self.files.remark = self.buffer.remark
        self.buffer.attend()
        self.files.open()

    def change(self, settings: Settings) -> None:
        self.files.use(settings)
        self.buffer.reconfigure(settings)
        self.files.tend()

    def close(self) -> bool:
        done = self.listener.drain()
        if done:
            self.files.close(hand_over=False)
        return done


class Crashes(RuleBasedStateMachine):
    """Appends, writes whole or in part, ends of the process in the middle of anything, recoveries that end so too."""

    @initialize(
        overflow=st.sampled_from(["drop_oldest", "drop_newest"]),
        cap=st.sampled_from([4096, 20_000]),
        session_id=st.sampled_from([None, "same"]),
    )
    def begin(self, overflow: str, cap: int, session_id: str | None) -> None:
        self.place = Path(tempfile.mkdtemp(prefix="jsonl-handler-model-"))
        self.logs = self.place / "logs"
        self.settings, _ = Settings.load(
            {
                "overflow": overflow,
                "max_file_bytes": cap,
                "buffer_bytes": 65536,
                "buffer_limit": 30,
                "flush_batch_size": 10,
                "overflow_timeout": 0.0,
            }
        )
        self.session_id = session_id
        self.accepted: Counter[tuple[int, int]] = Counter()
        self.numbers = [0, 0, 0]
        self.doubtful = 0
        self.dropped = 0
        self.life: Life | None = None

    def _run(self, act: Callable[[], object], left: int | None, torn: int) -> bool:
        """Do something in the process; False when it was killed meanwhile."""
        try:
            with machine.running(left, torn):
                act()
        except Killed:
            self._die()
            return False
        return True

    def _die(self) -> None:
        if self.life is not None:
            self.dropped += self.life.buffer.counts()[1]
        self.life = None
        # As the kernel does: the locks go with the descriptors, nothing else is done.
        _lockfile.close_all()

    def _live(self) -> None:
        self.life = Life(self.logs, self.settings, self.session_id)

    kills = st.one_of(st.none(), st.integers(0, 60))
    torns = st.integers(0, 400)

    @precondition(lambda self: self.life is None)
    @rule(left=kills, torn=torns)
    def start(self, left: int | None, torn: int) -> None:
        self._run(self._live, left, torn)

    @precondition(lambda self: self.life is not None)
    @rule(
        thread=st.integers(0, 2),
        count=st.integers(1, 40),
        size=st.integers(0, 3000),
        late=st.sampled_from([0, 0, 0, 1]),
        left=kills,
        torn=torns,
    )
    def append(self, thread: int, count: int, size: int, late: int, left: int | None, torn: int) -> None:
        life = self.life
        assert life is not None
        buffer, moment = life.buffer, time.time() - late * 86400

        def act() -> None:
            for _ in range(count):
                number = self.numbers[thread]
                self.numbers[thread] += 1
                fields = {"by": thread, "number": number, "fill": "x" * size}
                self.doubtful += 1
                buffer.append(json.dumps(fields).encode() + b"\n", 20, moment)
                # A journal that is wanted again comes only after the write under way.
                if self.settings.crash_safe and life.files.stats(None, 0, 0, 0).crash_safe:
                    self.doubtful -= 1
                    self.accepted[thread, number] += 1

        self._run(act, left, torn)

    @precondition(lambda self: self.life is not None)
    @rule(disk=st.lists(st.one_of(st.just(0), st.integers(1, 2000)), max_size=6), left=kills, torn=torns)
    def write(self, disk: list[int], left: int | None, torn: int) -> None:
        assert self.life is not None
        machine.disk = disk
        self._run(self.life.listener.drain, left, torn)
        machine.disk = []

    @precondition(lambda self: self.life is not None)
    @rule(left=kills, torn=torns)
    def close(self, left: int | None, torn: int) -> None:
        life = self.life
        assert life is not None
        if self._run(life.close, left, torn) and not life.files._session:
            self.dropped += life.buffer.counts()[1]
            self.life = None

    @precondition(lambda self: self.life is not None)
    @rule(
        size=st.sampled_from([65536, 65536, 131072]),
        cap=st.sampled_from([4096, 20_000]),
        safe=st.sampled_from([True, True, False]),
        left=kills,
        torn=torns,
    )
    def change(self, size: int, cap: int, safe: bool, left: int | None, torn: int) -> None:
        """Other settings: what was accepted before outlives the process all the same."""
        life = self.life
        assert life is not None
        self.settings = replace(self.settings, buffer_bytes=size, max_file_bytes=cap, crash_safe=safe)
        self._run(lambda: life.change(self.settings), left, torn)

    @precondition(lambda self: self.life is not None and self.settings.crash_safe)
    @rule()
    def lose_the_journal(self) -> None:
        """Somebody removes it while the process lives; it makes a new one."""
        assert self.life is not None
        assert self.life.files._safekeeping is not None
        file = self.life.files._safekeeping._file
        if file is not None and file.is_linked() and self.life.listener._batches.at_hand is None:
            os.unlink(_journal_file.PLACE / file.name)
            self.life.files.tend()
            assert self.life.files._safekeeping.crash_safe

    @rule(disk=st.lists(st.one_of(st.just(0), st.integers(1, 2000)), max_size=3), left=kills, torn=torns)
    def recover(self, disk: list[int], left: int | None, torn: int) -> None:
        """Another process recovers what it finds; it may be killed too."""
        if self.life is None:
            machine.disk = disk
            self._run(lambda: recover(self.logs), left, torn)
            machine.disk = []

    def teardown(self) -> None:
        if not hasattr(self, "logs"):
            return
        try:
            if self.life is not None:
                self._die()
            if self.logs.exists():
                with machine.running(None):
                    recover(self.logs)
                self._account()
        finally:
            _lockfile.close_all()
            for path in Path("/dev/shm").glob("jsonl-handler-*.journal"):
                with contextlib.suppress(OSError), open(path, "rb") as file:
                    if str(self.place).encode() in file.read(1024):
                        path.unlink()
            shutil.rmtree(self.place)

    def _account(self) -> None:
        lines = lines_of(self.logs)
        found = Counter((line["by"], line["number"]) for line in lines if "by" in line)
        assert max(found.values(), default=0) <= 1, "a line is there twice"
        told = sum(line["dropped"] or 0 for line in lines if "dropped" in line)
        missing = self.accepted - found
        assert missing.total() <= min(told, self.dropped + self.doubtful), f"{missing} are lost, {told} were told"
        if not self.doubtful:
            assert missing.total() == self.dropped
        for path in segments_of(self.logs):
            by_thread: dict[int, int] = {}
            for line in lines_of(path):
                if "by" in line:
                    assert by_thread.get(line["by"], -1) < line["number"], "out of order"
                    by_thread[line["by"]] = line["number"]
        assert not list(self.logs.glob(".jsonl-handler/*.session"))


@pytest.fixture(autouse=True)
def stepwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that can stop; no thread of maintenance."""
    monkeypatch.setattr(_journal_file.mmap, "mmap", Memory)
    monkeypatch.setattr(_maintenance.Maintenance, "start", lambda self: None)
    monkeypatch.setattr("jsonl_handler._maintenance.speak_now", lambda voice: None)
    monkeypatch.setattr("jsonl_handler.reading.speak_now", lambda voice: None)


@pytest.mark.slow
@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="there is no tmpfs for a journal here")
def test_each_line_is_there_once_or_told(stepwise: None) -> None:
    """Wherever the process ends, each accepted line ends up in a file once, in its order, or is told as dropped."""
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Crashes,
        settings=hypothesis_settings(
            max_examples=rounds(40, 2000),
            stateful_step_count=25,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
