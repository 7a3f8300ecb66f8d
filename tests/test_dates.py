"""Names and dates: which file a record goes to."""

from __future__ import annotations

import datetime as dt
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE, Disk, lines_of, messages_of, record, segments_of
from freezegun import freeze_time

from jsonl_handler import JsonlHandler, RotatingSessionJsonlHandler
from jsonl_handler._dates import DAY, OpenDate, day_of

Make = Callable[..., JsonlHandler]

MIDNIGHT = dt.datetime(2026, 11, 23, tzinfo=dt.UTC)
EVE, MORROW = "2026-11-22", "2026-11-23"
SLOW = {"flush_interval": 3600.0, "session_id": "s"}


def at(seconds: float, message: str = "hello") -> logging.LogRecord:
    """A record that was made so many seconds after midnight."""
    return record(message, created=MIDNIGHT.timestamp() + seconds)


def dated(logs: Path) -> dict[str, list[Any]]:
    """Date of each file -> the messages in it."""
    found: dict[str, list[Any]] = {}
    for path in segments_of(logs):
        found.setdefault(path.name.removeprefix("telemetry-")[:10], []).extend(messages_of(path))
    return found


def test_names_have_prefix_date_session_and_number(make: Make, logs: Path) -> None:
    """The first segment of a date bears no number, the next ones 1, 2, ..."""
    with freeze_time(MIDNIGHT - dt.timedelta(seconds=10)):
        handler = make(prefix="app.log", session_id="ab12", max_file_bytes=4096)
        for _ in range(3):
            handler.handle(record("x" * 3000))
        handler.close()
    assert {path.name for path in logs.glob("*.jsonl")} == {
        f"app.log-{EVE}-ab12.jsonl",
        f"app.log-{EVE}-ab12.1.jsonl",
        f"app.log-{EVE}-ab12.2.jsonl",
    }


def test_the_date_is_that_of_utc(make: Make, logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's time zone does not matter."""
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    time.tzset()
    try:
        with freeze_time(MIDNIGHT - dt.timedelta(seconds=10)):
            handler = make(**SLOW)
            handler.handle(record())
            handler.flush(PATIENCE)
            assert handler.path is not None
            assert handler.path.name == f"telemetry-{EVE}-s.jsonl"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_record_goes_to_the_file_of_the_date_it_was_made(make: Make, logs: Path) -> None:
    """A record made before midnight and written after it is in the old date's file."""
    with freeze_time(MIDNIGHT - dt.timedelta(seconds=1)) as clock:
        handler = make(**SLOW)
        handler.handle(record("before"))
        clock.tick(2)
        handler.handle(record("after"))
        handler.flush(PATIENCE)
        handler.handle(record("later"))
        handler.flush(PATIENCE)
    assert dated(logs) == {EVE: ["before"], MORROW: ["after", "later"]}


def test_a_stuck_writer_still_parts_the_dates(make: Make, logs: Path, disk: Disk) -> None:
    """Records of two dates that wait together are written to two files."""
    with freeze_time(MIDNIGHT - dt.timedelta(seconds=1)) as clock:
        handler = make(**SLOW)
        disk.hold()
        handler.handle(record("first", logging.ERROR))
        assert disk.stuck.wait(PATIENCE)
        handler.handle(record("before"))
        clock.tick(1)
        handler.handle(record("after"))
        clock.tick(DAY)
        handler.handle(record("next day"))
        disk.release()
        handler.flush(PATIENCE)
    assert dated(logs) == {EVE: ["first", "before"], MORROW: ["after"], "2026-11-24": ["next day"]}


def test_a_late_record_goes_to_the_open_file(make: Make, logs: Path) -> None:
    """Threads race at midnight: a record that arrives after one of a later date opens no old file again."""
    with freeze_time(MIDNIGHT + dt.timedelta(seconds=1)):
        handler = make(**SLOW)
        handler.handle(at(-2, "before"))
        handler.handle(at(0.5, "after"))
        handler.handle(at(-0.001, "late"))
        handler.handle(at(1, "on"))
        handler.flush(PATIENCE)
    assert dated(logs) == {EVE: ["before"], MORROW: ["after", "late", "on"]}
    assert handler.stats().rotations == 1


def test_threads_that_log_over_midnight_lose_nothing(make: Make, logs: Path) -> None:
    """Four threads log while the date changes: each record is in one of two files, and the old one is left for good."""
    with freeze_time(MIDNIGHT + dt.timedelta(seconds=30)):
        handler = make(session_id="s", flush_interval=0)

        def work(thread: int) -> None:
            for number in range(-100, 100):
                handler.handle(at(number / 10, f"{thread}:{number}"))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        handler.flush(PATIENCE)
    found = dated(logs)
    assert sorted(found) == [EVE, MORROW]
    assert sorted(found[EVE] + found[MORROW]) == sorted(f"{t}:{n}" for t in range(4) for n in range(-100, 100))
    assert not [message for message in found[EVE] if "-" not in message]
    assert handler.stats().rotations == 1


def test_a_clock_that_jumped_ahead_and_came_back(make: Make, logs: Path) -> None:
    """Records return to the file of their right date, which goes on where it was."""
    with freeze_time(MIDNIGHT - dt.timedelta(hours=1)) as clock:
        handler = make(**SLOW)
        for message, now in (("a", -3600), ("b", 5 * DAY), ("c", -3500), ("d", -3400), ("e", 10)):
            clock.move_to(MIDNIGHT + dt.timedelta(seconds=now))
            handler.handle(record(message))
            handler.flush(PATIENCE)
    assert dated(logs) == {EVE: ["a", "c", "d"], MORROW: ["e"], "2026-11-28": ["b"]}
    assert [line["seq"] for line in lines_of(segments_of(logs)[0])] == [0, 2, 3]


@pytest.mark.parametrize("first", [True, False])
def test_a_record_far_in_the_future_opens_no_file_of_its_own(make: Make, logs: Path, first: bool) -> None:
    """One that claims to be more than a day ahead of the clock goes with the others."""
    with freeze_time(MIDNIGHT - dt.timedelta(hours=1)):
        handler = make(**SLOW)
        if not first:
            handler.handle(record("one"))
        handler.handle(at(DAY + 3600, "ahead"))
        handler.handle(at(1e15, "far ahead"))
        handler.handle(record("two"))
        handler.flush(PATIENCE)
    assert dated(logs) == {EVE: ["ahead", "far ahead", "two"] if first else ["one", "ahead", "far ahead", "two"]}


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    "created", [float("nan"), float("inf"), float("-inf"), None, "soon", -1e15, 10**400, -(10**400), "missing"]
)
def test_a_record_whose_time_is_no_time_goes_to_today(make: Make, logs: Path, created: Any, first: bool) -> None:
    """Whatever a filter has done to `created`, the record is kept, and those after it too."""
    with freeze_time(MIDNIGHT + dt.timedelta(hours=1)):
        handler = make(**SLOW)
        if not first:
            handler.handle(record("one"))
        odd = record("odd", created=created)
        if created == "missing":
            del odd.created
        handler.handle(odd)
        handler.handle(record("two"))
        assert handler.flush(PATIENCE)
    assert dated(logs) == {MORROW: ["odd", "two"] if first else ["one", "odd", "two"]}
    assert handler.stats().dropped == 0


def test_the_handler_alone_keeps_the_same_rules(logs: Path) -> None:
    """Without a buffer too: own dates, late ones in the open file, no file far ahead."""
    with freeze_time(MIDNIGHT + dt.timedelta(seconds=1)):
        handler = RotatingSessionJsonlHandler(logs, session_id="s")
        for seconds, message in ((-2, "before"), (0, "after"), (-1, "late"), (2 * DAY, "ahead"), (-1e15, "odd")):
            handler.handle(at(seconds, message))
        handler.close()
    assert dated(logs) == {EVE: ["before"], MORROW: ["after", "late", "ahead", "odd"]}


@pytest.mark.parametrize(
    ("created", "day"),
    [(0.0, 0), (-0.5, -1), (DAY - 0.001, 0), (DAY, 1), (-719162 * DAY, -719162), (2932897 * DAY - 1, 2932896)],
)
def test_a_day_is_counted_from_the_epoch(created: float, day: int) -> None:
    """Every moment that a date can be made of has its day."""
    assert day_of(created) == day
    assert (dt.date(1970, 1, 1) + dt.timedelta(days=day)).year >= 1


@pytest.mark.parametrize("created", [-719162 * DAY - 1, 2932897 * DAY, float("nan"), float("inf"), 10**400])
def test_what_has_no_date_is_of_today(created: float) -> None:
    """A moment before year 1 or after 9999 has no date."""
    with freeze_time(MIDNIGHT):
        assert day_of(created) == MIDNIGHT.timestamp() // DAY


def test_the_open_date_tells_its_bounds() -> None:
    """Within its bounds nobody needs to ask again."""
    with freeze_time(MIDNIGHT + dt.timedelta(seconds=5)):
        date = OpenDate()
        assert date.turn(time.time())
        assert (date.start, date.end) == (MIDNIGHT.timestamp(), MIDNIGHT.timestamp() + DAY)
        assert not date.turn(date.start - 1)
        assert date.day == MIDNIGHT.timestamp() // DAY
