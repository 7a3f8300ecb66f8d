"""Compression of closed segments: which go, that nothing is lost on the way, and what others make of the copies."""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import gzip
import json
import os
import random
import shutil
import signal
import stat
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE, Notices, lines_of, messages_of, parse_strictly, record, rounds, segments_of
from hypothesis import given, settings
from hypothesis import strategies as st
from test_retention import Sweeps, names_in, roll
from test_sessions import answer, program

from jsonl_handler import (
    JsonlHandler,
    RotatingSessionJsonlHandler,
    _codec,
    _compression,
    _retention,
    _session,
    _survey,
    recover,
)
from jsonl_handler._compression import CompressionResult, compress, tidy
from jsonl_handler._names import SegmentName
from jsonl_handler.errors import ConfigError
from jsonl_handler.settings import Settings

Make = Callable[..., JsonlHandler]
HOUR, DAY = 3600, 86_400
TODAY = dt.datetime.now(dt.UTC).date()
HOWS = [
    "gzip",
    pytest.param(
        "zstd", marks=pytest.mark.skipif(not _codec.is_available("zstd"), reason="needs the extra zstd or Python 3.14")
    ),
]
LINES = b"".join(b'{"message":"old","session":"s","seq":%d,"fill":"%s"}\n' % (n, b"x" * 50) for n in range(100))
CLOSED = {".gz", ".zst"}


@pytest.fixture
def sweeps(monkeypatch: pytest.MonkeyPatch) -> Sweeps:
    heard = Sweeps()
    monkeypatch.setattr(_retention, "sweep", heard.sweep)
    return heard


@pytest.fixture
def home(logs: Path) -> Path:
    """A log directory in which sessions have been."""
    (logs / ".jsonl-handler").mkdir(parents=True)
    return logs


def never() -> bool:
    return False


def lay(
    home: Path, part: int = 0, *, session: str = "s", days: int = 0, age: float = 2 * HOUR, text: bytes = LINES
) -> Path:
    """A segment of some days ago that was last written *age* seconds ago."""
    path = home / str(SegmentName("telemetry", TODAY - dt.timedelta(days=days), session, part))
    path.write_bytes(text)
    moment = time.time() - age
    os.utime(path, (moment, moment))
    return path


def text_of(path: Path) -> bytes:
    """What a segment says, by whatever it is compressed."""
    with open(path, "rb") as file, _codec.reading(file.fileno(), path.suffix if path.suffix in CLOSED else "") as text:
        return text.read()


def all_lines(home: Path) -> list[bytes]:
    """The lines of all segments, compressed or not, in no order."""
    found = []
    for path in home.iterdir():
        if SegmentName.parse(path.name, "telemetry") is not None:
            found += text_of(path).splitlines()
    return found


def run(home: Path, how: str = "gzip", stop: Callable[[], bool] = never, **more: Any) -> CompressionResult:
    return compress(home, "telemetry", how, stop=stop, **more)


def gz(path: Path, suffix: str = ".gz") -> Path:
    return path.with_name(path.name + suffix)


@contextlib.contextmanager
def live(home: Path, session: str = "s", current: Path | None = None) -> Iterator[None]:
    """A live session, of this process as well as of any other."""
    held = _session.claim(home, "telemetry", session)
    held.note_segment(current.name if current else "")
    yield
    held.release()


# What a user sees.


@pytest.mark.parametrize("how", HOWS)
def test_closed_segments_are_compressed_while_their_session_goes_on(
    make: Make, logs: Path, sweeps: Sweeps, how: str
) -> None:
    """Each full segment is replaced by its compressed copy; the current one is not touched."""
    handler = make(compress=how, max_file_bytes=4096, session_id="s")
    for _ in range(5):
        roll(handler)
    suffix = {"gzip": "gz", "zstd": "zst"}[how]
    sweeps.until(lambda: len(list(logs.glob(f"*.{suffix}"))) == 4)
    assert handler.path is not None
    assert segments_of(logs) == [handler.path]
    handler.close()
    assert len(names_in(logs)) == 5
    assert sorted(json.loads(line)["seq"] for line in all_lines(logs)) == list(range(5))


def test_without_the_setting_nothing_is_compressed(make: Make, logs: Path, sweeps: Sweeps) -> None:
    """By default segments stay as they are."""
    handler = make(max_file_bytes=4096)
    for count in range(1, 4):
        roll(handler)
        sweeps.wait(count)
    assert len(segments_of(logs)) == 3


def test_a_handler_that_writes_at_once_compresses_too(logs: Path, sweeps: Sweeps) -> None:
    """`RotatingSessionJsonlHandler` has the setting."""
    handler = RotatingSessionJsonlHandler(logs, compress="gzip", max_file_bytes=4096)
    for _ in range(3):
        handler.handle(record("x" * 5000))
    sweeps.until(lambda: len(list(logs.glob("*.gz"))) == 2)
    handler.close()


@pytest.mark.parametrize("how", HOWS)
def test_the_copy_has_the_time_and_the_mode_of_the_segment(home: Path, how: str) -> None:
    """Retention goes by the last write, and who could read the segment can read its copy."""
    path = lay(home)
    path.chmod(0o640)
    os.utime(path, ns=(1, 1_700_000_000_123_456_789))
    assert run(home, how) == CompressionResult(compressed=1)
    (copy,) = names_in(home)
    found = os.lstat(home / copy)
    assert copy == path.name + _codec.SUFFIXES[how]
    assert (found.st_mtime_ns, stat.S_IMODE(found.st_mode)) == (1_700_000_000_123_456_789, 0o640)
    assert text_of(home / copy) == LINES
    assert found.st_size < len(LINES) / 5


@pytest.mark.skipif(shutil.which("gzip") is None, reason="needs the program gzip")
def test_the_stock_tools_read_it(home: Path) -> None:
    """`gzip -dc` and `zcat` show the lines."""
    run_on = gz(lay(home))
    run(home)
    shown = subprocess.run(["gzip", "-dc", run_on], capture_output=True, check=True, timeout=60)
    assert shown.stdout == LINES


@settings(deadline=None, max_examples=50)
@given(text=st.binary(max_size=3000), how=st.sampled_from(["gzip", "zstd"]), chunk=st.integers(1, 700))
def test_any_bytes_are_read_back(text: bytes, how: str, chunk: int) -> None:
    """Whatever is in a segment, and however it is cut on its way, is in its copy."""
    if not _codec.is_available(how):
        return
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        home = Path(folder)
        (home / ".jsonl-handler").mkdir()
        patch.setattr(_compression, "_CHUNK", chunk)
        path = lay(home, text=text)
        assert run(home, how) == CompressionResult(compressed=1)
        assert text_of(gz(path, _codec.SUFFIXES[how])) == text
        assert not path.exists()


# Which segments go.


def test_a_lower_number_goes_at_once(home: Path) -> None:
    """Nobody goes back to it, so it waits for nothing; the highest of each date and session waits."""
    lower = [lay(home, part, session=session, age=0) for part in (0, 1) for session in "ab"]
    highest = [
        lay(home, 2, session="a", age=0),
        lay(home, 2, session="b", age=0),
        lay(home, 0, session="a", days=1, age=0),
    ]
    with live(home, "a"):
        assert run(home).compressed == 4
    assert names_in(home) == {gz(path).name for path in lower} | {path.name for path in highest}


@pytest.mark.parametrize(("age", "goes"), [(0, False), (HOUR - 60, False), (HOUR + 60, True), (-DAY, False)])
def test_the_highest_number_goes_after_an_hour(home: Path, age: float, goes: bool) -> None:
    """A session that ended may be resumed by its name at any time; after an hour without a line its file is closed."""
    lay(home, age=age)
    assert run(home).compressed == goes
    assert not list((home / ".jsonl-handler").glob("*.session"))


@pytest.mark.parametrize(
    ("days", "age", "goes"),
    [(0, 2 * HOUR, False), (1, 2 * HOUR, False), (2, 0, False), (2, 2 * HOUR, True), (30, 2 * HOUR, True)],
)
def test_the_highest_number_of_a_live_session_goes_when_its_date_is_past(
    home: Path, days: int, age: float, goes: bool
) -> None:
    """Its owner could go on with it, until two days after."""
    lay(home, days=days, age=age)
    with live(home):
        assert run(home).compressed == goes


@pytest.mark.parametrize("part", [0, 1])
def test_a_current_segment_never_goes(home: Path, part: int) -> None:
    """However old it is, and whatever else lies there under higher numbers."""
    current, other = lay(home, part, days=9, age=9 * DAY), lay(home, 1 - part, days=9, age=9 * DAY)
    with live(home, current=current):
        assert run(home).compressed == 1
    assert names_in(home) == {current.name, gz(other).name}


@pytest.mark.parametrize("content", [b" no json", b' {"segment": 5}', b"", b" []"])
def test_nothing_of_a_session_that_can_not_be_asked_goes(home: Path, content: bytes) -> None:
    """Of a session file that says nothing every segment may be the current one."""
    lay(home, 0, days=9), lay(home, 1, days=9)
    (home / ".jsonl-handler" / "telemetry-s.session").write_bytes(content)
    assert run(home) == CompressionResult()


def test_what_a_crashed_session_wrote_last_stays_until_it_has_been_seen_to(home: Path) -> None:
    """Its session file is neither taken nor removed here; the sweep does that."""
    current = lay(home)
    with live(home, current=current):
        file = home / ".jsonl-handler" / "telemetry-s.session"
        content = file.read_bytes()
    file.write_bytes(content)
    assert run(home) == CompressionResult()
    assert file.read_bytes() == content
    recover(home)
    assert run(home).compressed == 1


LOOK_ALIKES = [
    "other-2026-01-01-aaaa.jsonl",
    "telemetry2-2026-01-01-aaaa.jsonl",
    "telemetry-2026-01-01-aaaa.jsonl.bak",
    "telemetry-2026-01-01-aaaa.01.jsonl",
    "telemetry-2026-13-01-aaaa.jsonl",
    "telemetry-2026-01-01-AAAA.jsonl",
    "telemetry-2026-01-01-aaaa.jsonl.GZ",
    "telemetry-2026-01-01-aaaa.jsonl.gz.gz",
    ".telemetry-2026-01-01-aaaa.jsonl",
    "notes.txt",
]


def test_look_alikes_links_and_folders_survive(home: Path, tmp_path: Path) -> None:
    """Only regular files that this package named with this prefix are compressed, and no link is followed."""
    for name in LOOK_ALIKES:
        (home / name).write_bytes(LINES)
        os.utime(home / name, (0, 0))
    precious = tmp_path / "precious"
    precious.write_bytes(LINES)
    odd = [str(SegmentName("telemetry", TODAY, "s", part)) for part in range(4)]
    (home / odd[0]).symlink_to(precious)
    (home / odd[1]).mkdir()
    os.mkfifo(home / odd[2])
    (home / odd[3]).symlink_to(tmp_path / "nowhere")
    for how in ("gzip", "zstd") if _codec.is_available("zstd") else ("gzip",):
        assert run(home, how) == CompressionResult()
    assert names_in(home) == {*LOOK_ALIKES, *odd}
    assert precious.read_bytes() == LINES


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root")
def test_files_of_another_user_stay(home: Path) -> None:
    """Their copies would be ours, and their owner could not read them any more."""
    path = lay(home)
    os.chown(path, 12345, 12345)
    assert run(home) == CompressionResult()


def test_many_segments(home: Path) -> None:
    """All closed segments of many sessions are compressed in one pass."""
    paths = [lay(home, part, session=f"{number:04x}") for number in range(30) for part in range(3)]
    assert run(home) == CompressionResult(compressed=90)
    assert names_in(home) == {gz(path).name for path in paths}
    assert Counter(all_lines(home)) == Counter(LINES.splitlines() * 90)


# One after the other, and nobody in between.


def test_the_order_of_the_steps(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy is on the disk before it gets its name, and its name before the segment goes."""
    steps: list[str] = []

    def spy(name: str) -> None:
        real = getattr(os, name)

        def spied(*args: Any, **more: Any) -> Any:
            what = args[0]
            path = os.readlink(f"/proc/self/fd/{what}") if isinstance(what, int) else str(what)
            if ".session" not in path and ".jsonl-handler" not in path:
                kind = "draft" if path.endswith(".new") else "segment" if path.endswith(".jsonl") else "directory"
                steps.append(f"{name} {kind}")
            return real(*args, **more)

        monkeypatch.setattr(os, name, spied)

    for name in ("fsync", "rename", "unlink", "utime", "fchmod"):
        spy(name)
    run_on = lay(home)
    steps.clear()
    assert run(home).compressed == 1
    assert steps == ["fchmod draft", "utime draft", "fsync draft", "rename draft", "fsync directory", "unlink segment"]
    assert names_in(home) == {gz(run_on).name}


def during_the_copy(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Have *act* happen once, while a copy is being made."""
    real = _compression.compressor
    acts = [act]

    def acting(how: str) -> Any:
        if acts:
            acts.pop()()
        return real(how)

    monkeypatch.setattr(_compression, "compressor", acting)


def test_a_session_can_not_be_resumed_meanwhile(
    make: Make, home: Path, monkeypatch: pytest.MonkeyPatch, notices: Notices
) -> None:
    """While its highest segment is compressed its name is held; who wants it then takes another and says so."""
    path = lay(home)

    def resume() -> None:
        handler = make(session_id="s")
        handler.handle(record("meanwhile"))
        assert handler.flush(PATIENCE)
        assert handler.session_id != "s"
        handler.close()

    during_the_copy(monkeypatch, resume)
    assert run(home).compressed == 1
    assert text_of(gz(path)) == LINES
    assert messages_of(home) == ["meanwhile"]
    assert "'s' is in use" in notices.wait_for("in use")
    assert not list((home / ".jsonl-handler").glob("*.session"))


@pytest.mark.parametrize("when", ["copy", "fsync", "rename"])
@pytest.mark.parametrize("change", ["append", "touch", "exchange", "delete", "take up"])
def test_a_segment_that_changes_meanwhile_stays(
    home: Path, monkeypatch: pytest.MonkeyPatch, when: str, change: str
) -> None:
    """Whatever happens to it, and at whatever step: it is not deleted, and no copy that lacks something is left."""
    path = lay(home, days=9)
    text = LINES

    def act() -> None:
        nonlocal text
        if change == "append":
            text += b"{}\n"
            with open(path, "ab") as file:
                file.write(b"{}\n")
        elif change == "touch":
            os.utime(path)
        elif change == "exchange":
            text = b"{}\n"
            other = lay(home, 5, text=text)
            other.replace(path)
        elif change == "delete":
            path.unlink()
        else:
            (home / ".jsonl-handler" / "telemetry-s.session").write_text(f' {{"segment": "{path.name}"}}')

    acts = [act]
    if when == "copy":
        during_the_copy(monkeypatch, act)
    else:
        real = getattr(os, when)

        def acting(*args: Any) -> None:
            real(*args)
            if acts:
                acts.pop()()

        monkeypatch.setattr(os, when, acting)
    with live(home):
        result = run(home)
    assert result == CompressionResult()
    left = {name: text_of(home / name) for name in names_in(home)}
    if change == "delete":
        # Gone is gone; at most the copy is there, which is whole.
        assert left in ({}, {gz(path).name: LINES})
    else:
        assert left == {path.name: text}


@pytest.mark.parametrize("how", HOWS)
def test_a_copy_that_does_not_read_back_takes_no_place(home: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """The copy is read before it gets its name; the segment stays, and it is told."""
    path = lay(home)
    real = _compression.write_all
    monkeypatch.setattr(_compression, "write_all", lambda copy, chunk: real(copy, chunk[:-1] + b"?"))
    result = run(home, how)
    assert result.compressed == 0
    assert str(path) in result.problems[0]
    assert names_in(home) == {path.name}


@pytest.mark.parametrize("kind", ["file", "link", "dangling", "folder", "fifo"])
def test_what_has_the_name_of_the_copy_is_left_alone(home: Path, tmp_path: Path, kind: str) -> None:
    """Nothing is written through a planted link, and nothing is replaced; it is told, and the segment stays."""
    path = lay(home)
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    there = gz(path)
    if kind == "file":
        there.write_bytes(b"precious")
    elif kind == "link":
        there.symlink_to(precious)
    elif kind == "dangling":
        there.symlink_to(tmp_path / "nowhere")
    elif kind == "folder":
        there.mkdir()
    else:
        os.mkfifo(there)
    before = os.lstat(there)
    result = run(home)
    assert (result.compressed, len(result.problems)) == (0, 1)
    assert path.read_bytes() == LINES
    assert os.lstat(there).st_ino == before.st_ino
    assert precious.read_bytes() == b"precious"
    assert not (tmp_path / "nowhere").exists()


def test_a_link_planted_at_the_last_moment_is_left_alone(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the temporary name nor the final one is written through a link."""
    path = lay(home)
    monkeypatch.setattr(os, "urandom", bytes)
    draft = home / f".{gz(path).name}.00000000.new"
    draft.symlink_to(tmp_path / "nowhere")
    assert "File exists" in run(home).problems[0]
    draft.unlink()
    during_the_copy(monkeypatch, lambda: gz(path).symlink_to(tmp_path / "nowhere"))
    assert "in the way" in run(home).problems[0]
    assert not (tmp_path / "nowhere").exists()
    assert names_in(home) == {path.name, gz(path).name}


# Both copies there.


@pytest.mark.parametrize("how", HOWS)
def test_interrupted_work_is_finished(home: Path, how: str) -> None:
    """Both copies are there and say the same: the segment goes, and its copy is not made again."""
    path = lay(home)
    run(home, how)
    (copy,) = [home / name for name in names_in(home)]
    before = os.lstat(copy)
    lay(home)
    assert run(home, "gzip") == CompressionResult(compressed=1)
    assert names_in(home) == {copy.name}
    assert os.lstat(copy).st_ino == before.st_ino
    assert not path.exists()


@pytest.mark.parametrize("what", ["less", "more", "other", "damaged", "cut", "empty"])
@pytest.mark.parametrize("how", HOWS)
def test_a_copy_that_says_something_else_costs_no_line(home: Path, what: str, how: str) -> None:
    """Both are kept, and it is told."""
    texts = {"less": LINES[:-10], "more": LINES + b"{}\n", "other": LINES.replace(b"old", b"new")}
    path = lay(home, text=texts.get(what, LINES))
    run(home, how)
    copy = gz(path, _codec.SUFFIXES[how])
    packed = copy.read_bytes()
    damaged = {"damaged": packed[:60] + b"??" + packed[62:], "cut": packed[:-5], "empty": b""}
    copy.write_bytes(damaged.get(what, packed))
    lay(home)
    result = run(home, how)
    assert result.compressed == 0
    assert len(result.problems) == 1
    assert path.read_bytes() == LINES
    assert copy.exists()


def test_a_copy_made_by_hand_of_a_current_segment_costs_no_line(home: Path) -> None:
    """Somebody's `gzip -k` says the same as the live segment for a moment: the segment stays."""
    path = lay(home, age=0)
    gz(path).write_bytes(gzip.compress(LINES))
    with live(home, current=path):
        assert run(home) == CompressionResult()
    assert path.read_bytes() == LINES


# Stopping, and other trouble.


def test_a_stop_leaves_no_temporary_file(home: Path) -> None:
    """At whatever moment it comes: the segment is there, or its whole copy, and nothing else."""
    path = lay(home, text=LINES * 100)
    for patience in range(1000):
        asked = 0

        def stop(patience: int = patience) -> bool:
            nonlocal asked
            asked += 1
            return asked > patience

        done = run(home, stop=stop).compressed
        assert names_in(home) == {gz(path).name if done else path.name}
        if done:
            break
    # It is asked for each chunk, both when the copy is made and when it is read.
    assert asked >= 2 * len(LINES * 100) // 65536
    assert text_of(gz(path)) == LINES * 100


def test_a_full_disk_leaves_no_temporary_file_and_ends_the_pass(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first refusal is told, and no other segment is tried."""
    paths = [lay(home, part) for part in range(5)]
    real = os.write

    def full(descriptor: int, content: Any) -> int:
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith(".new") and bytes(content[:2]) == b"\x1f\x8b":
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, content)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        result = run(home)
    assert (result.compressed, len(result.problems)) == (0, 1)
    assert "No space left" in result.problems[0]
    assert names_in(home) == {path.name for path in paths}
    assert run(home).compressed == 5


def test_trouble_with_one_segment_is_told_once_and_the_rest_go(
    make: Make, home: Path, sweeps: Sweeps, notices: Notices
) -> None:
    """Every later sweep meets it again and does not repeat it."""
    paths = [lay(home, part, session="old") for part in range(3)]
    gz(paths[1]).mkdir()
    handler = make(compress="gzip", max_file_bytes=4096)
    for count in range(1, 4):
        roll(handler)
        sweeps.wait(count)
    assert paths[1].name in notices.wait_for("could not be compressed")
    handler.close()
    assert len(notices.about("could not be compressed")) == 1
    assert [path.exists() for path in paths] == [False, True, False]


def test_compression_that_fails_is_told_and_retention_goes_on(
    make: Make, home: Path, sweeps: Sweeps, notices: Notices, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever goes wrong in it."""

    def broken(*args: Any, **more: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(_compression, "compress", broken)
    old = lay(home, age=90 * DAY)
    roll(make(compress="gzip"))
    sweeps.until(lambda: not old.exists())
    assert "a bug" in notices.wait_for("compression could not run")


def test_one_pass_at_a_time(home: Path) -> None:
    """Whoever finds a sweep in progress leaves it to the other."""
    lay(home)
    with _survey.sweep_lock(home, "telemetry"):
        assert run(home) == CompressionResult()
    assert run(home).compressed == 1


def test_a_directory_that_is_gone_is_no_trouble(logs: Path) -> None:
    """There is nothing to compress where nothing is."""
    assert run(logs) == CompressionResult()
    tidy(logs, "telemetry", stop=never)


def test_a_long_pass_lets_retention_have_its_turn(
    make: Make, home: Path, sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory full of old segments is compressed in turns of some seconds, with a sweep between them."""
    paths = [lay(home, part, session="old") for part in range(6)]
    clock = iter(range(0, 10_000, 3))
    monkeypatch.setattr(_compression, "monotonic", lambda: next(clock))
    roll(make(compress="gzip"))
    sweeps.until(lambda: all(gz(path).exists() for path in paths))
    assert len(sweeps.results) > 1


def test_time_that_is_up_before_the_first_segment_is_no_reason_to_come_again(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without progress there would be no end to it."""
    lay(home)
    clock = iter((0.0, 100.0))
    monkeypatch.setattr(_compression, "monotonic", lambda: next(clock))
    assert run(home) == CompressionResult()


def test_closing_ends_it(make: Make, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large segment keeps no program from ending: what was begun is left for another time."""
    path = lay(home, text=LINES * 5_000)
    begun, reads = threading.Event(), 0
    real = _compression._Work._read

    def read(work: Any) -> bytes:
        nonlocal reads
        reads += 1
        begun.set()
        return real(work)

    monkeypatch.setattr(_compression._Work, "_read", read)
    handler = make(compress="gzip", flush_interval=3600.0)
    handler.handle(record())
    assert handler.flush(PATIENCE)
    assert begun.wait(PATIENCE)
    handler.close()
    assert path.exists()
    assert reads < len(LINES * 5_000) / 65536
    assert not [name for name in names_in(home) if name.startswith(".")]


def test_the_step_at_the_end_compresses_nothing(make: Make, home: Path) -> None:
    """What is done at every exit must be short."""
    path = lay(home)
    handler = make(compress="gzip")
    handler._files.maintenance.ask_sweep = lambda: None  # type: ignore[method-assign]
    handler.handle(record())
    handler.close()
    assert path.exists()


# Temporary files.


def test_temporary_files_of_the_killed_are_tidied_away(home: Path) -> None:
    """By the next sweep; what only looks like one survives, and so does what a link leads to."""
    name = f"telemetry-{TODAY}-s.1.jsonl.gz"
    stale = [f".{name}.01234567.new", f".telemetry-{TODAY}-s.jsonl.zst.89abcdef.new"]
    kept = [
        *(f".{name}.0123456.new", f".{name}.01234567.tmp", f"{name}.01234567.new", f".other-{name}.01234567.new"),
        *(f".telemetry-{TODAY}-s.1.jsonl.01234567.new", f".telemetry-{TODAY}-s.01.jsonl.gz.01234567.new", ".new"),
    ]
    for each in (*stale, *kept):
        (home / each).write_bytes(b"x")
    link = f".{name}.aaaaaaaa.new"
    (home / link).symlink_to(kept[0])
    with _survey.sweep_lock(home, "telemetry"):
        tidy(home, "telemetry", stop=never)
        assert set(stale) < names_in(home)
    tidy(home, "telemetry", stop=never)
    assert names_in(home) == {*kept, link}


def test_where_locks_may_be_hidden_only_old_temporary_files_go(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a network filesystem another host may be at work on a young one."""
    monkeypatch.setattr("jsonl_handler._lockfile.may_hide_locks", lambda path: True)
    young, old = (home / f".telemetry-{TODAY}-s.jsonl.gz.{number * 8}.new" for number in "01")
    for path, age in ((young, HOUR - 60), (old, HOUR + 60)):
        path.write_bytes(b"x")
        os.utime(path, (time.time() - age,) * 2)
    tidy(home, "telemetry", stop=never)
    assert names_in(home) == {young.name}


def test_they_are_tidied_away_without_the_setting_too(make: Make, home: Path, sweeps: Sweeps) -> None:
    """Who switched compression off is not left with them."""
    draft = home / f".telemetry-{TODAY}-s.jsonl.gz.01234567.new"
    draft.write_bytes(b"x")
    roll(make())
    sweeps.wait(1)
    assert not draft.exists()


# What the others make of compressed segments.


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("both", [False, True])
def test_a_resumed_session_goes_on_with_the_next_number(make: Make, home: Path, how: str, both: bool) -> None:
    """What is compressed is closed for good, also while the segment itself is still there; `seq` goes on after it."""
    lay(home, 0), lay(home, 1)
    assert run(home, how).compressed == 2
    if both:
        lay(home, 1)
    handler = make(session_id="s")
    handler.handle(record("new"))
    assert handler.flush(PATIENCE)
    path = home / str(SegmentName("telemetry", TODAY, "s", 2))
    assert handler.path == path
    assert [(line["message"], line["seq"]) for line in lines_of(path)] == [("new", 100)]
    assert handler.session_id == "s"


def test_before_its_first_line_a_resumed_session_says_where_that_will_go(make: Make, home: Path) -> None:
    """`path` names the next number, not the compressed segment."""
    lay(home, 3)
    run(home)
    handler = make(session_id="s", flush_interval=3600.0)
    handler.handle(record("new"))
    assert handler.path == home / str(SegmentName("telemetry", TODAY, "s", 4))


@pytest.mark.parametrize("damage", [b"", b"\x1f\x8b", b"no gzip"])
def test_a_damaged_copy_does_not_keep_a_session_from_going_on(make: Make, home: Path, damage: bytes) -> None:
    """`seq` goes on after what can be read."""
    gz(lay(home, 1)).write_bytes(damage)
    lay(home, 1).unlink()
    lay(home, 0)
    handler = make(session_id="s")
    handler.handle(record("new"))
    assert handler.flush(PATIENCE)
    assert handler.path is not None
    assert lines_of(handler.path)[0]["seq"] == 100
    assert ".2." in handler.path.name


def test_retention_counts_and_deletes_compressed_segments(make: Make, home: Path, sweeps: Sweeps) -> None:
    """The oldest go first, compressed or not; look-alikes and links stay."""
    for part in range(6):
        lay(home, part, session="old", age=(10 - part) * DAY)
    odd = [f"telemetry-{TODAY}-old.7.jsonl.bz2", f"telemetry-{TODAY}-old.jsonl.gz.bak", "telemetry.jsonl.gz"]
    for name in odd:
        (home / name).write_bytes(b"x")
        os.utime(home / name, (0, 0))
    link = f"telemetry-{TODAY}-old.9.jsonl.gz"
    (home / link).symlink_to(odd[0])
    handler = make(compress="gzip", max_files=3)
    roll(handler)
    assert handler.path is not None
    expected = {f"telemetry-{TODAY}-old.{part}.jsonl.gz" for part in (4, 5)} | {handler.path.name, link, *odd}
    sweeps.until(lambda: names_in(home) == expected)
    handler.close()
    assert handler.stats().deleted_files == 4


def test_of_two_copies_both_count_and_the_smaller_stays_longer(home: Path) -> None:
    """Retention that comes before the work is finished deletes one of the two for one file too many, not both."""
    path = lay(home)
    run(home)
    lay(home)
    written = os.lstat(gz(path)).st_mtime_ns
    os.utime(path, ns=(written, written))
    assert _retention.sweep(str(home), "telemetry", _retention.Limits(max_files=2)).deleted == 0
    assert _retention.sweep(str(home), "telemetry", _retention.Limits(max_files=1)).deleted == 1
    assert names_in(home) == {gz(path).name}
    assert _retention.sweep(str(home), "telemetry", _retention.Limits(max_files=0)).deleted == 1


def test_what_compression_saves_is_not_deleted(make: Make, home: Path, sweeps: Sweeps) -> None:
    """Segments are compressed before retention looks at their size."""
    paths = [lay(home, part, session="old", text=LINES * 10) for part in range(10)]
    handler = make(compress="gzip", max_total_bytes=len(LINES) * 50)
    roll(handler)
    sweeps.wait(1)
    assert all(gz(path).exists() for path in paths)


# The module for zstd.


def test_without_a_module_zstd_is_a_problem_that_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments stay uncompressed, which is told; under `strict` it is an error."""
    monkeypatch.setattr(_codec, "_zstd", lambda: None)
    loaded, (problem,) = Settings.load({"compress": "zstd"})
    assert loaded.compress is None
    assert str(problem) == (
        "compress: needs Python 3.14 or the package backports.zstd, got 'zstd'; segments stay uncompressed;"
        ' install "jsonl-handler[zstd]", or use "gzip"'
    )
    with pytest.raises(ConfigError, match=r"backports\.zstd"):
        Settings.load({"compress": "zstd"}, strict=True)
    assert Settings.load({"compress": "gzip"}, strict=True)[0].compress == "gzip"


def test_without_a_module_a_handler_goes_on_uncompressed(
    make: Make, logs: Path, sweeps: Sweeps, notices: Notices, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says so once."""
    monkeypatch.setattr(_codec, "_zstd", lambda: None)
    handler = make(compress="zstd", max_file_bytes=4096)
    for count in range(1, 4):
        roll(handler)
        sweeps.wait(count)
    assert len(segments_of(logs)) == 3
    assert len(notices.about("backports.zstd")) == 1


@pytest.mark.skipif(not _codec.is_available("zstd"), reason="needs the extra zstd or Python 3.14")
def test_without_a_module_a_copy_by_zstd_is_left_alone(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It can't be compared, so both copies stay."""
    path = lay(home)
    run(home, "zstd")
    lay(home)
    monkeypatch.setattr(_codec, "_zstd", lambda: None)
    (problem,) = run(home).problems
    assert "backports.zstd" in problem
    assert names_in(home) == {path.name, gz(path, ".zst").name}


def test_the_module_is_imported_only_when_it_is_asked_for() -> None:
    """A program that does not compress by zstd does not load it."""
    script = (
        "import sys; from jsonl_handler import JsonlHandler; JsonlHandler('logs', compress='gzip');"
        "assert not {'backports', 'compression'} & set(sys.modules)"
    )
    with program(script) as child:
        assert child.wait(PATIENCE) == 0


# Under way together.


def test_rotation_and_compression_at_the_same_time(make: Make, logs: Path) -> None:
    """A session that rolls all the time while its segments are compressed loses no line and has none twice."""
    handler = make(compress="gzip", max_file_bytes=4096, overflow="block", flush_interval=0.0)
    done = threading.Event()

    def compress_all() -> None:
        while not done.is_set():
            run(logs)

    other = threading.Thread(target=compress_all)
    other.start()
    for number in range(2000):
        handler.handle(record(f"{number} " + "x" * 100))
    handler.close()
    done.set()
    other.join(PATIENCE)
    run(logs)
    seqs = [parse_strictly(line)["seq"] for line in all_lines(logs)]
    assert sorted(seqs) == list(range(2000))
    assert len(segments_of(logs)) == 1


@pytest.mark.slow
def test_sessions_that_come_and_go_under_one_name(make: Make, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Resumed again and again while others compress what is left, a session loses no line and has none twice."""
    monkeypatch.setattr("jsonl_handler._closed_segments._QUIET", 0.0)
    done = threading.Event()

    def compress_all() -> None:
        while not done.is_set():
            run(home)

    others = [threading.Thread(target=compress_all) for _ in range(2)]
    for other in others:
        other.start()
    for number in range(rounds(60, 1000)):
        handler = RotatingSessionJsonlHandler(home, session_id="s", fsync="never", max_file_bytes=4096)
        handler.handle(record(str(number)))
        handler.handle(record("x" * 300))
        handler.close()
        handler._files.start_anew()
    done.set()
    for other in others:
        other.join(PATIENCE)
    messages = [parse_strictly(line)["message"] for line in all_lines(home)]
    assert sorted(int(text) for text in messages if not text.startswith("x")) == list(range(rounds(60, 1000)))


KILLED = """
import os, sys
from pathlib import Path
from jsonl_handler import _compression
home, how = Path(sys.argv[1]), sys.argv[2]
real, begun = _compression.compressor, []
def telling(how):
    if not begun:
        begun.append(print("begun", flush=True))
    return real(how)
_compression.compressor = telling
while _compression.compress(home, "telemetry", how, stop=lambda: False).compressed:
    pass
print("done", flush=True)
sys.stdin.readline()
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", HOWS)
def test_a_kill_at_any_moment_costs_no_line(home: Path, how: str) -> None:
    """After `kill -9` each line is there; after a later sweep each is there once, and no temporary file is left."""
    chance = random.Random()
    text = "".join(f'{{"message":"{number} {chance.random()}"}}\n' for number in range(1500)).encode()
    for _ in range(rounds(5, 60)):
        for path in home.glob("*.*"):
            if path.is_file():
                path.unlink()
        for part in range(24):
            # Half of them are the highest of their session, so that the name is held.
            lay(home, part // 2, session="s" if part % 2 else f"{part:x}", text=b'{"part":%d}\n' % part + text)
        expected = Counter(line for path in segments_of(home) for line in path.read_bytes().splitlines())
        with program(KILLED, home, how) as child:
            assert answer(child) == "begun"
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(chance.uniform(0, 0.1))
        assert set(all_lines(home)) == set(expected), names_in(home)
        check_finished(home, how, expected)


def check_finished(home: Path, how: str, expected: Counter[bytes]) -> None:
    """A later sweep sees to what an interrupted one left."""
    recover(home)
    tidy(home, "telemetry", stop=never)
    assert run(home, how).problems == []
    assert Counter(all_lines(home)) == expected
    assert {Path(name).suffix for name in names_in(home)} == {_codec.SUFFIXES[how]}
    assert not list((home / ".jsonl-handler").glob("*.session"))


KILLED_AT = """
import os, signal, sys
from pathlib import Path
from jsonl_handler import _compression, _lockfile
_lockfile.prepare()
home, how, steps = Path(sys.argv[1]), sys.argv[2], 0
signal.alarm(60)
def counted(real):
    def step(*args, **more):
        global steps
        steps -= 1
        if steps < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **more)
    return step
print("ready", flush=True)
for line in sys.stdin:
    steps = int(line)
    child = os.fork()
    if not child:
        for name in ("open", "write", "fsync", "utime", "fchmod", "rename", "link", "unlink", "lstat", "close"):
            setattr(os, name, counted(getattr(os, name)))
        _compression.compress(home, "telemetry", how, stop=lambda: False)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", HOWS)
def test_a_kill_between_any_two_steps_costs_no_line(home: Path, how: str) -> None:
    """Killed before each single call to the system (each third, in the short run): the same holds."""
    ends: list[int] = []
    stride = rounds(3, 1)
    expected = Counter(LINES.splitlines() * 2)
    with program(KILLED_AT, home, how) as child:
        assert answer(child) == "ready"
        while 0 not in ends:
            for path in home.glob("*.*"):
                if path.is_file():
                    path.unlink()
            lay(home, 0), lay(home, 1)
            assert child.stdin is not None
            child.stdin.write(f"{len(ends) * stride}\n")
            child.stdin.flush()
            ends.append(int(answer(child)))
            assert set(all_lines(home)) == set(expected), names_in(home)
            assert len(all_lines(home)) >= 2 * 100
            check_finished(home, how, expected)
    assert set(ends[:-1]) == {-signal.SIGKILL}
    assert len(ends) * stride > 30
