"""Retention, from the handler to the deleted file."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE, Notices, messages_of, record, segments_of
from freezegun import freeze_time
from test_sessions import LIVE, answer, nod, program

from jsonl_handler import JsonlHandler, _maintenance, _retention, _survey, _upkeep
from jsonl_handler._retention import SweepResult

Make = Callable[..., JsonlHandler]
DAY = 86_400
OURS = [
    "telemetry-2026-01-01-aaaa.jsonl",
    "telemetry-2026-01-01-aaaa.1.jsonl.gz",
    "telemetry-2026-01-02-bbbb.jsonl.zst",
]
OTHERS = [
    "other-2026-01-01-aaaa.jsonl",
    "telemetry2-2026-01-01-aaaa.jsonl",
    "telemetry-2026-01-01-aaaa.jsonl.bak",
    "telemetry-2026-01-01-aaaa.jsonl.gz.bak",
    "telemetry-2026-01-01-aaaa.jsonl.xz",
    ".telemetry-2026-01-01-aaaa.jsonl.gz",
    "telemetry-2026-01-01-aaaa.01.jsonl",
    "telemetry-2026-13-01-aaaa.jsonl",
    "telemetry-2026-01-01-AAAA.jsonl",
    "notes.txt",
]


class Sweeps:
    """Hears of every sweep; a test may hold them up."""

    def __init__(self) -> None:
        self.results: list[SweepResult] = []
        self.hold = False
        self.begun = threading.Event()
        self._heard = threading.Condition()
        self._sweep = _retention.sweep

    def sweep(self, *args: Any, stop: Callable[[], bool], **bounds: Any) -> SweepResult:
        self.begun.set()
        if self.hold and not bounds:
            with _survey.sweep_lock(*args[:2]), self._heard:
                assert self._heard.wait_for(stop, PATIENCE)
            result = SweepResult()
        else:
            result = self._sweep(*args, stop=stop, **bounds)
        with self._heard:
            self.results.append(result)
            self._heard.notify_all()
        return result

    def wait(self, count: int) -> None:
        """Wait until so many sweeps have ended."""
        self.until(lambda: len(self.results) >= count)

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so after a sweep."""
        with self._heard:
            assert self._heard.wait_for(condition, PATIENCE), self.results


@pytest.fixture
def sweeps(monkeypatch: pytest.MonkeyPatch) -> Sweeps:
    heard = Sweeps()
    monkeypatch.setattr(_retention, "sweep", heard.sweep)
    return heard


def lay(logs: Path, *names: str, age: float = 100 * DAY, size: int = 100) -> None:
    """Make files, the first the oldest."""
    logs.mkdir(exist_ok=True)
    for number, name in enumerate(names):
        (logs / name).write_bytes(b"x" * (size - 1) + b"\n")
        written = time.time() - age + number
        os.utime(logs / name, (written, written))


def names_in(logs: Path) -> set[str]:
    return {entry.name for entry in logs.iterdir() if entry.name != ".jsonl-handler"}


def roll(handler: JsonlHandler) -> None:
    """Have the handler open its next segment."""
    handler.handle(record("x" * 5000))
    assert handler.flush(PATIENCE)


def test_a_sweep_follows_the_first_flush(make: Make, logs: Path, sweeps: Sweeps) -> None:
    """Old files go, look-alikes stay; nothing happens before the first record is written."""
    lay(logs, *OURS, *OTHERS)
    handler = make(flush_interval=3600.0)
    handler.handle(record())
    assert not sweeps.begun.is_set()
    handler.flush(PATIENCE)
    sweeps.wait(1)
    assert handler.path is not None
    assert names_in(logs) == {*OTHERS, handler.path.name}
    handler.close()
    assert handler.stats().deleted_files == 3


def test_links_and_folders_survive(make: Make, logs: Path, tmp_path: Path, sweeps: Sweeps) -> None:
    """What bears one of our names but is no regular file stays, and what a link leads to as well."""
    lay(logs, OURS[0])
    lay(tmp_path, "precious.jsonl")
    (logs / OURS[1]).symlink_to(tmp_path / "precious.jsonl")
    (logs / OURS[2]).mkdir()
    for name in OURS[1:]:
        os.utime(logs / name, (0, 0), follow_symlinks=False)
    handler = make(max_files=1)
    roll(handler)
    sweeps.wait(1)
    assert handler.path is not None
    assert names_in(logs) == {*OURS[1:], handler.path.name}
    assert (tmp_path / "precious.jsonl").exists()


def test_a_sweep_follows_each_roll(make: Make, logs: Path, sweeps: Sweeps) -> None:
    """Each new segment asks for one."""
    handler = make(max_file_bytes=4096)
    for count in range(1, 4):
        roll(handler)
        sweeps.wait(count)


def test_a_sweep_follows_a_new_date(make: Make, logs: Path, sweeps: Sweeps) -> None:
    """At midnight a new file is opened, and the directory swept."""
    with freeze_time("2026-11-22 23:59:59") as clock:
        handler = make(flush_interval=3600.0)
        handler.handle(record())
        assert handler.flush(PATIENCE)
        sweeps.wait(1)
        handler.handle(record())
        assert handler.flush(PATIENCE)
        clock.tick(2)
        handler.handle(record())
        assert handler.flush(PATIENCE)
        sweeps.wait(2)
        handler.close()
    assert len([result for result in sweeps.results if not result.skipped]) == 2


def test_a_sweep_comes_at_least_hourly(make: Make, logs: Path, sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that logs little is swept too, and shows other hosts that it lives."""
    monkeypatch.setattr(_maintenance, "_HOUR", 0.05)
    handler = make(session_id="s")
    roll(handler)
    sweeps.wait(1)
    session_file = logs / ".jsonl-handler" / "telemetry-s.session"
    os.utime(session_file, (0, 0))
    sweeps.wait(len(sweeps.results) + 2)
    assert session_file.stat().st_mtime > 0


@pytest.mark.parametrize("limits", [{"max_files": 3}, {"max_total_bytes": 15_500}])
def test_a_service_that_runs_for_a_year_stays_within_its_limits(
    make: Make, logs: Path, sweeps: Sweeps, limits: dict[str, int]
) -> None:
    """Closed segments of a live session go as well, the oldest first."""
    handler = make(max_file_bytes=4096, **limits)
    for _ in range(20):
        roll(handler)
    sweeps.until(lambda: len(segments_of(logs)) <= 3)
    numbers = [int(path.name.split(".")[1]) for path in segments_of(logs)]
    assert numbers[-1] == 19
    assert numbers == list(range(20 - len(numbers), 20))
    handler.close()
    assert handler.stats().deleted_files == 20 - len(numbers)


def test_no_live_sessions_current_segment_goes(make: Make, logs: Path, sweeps: Sweeps, notices: Notices) -> None:
    """Neither this process's nor another's; that the limit is exceeded so is told, once, and not forced."""
    with program(LIVE, logs, "child") as child:
        answer(child)
        (theirs,) = segments_of(logs)
        os.utime(theirs, (0, 0))
        lay(logs, *OURS)
        neighbour = make(session_id="mate")
        neighbour.handle(record("neighbour"))
        assert neighbour.flush(PATIENCE)
        assert neighbour.path is not None
        os.utime(neighbour.path, (0, 0))
        handler = make(max_files=1, max_file_bytes=4096)
        for _ in range(4):
            roll(handler)
        assert handler.path is not None
        live = {theirs.name, neighbour.path.name, handler.path.name}
        sweeps.until(lambda: names_in(logs) == live)
        assert "max_files is 1" in notices.wait_for("max_files")
        roll(handler)
        handler.close()
        assert len(notices.about("max_files")) == 1
        nod(child)
        assert answer(child) == "closed"
    assert {"child", "child again", "neighbour"} < set(messages_of(logs))


def test_a_crashed_sessions_files_are_ordinary_old_files(make: Make, logs: Path, sweeps: Sweeps) -> None:
    """After `kill -9` its session file goes with the next sweep, and its segments when they are too old."""
    with program(LIVE, logs, "child") as child:
        answer(child)
    (theirs,) = segments_of(logs)
    os.utime(theirs, (0, 0))
    handler = make(session_id="mine")
    roll(handler)
    sweeps.wait(1)
    assert not theirs.exists()
    assert [path.name for path in (logs / ".jsonl-handler").glob("*.session")] == ["telemetry-mine.session"]


def test_drafts_of_session_files_are_tidied_away(make: Make, logs: Path, sweeps: Sweeps) -> None:
    """A process killed while it claimed its name leaves one; after an hour a sweep removes it, and nothing else."""
    folder = logs / ".jsonl-handler"
    folder.mkdir(parents=True)
    stale = ".telemetry-abcd-01234567.new"
    kept = [".telemetry-abcd-0123456.new", ".other-abcd-01234567.new", "telemetry-abcd-01234567.new", ".telemetry.new"]
    for name in (stale, *kept):
        (folder / name).touch()
        os.utime(folder / name, (0, 0))
    young = ".telemetry-abcd-76543210.new"
    (folder / young).touch()
    (folder / ".telemetry-link-01234567.new").symlink_to(folder / kept[0])
    handler = make()
    roll(handler)
    sweeps.wait(1)
    left = {path.name for path in folder.iterdir() if ".new" in path.name}
    assert left == {*kept, young, ".telemetry-link-01234567.new"}


def test_a_file_that_can_not_be_deleted_is_told_once(
    make: Make, logs: Path, sweeps: Sweeps, notices: Notices, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest go, and later sweeps don't tell it again."""
    unlink = os.unlink

    def stubborn(path: Any, **more: Any) -> None:
        if str(path).endswith(OURS[1]):
            raise PermissionError(1, "Operation not permitted", str(path))
        unlink(path, **more)

    monkeypatch.setattr(os, "unlink", stubborn)
    lay(logs, *OURS)
    handler = make(max_file_bytes=4096)
    for count in range(1, 4):
        roll(handler)
        sweeps.wait(count)
    assert OURS[1] in notices.wait_for("not permitted")
    handler.close()
    assert len(notices.about("not permitted")) == 1
    assert not (logs / OURS[0]).exists()
    assert (logs / OURS[1]).exists()
    assert not (logs / OURS[2]).exists()


def test_a_limit_that_is_exceeded_again_is_told_again(make: Make, logs: Path, sweeps: Sweeps, notices: Notices) -> None:
    """Told once as long as it lasts; when it was met in between, that is another occasion."""
    handler = make(max_total_bytes=4096, max_file_bytes=4096)
    for count, size in enumerate((5000, 6000, 10, 7000), 1):
        handler.handle(record("x" * size))
        assert handler.flush(PATIENCE)
        sweeps.wait(count)
    handler.close()
    assert len(notices.about("max_total_bytes is 4096")) == 2


@pytest.mark.parametrize("limit", ["max_age_days", "max_total_bytes", "max_files"])
def test_an_invalid_limit_deletes_nothing(make: Make, logs: Path, sweeps: Sweeps, limit: str) -> None:
    """Who wrote 0 or -1 meant "unlimited": that limit is suspended, the others hold."""
    others = {"max_age_days": None, "max_total_bytes": None, "max_files": None}
    lay(logs, *OURS, size=50_000_000)
    handler = make(**{**others, limit: -1})
    roll(handler)
    handler.close()
    assert set(OURS) < names_in(logs)


def test_one_sweep_at_a_time(logs: Path) -> None:
    """Whoever finds another sweep in progress, in this process or another, skips."""
    lay(logs, *OURS)
    (logs / ".jsonl-handler").mkdir()
    limits = _retention.Limits(max_age_days=1)
    with _survey.sweep_lock(logs, "telemetry") as mine:
        assert mine
        assert _retention.sweep(str(logs), "telemetry", limits).skipped
        assert not _retention.sweep(str(logs), "other", limits).skipped
    assert set(OURS) <= names_in(logs)
    assert _retention.sweep(str(logs), "telemetry", limits).deleted == 3


def test_a_program_that_always_ends_early_is_swept_at_its_end(make: Make, logs: Path, sweeps: Sweeps) -> None:
    """If the last sweep was an hour ago `close` does a bounded step of it; else it leaves that."""
    stamp = logs / ".jsonl-handler" / "telemetry.sweep"
    for hours, left in ((None, 0), (0.5, 3), (1.1, 0), (-2, 0)):
        lay(logs, *OURS)
        if hours is not None:
            os.utime(stamp, (time.time() - hours * 3600,) * 2)
        handler = make(flush_interval=3600.0)
        handler.handle(record())
        handler.close()
        assert len(names_in(logs) & set(OURS)) == left
        assert handler.stats().deleted_files == 3 - left
    assert abs(stamp.stat().st_mtime - time.time()) < 600


def test_the_step_at_the_end_is_bounded_and_goes_on_next_time(make: Make, logs: Path, sweeps: Sweeps) -> None:
    """A hundred files at most go at one exit; as long as there are more, the next exit goes on."""
    lay(logs, *(f"telemetry-2026-01-01-aaaa.{number}.jsonl" for number in range(1, 251)))
    for left in (150, 50, 0, 0):
        handler = make(flush_interval=3600.0)
        handler.handle(record())
        handler.close()
        assert len([name for name in names_in(logs) if "2026-01-01" in name]) == left
    assert len(sweeps.results) == 3


def test_the_step_at_the_end_lists_a_part_of_a_huge_directory(
    make: Make, logs: Path, sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory that is never seen whole is looked at once an hour, not at every exit."""
    monkeypatch.setattr(_upkeep, "_STEP_LISTED", 2)
    lay(logs, *OURS, age=0)
    for _ in range(3):
        handler = make(flush_interval=3600.0)
        handler.handle(record())
        handler.close()
    assert [result.complete for result in sweeps.results] == [False]


def test_a_sweep_that_was_cut_short_does_not_count(make: Make, logs: Path, sweeps: Sweeps) -> None:
    """The exit ends a sweep in progress, and does its bounded step."""
    lay(logs, *OURS)
    sweeps.hold = True
    handler = make()
    roll(handler)
    assert sweeps.begun.wait(PATIENCE)
    closing = threading.Thread(target=handler.close)
    closing.start()
    while closing.is_alive():
        with sweeps._heard:
            sweeps._heard.notify_all()
        closing.join(0.01)
    assert not names_in(logs) & set(OURS)


def test_close_does_not_wait_for_a_sweep_that_hangs(
    make: Make, logs: Path, sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that takes for ever to delete a file keeps no program from ending."""
    unlink = os.unlink
    stuck, release = threading.Event(), threading.Event()

    def slow(path: Any, **more: Any) -> None:
        if str(path).endswith(OURS[0]):
            stuck.set()
            assert release.wait(PATIENCE)
        unlink(path, **more)

    monkeypatch.setattr(os, "unlink", slow)
    lay(logs, *OURS)
    handler = make()
    roll(handler)
    assert stuck.wait(PATIENCE)
    handler.close()
    assert not release.is_set()
    assert not list((logs / ".jsonl-handler").glob("*.session"))
    release.set()
    sweeps.until(lambda: not (logs / OURS[0]).exists())
    assert set(OURS[1:]) < names_in(logs)


def test_a_sweep_that_fails_is_told_and_logging_goes_on(
    make: Make, logs: Path, notices: Notices, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever goes wrong in it, the maintenance thread and the writer live on."""

    def broken(*args: Any, **more: Any) -> SweepResult:
        raise RuntimeError("a bug")

    monkeypatch.setattr(_retention, "sweep", broken)
    handler = make(max_file_bytes=4096)
    roll(handler)
    assert "a bug" in notices.wait_for("retention could not run")
    handler.handle(record("on", logging.ERROR))
    handler.close()
    assert messages_of(logs)[-1] == "on"


@pytest.mark.parametrize(
    ("moments", "rests"),
    [
        ([0.0, 0.001, 0.002], [0.003]),
        ([0.0, 60.0, 60.0], [0.005]),
        ([0.0, 0.0, 0.0], [0.0]),
        ([60.0, 0.0, 0.0], [0.0]),
        ([0.0, 0.001, 0.01, 0.0105, 0.02], [0.003, 0.0015]),
    ],
)
def test_a_sweep_rests_between_its_steps(
    moments: list[float], rests: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It leaves the machine to the program three quarters of the time, and never rests for long, whatever clocks do."""
    clock, rested = iter(moments), []
    monkeypatch.setattr(_upkeep, "monotonic", clock.__next__)
    monkeypatch.setattr(_upkeep, "sleep", rested.append)

    ask = _upkeep.unhurried(lambda: False)

    assert [ask() for _ in rests] == [False] * len(rests)
    assert rested == pytest.approx(rests)


def test_a_sweep_that_must_stop_does_not_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exit does not wait for a rest to end that has not begun."""
    monkeypatch.setattr(_upkeep, "sleep", lambda seconds: pytest.fail("it rested"))

    assert _upkeep.unhurried(lambda: True)()
