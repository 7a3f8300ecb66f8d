"""Retention: what goes, what stays, and what is told."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from freezegun import freeze_time
from hypothesis import given
from hypothesis import strategies as st

from jsonl_handler import _retention
from jsonl_handler._names import SegmentName
from jsonl_handler._retention import Limits, Plan, Segment, SweepResult, plan, sweep
from jsonl_handler.settings import Settings

DAY = 86_400
NOW = 1_800_000_000.0
DATE = dt.date(2026, 11, 22)


def segment(
    age: float, size: int = 100, *, session: str = "a", part: int = 0, protected: bool = False, day: int = 0
) -> Segment:
    """A segment last written *age* seconds ago."""
    name = SegmentName("t", DATE + dt.timedelta(days=day), session, part)
    return Segment(name, size, NOW - age, protected)


def chosen(segments: list[Segment], limits: Limits, free: int | None = None) -> list[Segment]:
    """What the plan deletes, when it can meet all limits."""
    result = plan(segments, limits, NOW, free)
    assert result.unmet == []
    return result.delete


# Five files of 100 bytes, the oldest first.
FIVE = [segment(500 - 100 * number, part=number) for number in range(5)]


@pytest.mark.parametrize(
    ("limits", "free", "count"),
    [
        (Limits(), None, 0),
        (Limits(max_files=6), None, 0),
        (Limits(max_files=5), None, 0),
        (Limits(max_files=4), None, 1),
        (Limits(max_files=1), None, 4),
        (Limits(max_total_bytes=501), None, 0),
        (Limits(max_total_bytes=500), None, 0),
        (Limits(max_total_bytes=499), None, 1),
        (Limits(max_total_bytes=400), None, 1),
        (Limits(max_total_bytes=399), None, 2),
        (Limits(max_total_bytes=0), None, 5),
        (Limits(min_free_bytes=1_000), 1_001, 0),
        (Limits(min_free_bytes=1_000), 1_000, 0),
        (Limits(min_free_bytes=1_000), 999, 1),
        (Limits(min_free_bytes=1_000), 900, 1),
        (Limits(min_free_bytes=1_000), 899, 2),
        (Limits(min_free_bytes=1_000), None, 0),
        (Limits(max_age_days=501 / DAY), None, 0),
        (Limits(max_age_days=500 / DAY), None, 0),
        (Limits(max_age_days=499 / DAY), None, 1),
        (Limits(max_age_days=100 / DAY), None, 4),
        (Limits(max_files=4, max_total_bytes=300, min_free_bytes=1_000), 900, 2),
        (Limits(max_files=2, max_total_bytes=500, min_free_bytes=1_000), 900, 3),
        (Limits(max_files=5, max_total_bytes=500, min_free_bytes=1_000), 600, 4),
    ],
)
def test_the_fewest_go_and_the_oldest_first(limits: Limits, free: int | None, count: int) -> None:
    """A limit that is just met deletes nothing, and one that is not deletes no file too many."""
    shuffled = random.Random(count).sample(FIVE, 5)
    assert chosen(shuffled, limits, free) == FIVE[:count]


def test_what_goes_for_its_age_counts_for_the_other_limits() -> None:
    """Files that are deleted anyway need no younger file to follow them."""
    limits = Limits(max_age_days=399 / DAY, max_files=3, max_total_bytes=300, min_free_bytes=1_000)
    assert chosen(FIVE, limits, free=800) == FIVE[:2]


def test_ties_are_broken_by_date_and_number() -> None:
    """Of files written in the same moment the earlier date goes first, then the lower number."""
    tied = [
        segment(50, session="z", part=0),
        segment(50, session="a", part=1),
        segment(50, session="z", part=2),
        segment(50, session="b", part=10),
        segment(50, session="a", part=0, day=1),
    ]
    for count in range(6):
        shuffled = random.Random(count).sample(tied, 5)
        assert chosen(shuffled, Limits(max_files=5 - count)) == tied[:count]


def test_age_is_by_last_write_and_not_by_the_name() -> None:
    """A file of an early date that was written lately stays."""
    early, late = segment(10, day=-90), segment(5 * DAY, day=0)
    assert chosen([early, late], Limits(max_age_days=1)) == [late]


def test_a_file_from_the_future_is_not_old() -> None:
    """A clock that was ahead for a while makes no file too old."""
    assert chosen([segment(-10 * DAY)], Limits(max_age_days=1)) == []


def test_a_live_segment_counts_and_stays() -> None:
    """The current segment of a live session is never deleted, but takes its part of every limit."""
    live = replace(FIVE[0], protected=True)
    files = [live, *FIVE[1:]]
    assert chosen(files, Limits(max_files=3)) == FIVE[1:3]
    assert chosen(files, Limits(max_total_bytes=200)) == FIVE[1:4]


@pytest.mark.parametrize(
    ("limits", "free", "told"),
    [
        (Limits(max_files=1), None, "max_files is 1, in use are 2"),
        (Limits(max_total_bytes=199), None, "max_total_bytes is 199, in use are 200"),
        (Limits(min_free_bytes=1_000), 100, "min_free_bytes is 1000, free are 400"),
        (Limits(max_age_days=450 / DAY), None, "older and in use are 1 files"),
    ],
)
def test_what_live_segments_exceed_is_told_and_not_forced(limits: Limits, free: int | None, told: str) -> None:
    """When only live segments are left and a limit is still exceeded, it is said so."""
    files = [replace(FIVE[0], protected=True), *FIVE[1:4], replace(FIVE[4], protected=True)]
    result = plan(files, limits, NOW, free)
    assert all(not each.protected for each in result.delete)
    (unmet,) = result.unmet
    assert told in unmet


def test_nothing_at_all_is_within_every_limit() -> None:
    """An empty directory needs no deletion."""
    assert plan([], Limits(1, 1, 1, 0), NOW, 0) == Plan([], [])


def test_order_holds_over_any_number_of_files() -> None:
    """Sorting in small pieces, to let other threads run, does not change the order."""
    files = [segment(20_000 - number, part=number, size=1) for number in range(7_001)]
    shuffled = random.Random(7).sample(files, len(files))
    assert chosen(shuffled, Limits(max_files=1)) == files[:-1]


SEGMENTS = st.lists(
    st.builds(
        segment,
        st.integers(0, 6),
        st.integers(0, 5),
        session=st.sampled_from("ab"),
        part=st.integers(0, 99),
        protected=st.booleans(),
        day=st.integers(0, 1),
    ),
    max_size=12,
    unique_by=lambda each: each.name,
)
LIMITS = st.builds(
    Limits,
    st.none() | st.integers(0, 6).map(lambda seconds: seconds / DAY),
    st.none() | st.integers(0, 30),
    st.none() | st.integers(0, 12),
    st.none() | st.integers(0, 30),
)


def met(left: list[Segment], gone: list[Segment], limits: Limits, free: int | None) -> bool:
    """Total, count and free space keep their limits."""
    freed = sum(each.size for each in gone)
    return (
        (limits.max_total_bytes is None or sum(each.size for each in left) <= limits.max_total_bytes)
        and (limits.max_files is None or len(left) <= limits.max_files)
        and (limits.min_free_bytes is None or free is None or free + freed >= limits.min_free_bytes)
    )


@given(SEGMENTS, LIMITS, st.none() | st.integers(0, 30))
def test_every_plan_is_exact(segments: list[Segment], limits: Limits, free: int | None) -> None:
    """Whatever lies there: limits are met where they can be, oldest first, and with no file too many."""
    result = plan(segments, limits, NOW, free)

    gone = result.delete
    left = [each for each in segments if each not in gone]
    deletable = sorted(
        (each for each in segments if not each.protected),
        key=lambda each: (each.mtime, each.name.date, each.name.part, each.name.session),
    )
    too_old = [
        each for each in segments if limits.max_age_days is not None and each.mtime < NOW - limits.max_age_days * DAY
    ]
    assert gone == deletable[: len(gone)]
    assert all(each.protected for each in too_old if each not in gone)
    assert met(left, gone, limits, free) or gone == deletable
    if gone and gone[-1] not in too_old:
        assert not met([*left, gone[-1]], gone[:-1], limits, free)
    assert (result.unmet == []) == (met(left, gone, limits, free) and not any(each in left for each in too_old))


def test_limits_are_those_in_force() -> None:
    """A limit that is off, suspended or 0 bytes of free space deletes nothing."""
    settings, _ = Settings.load({"max_age_days": -1, "max_total_bytes": None, "max_files": 7, "min_free_bytes": 0})
    assert Limits.of(settings) == Limits(max_files=7)
    assert Limits.of(Settings()) == Limits(30, 104_857_600, 10_000, None)
    assert Limits.of(Settings(min_free_bytes=5)).min_free_bytes == 5


# The sweep, with a stand-in for the sessions that live.

OURS = [f"t-2026-11-22-aaaa{number}.jsonl{suffix}" for number, suffix in enumerate(("", ".gz", ".zst", ""))]
LOOK_ALIKES = [
    "t.jsonl",
    "t-2026-11-22.jsonl",
    "t-2026-11-22-AAAA0.jsonl",
    "t-2026-11-22-aaaa0.0.jsonl",
    "t-2026-11-22-aaaa0.01.jsonl",
    "t-2026-11-22-aaaa0.jsonl.bak",
    "t-2026-11-22-aaaa0.jsonl.gz.bak",
    "t-2026-11-22-aaaa0.jsonl.gz.gz",
    "t-2026-11-22-aaaa0.jsonl.GZ",
    "t-2026-11-22-aaaa0.jsonl.bz2",
    "t-2026-11-22-aaaa0.0.jsonl.gz",
    ".t-2026-11-22-aaaa0.jsonl.gz.01234567.new",
    "t-2026-11-22-aaaa0.json",
    "t-2026-02-30-aaaa0.jsonl",
    "t2-2026-11-22-aaaa0.jsonl",
    "other-2026-11-22-aaaa0.jsonl",
    "T-2026-11-22-bbbb0.jsonl",
    "web.config",
]


class Sessions:
    """Stands in for the room that knows who lives."""

    def __init__(self) -> None:
        self.live: set[str] = set()
        self.free_to_sweep = True
        self.asked = 0

    @contextlib.contextmanager
    def sweep_lock(self, directory: str, prefix: str) -> Iterator[bool]:
        yield self.free_to_sweep

    @contextlib.contextmanager
    def survey(self, directory: str, prefix: str) -> Iterator[SimpleNamespace]:
        self.asked += 1
        yield SimpleNamespace(protects=lambda name: str(name) in self.live)


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> Sessions:
    stand_in = Sessions()
    monkeypatch.setattr(_retention, "_survey", stand_in)
    return stand_in


def lay(directory: Path, *names: str, age_days: float = 100) -> None:
    """Make files of 100 bytes, the first the oldest, a second apart."""
    for number, name in enumerate(names):
        path = directory / name
        path.write_bytes(b"x" * 100)
        written = time.time() - age_days * DAY + number
        os.utime(path, (written, written))


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


OLD = Limits(max_age_days=1)


def test_a_sweep_deletes_what_is_ours_and_nothing_that_only_looks_like_it(sessions: Sessions, tmp_path: Path) -> None:
    """Old files that the package named go; look-alikes survive whatever their age."""
    lay(tmp_path, *OURS, *LOOK_ALIKES)
    result = sweep(str(tmp_path), "t", OLD)
    assert names(tmp_path) == set(LOOK_ALIKES)
    assert result == SweepResult(deleted=4, freed=400, complete=True)


def test_only_regular_files_are_deleted_and_no_link_is_followed(sessions: Sessions, tmp_path: Path) -> None:
    """A link, a folder or a pipe under one of our names stays, and so does what a link points to."""
    aside = tmp_path / "aside"
    aside.mkdir()
    lay(aside, "precious.jsonl", *OURS)
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / OURS[0]).symlink_to(aside / "precious.jsonl")
    (logs / OURS[1]).mkdir()
    os.mkfifo(logs / OURS[2])
    (logs / OURS[3]).symlink_to(aside)
    for name in OURS:
        os.utime(logs / name, (0, 0), follow_symlinks=False)
    result = sweep(str(logs), "t", replace(OLD, max_files=0, max_total_bytes=0))
    assert names(logs) == set(OURS)
    assert names(aside) == {"precious.jsonl", *OURS}
    assert result == SweepResult(complete=True)


def test_what_is_no_file_of_ours_takes_no_part_of_a_limit(sessions: Sessions, tmp_path: Path) -> None:
    """Links, folders and look-alikes push no file of ours out."""
    lay(tmp_path, OURS[0], *LOOK_ALIKES)
    (tmp_path / OURS[1]).symlink_to(OURS[0])
    (tmp_path / OURS[2]).mkdir()
    assert sweep(str(tmp_path), "t", Limits(max_files=1, max_total_bytes=100)) == SweepResult(complete=True)


def test_a_live_sessions_current_segment_survives_every_sweep(sessions: Sessions, tmp_path: Path) -> None:
    """However old and large it is, a segment that is being written stays; the sweep says what it exceeds."""
    lay(tmp_path, *OURS)
    sessions.live = {OURS[0]}
    result = sweep(str(tmp_path), "t", Limits(max_age_days=1, max_total_bytes=99))
    assert names(tmp_path) == {OURS[0]}
    assert result.deleted == 3
    assert len(result.unmet) == 2


def test_a_session_that_begins_during_a_sweep_is_safe(
    sessions: Sessions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who lives is asked after the listing: a file that is newer than that is not even seen."""
    lay(tmp_path, *OURS[:2])
    survey = sessions.survey

    def late(directory: str, prefix: str) -> contextlib.AbstractContextManager[SimpleNamespace]:
        lay(tmp_path, OURS[2])
        return survey(directory, prefix)

    monkeypatch.setattr(sessions, "survey", late)
    assert sweep(str(tmp_path), "t", OLD).deleted == 2
    assert names(tmp_path) == {OURS[2]}


def after_the_listing(monkeypatch: pytest.MonkeyPatch, sessions: Sessions, act: Callable[[], None]) -> None:
    """Have *act* happen between the listing and the deletions."""
    survey = sessions.survey

    def acting(directory: str, prefix: str) -> contextlib.AbstractContextManager[SimpleNamespace]:
        act()
        return survey(directory, prefix)

    monkeypatch.setattr(sessions, "survey", acting)


def test_a_file_that_vanishes_meanwhile_is_fine(
    sessions: Sessions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else's deletion is no trouble and is not counted as ours."""
    lay(tmp_path, *OURS)
    after_the_listing(monkeypatch, sessions, (tmp_path / OURS[1]).unlink)
    result = sweep(str(tmp_path), "t", OLD)
    assert names(tmp_path) == set()
    assert result == SweepResult(deleted=3, freed=300, complete=True)


def test_a_file_that_was_exchanged_meanwhile_stays(
    sessions: Sessions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What now bears a chosen name (a link, another file, one written again) was not chosen."""

    def exchange() -> None:
        (tmp_path / OURS[0]).rename(tmp_path / "moved")
        (tmp_path / OURS[0]).symlink_to("moved")
        lay(tmp_path, "new")
        written = (tmp_path / OURS[1]).stat().st_mtime_ns
        os.utime(tmp_path / "new", ns=(written, written))
        (tmp_path / "new").replace(tmp_path / OURS[1])
        os.utime(tmp_path / OURS[2])

    lay(tmp_path, *OURS)
    after_the_listing(monkeypatch, sessions, exchange)
    assert sweep(str(tmp_path), "t", OLD).deleted == 1
    assert names(tmp_path) == {"moved", *OURS[:3]}


def test_a_file_that_can_not_be_deleted_is_told_and_the_rest_go(
    sessions: Sessions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One stubborn file does not keep the others."""
    unlink = os.unlink

    def stubborn(path: str) -> None:
        if path.endswith(OURS[1]):
            raise PermissionError(1, "Operation not permitted", path)
        unlink(path)

    lay(tmp_path, *OURS)
    monkeypatch.setattr(_retention.os, "unlink", stubborn)
    result = sweep(str(tmp_path), "t", OLD)
    assert names(tmp_path) == {OURS[1]}
    assert result.deleted == 3
    assert result.problems == [f"{tmp_path / OURS[1]}: Operation not permitted"]


def test_a_file_that_can_not_be_looked_at_is_told_and_stays(
    sessions: Sessions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What can't be examined is left alone; what vanishes while it is listed is fine."""
    lstat = os.lstat

    def blind(path: str) -> os.stat_result:
        if str(path).endswith(OURS[1]):
            raise OSError(5, "Input/output error")
        if str(path).endswith(OURS[2]):
            os.unlink(path)
        return lstat(path)

    lay(tmp_path, *OURS)
    with monkeypatch.context() as patched:
        patched.setattr(_retention.os, "lstat", blind)
        result = sweep(str(tmp_path), "t", OLD)
    assert names(tmp_path) == {OURS[1]}
    assert result.problems == [f"{tmp_path / OURS[1]}: Input/output error"]


def test_one_process_sweeps_at_a_time(sessions: Sessions, tmp_path: Path) -> None:
    """Whoever finds a sweep in progress leaves it to the other."""
    lay(tmp_path, *OURS)
    sessions.free_to_sweep = False
    result = sweep(str(tmp_path), "t", OLD)
    assert names(tmp_path) == set(OURS)
    assert result == SweepResult(skipped=True)


def test_without_limits_nothing_is_even_listed(sessions: Sessions, tmp_path: Path) -> None:
    """Who switched all limits off pays nothing for them."""
    assert sweep(str(tmp_path / "nowhere"), "t", Limits()) == SweepResult(complete=True)
    assert sessions.asked == 0


def test_a_directory_that_is_gone_is_no_trouble(sessions: Sessions, tmp_path: Path) -> None:
    """There is nothing to delete where nothing is."""
    assert sweep(str(tmp_path / "nowhere"), "t", OLD) == SweepResult(complete=True)


def test_a_directory_that_can_not_be_listed_is_told(sessions: Sessions, tmp_path: Path) -> None:
    """A file in the directory's place is named with the reason, and nothing is raised."""
    lay(tmp_path, "logs")
    result = sweep(str(tmp_path / "logs"), "t", OLD)
    assert result == SweepResult(problems=[f"{tmp_path / 'logs'}: Not a directory"])


def test_a_sweep_can_be_stopped_before_each_deletion(sessions: Sessions, tmp_path: Path) -> None:
    """An exit waits for one deletion at most."""
    lay(tmp_path, *OURS)
    result = sweep(str(tmp_path), "t", OLD, stop=lambda: len(names(tmp_path)) < 3)
    assert names(tmp_path) == set(OURS[2:])
    assert (result.deleted, result.complete) == (2, False)


def test_a_sweep_can_be_stopped_while_it_lists(sessions: Sessions, tmp_path: Path) -> None:
    """A sweep that is stopped before it has seen all files deletes none and asks nobody."""
    lay(tmp_path, *OURS)
    result = sweep(str(tmp_path), "t", OLD, stop=lambda: True)
    assert names(tmp_path) == set(OURS)
    assert (result.deleted, result.complete, sessions.asked) == (0, False, 0)


def test_a_sweep_asks_often_whether_to_go_on(sessions: Sessions, tmp_path: Path) -> None:
    """However many files there are, it comes up for breath after a hundred."""
    lay(tmp_path, *(f"t-2026-01-01-aaaa.{number}.jsonl" for number in range(1000)))
    asked: list[int] = []
    sweep(str(tmp_path), "t", Limits(max_files=2000), stop=lambda: asked.append(1) is not None)
    assert len(asked) >= 10


@pytest.mark.parametrize(("most", "left", "complete"), [(0, 4, False), (3, 1, False), (4, 0, True)])
def test_a_sweep_can_be_bounded(sessions: Sessions, tmp_path: Path, most: int, left: int, complete: bool) -> None:
    """One step deletes so many at most, the oldest, and says whether there is more to do."""
    lay(tmp_path, *OURS)
    result = sweep(str(tmp_path), "t", OLD, most_deleted=most)
    assert names(tmp_path) == set(OURS[4 - left :])
    assert result.complete is complete


def test_a_partial_list_deletes_by_age_alone(sessions: Sessions, tmp_path: Path) -> None:
    """The oldest of a part need not be the oldest of all, so that only too old files go."""
    lay(tmp_path, *OURS)
    tight = Limits(max_total_bytes=0, max_files=0, min_free_bytes=2**62)
    result = sweep(str(tmp_path), "t", tight, most_listed=3)
    assert result == SweepResult()
    result = sweep(str(tmp_path), "t", replace(tight, max_age_days=1), most_listed=3)
    assert (result.deleted, result.complete) == (3, False)
    assert sweep(str(tmp_path), "t", tight, most_listed=1).deleted == 1


@pytest.mark.parametrize("with_statvfs", [True, False])
def test_free_space_is_asked_of_the_disk(
    sessions: Sessions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_statvfs: bool
) -> None:
    """A floor that no disk can meet deletes all closed segments; one that it meets deletes none."""
    if not with_statvfs:
        usage = SimpleNamespace(free=10_000)
        monkeypatch.delattr(_retention.os, "statvfs")
        monkeypatch.setattr(_retention.shutil, "disk_usage", lambda path: usage)
    lay(tmp_path, *OURS)
    assert sweep(str(tmp_path), "t", Limits(min_free_bytes=1)).deleted == 0
    result = sweep(str(tmp_path), "t", Limits(min_free_bytes=2**62))
    assert result.deleted == 4
    assert result.unmet[0].startswith(f"min_free_bytes is {2**62}")


def test_a_disk_that_does_not_tell_its_free_space_deletes_nothing(
    sessions: Sessions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unknown number is not taken for a full disk."""

    def silent(path: str) -> None:
        raise OSError(38, "Function not implemented")

    lay(tmp_path, *OURS)
    monkeypatch.setattr(_retention.os, "statvfs", silent)
    assert sweep(str(tmp_path), "t", Limits(min_free_bytes=2**62)) == SweepResult(complete=True)


def test_age_is_counted_by_the_clock(sessions: Sessions, tmp_path: Path) -> None:
    """A file goes once it was last written more than `max_age_days` ago, and not before."""
    lay(tmp_path, OURS[0], age_days=0)
    written = (tmp_path / OURS[0]).stat().st_mtime
    with freeze_time(dt.datetime.fromtimestamp(written + 30 * DAY - 1, dt.UTC)):
        assert sweep(str(tmp_path), "t", Limits(max_age_days=30)).deleted == 0
    with freeze_time(dt.datetime.fromtimestamp(written + 30 * DAY + 1, dt.UTC)):
        assert sweep(str(tmp_path), "t", Limits(max_age_days=30)).deleted == 1


def test_a_sweep_knows_the_real_sessions(tmp_path: Path) -> None:
    """Together with the room that knows who lives, closed segments of nobody go."""
    lay(tmp_path, *OURS)
    (tmp_path / ".jsonl-handler").mkdir()
    result = sweep(str(tmp_path), "t", OLD)
    assert (result.deleted, result.problems, result.skipped) == (4, [], False)
