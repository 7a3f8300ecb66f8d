"""What others may plant where we read and write: it is refused whole, told once, and stops nobody else."""

from __future__ import annotations

import datetime
import os
import stat
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Notices, messages_of, record, rounds, segments_of, tmpfs
from crashed import NAMES, Crashed, contents, crash, journal_of, rewritten, say, session_files
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from jsonl_handler import JsonlHandler, _journal_file, _journal_layout, recover
from jsonl_handler._arena import NO_LIMIT
from jsonl_handler._journal_layout import FRONT_BYTES

Make = Callable[..., JsonlHandler]

root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root to give files away")

FRONT, ARENAS = _journal_layout.FRONT, _journal_layout.ARENAS
ARENA = 1 << 15


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crashed]:
    """A session that was killed: two records are in a segment, 40 in its journal."""
    logs = tmp_path_factory.mktemp("template") / "logs"
    crash(logs, 40, before="log.error('1'); log.error('2'); settle()", session_id="dead", buffer_bytes=2 * ARENA)
    left = Crashed(logs)
    yield left
    for path in session_files(logs):
        journal_of(path).unlink(missing_ok=True)


@pytest.fixture
def planted(crashed: Crashed, monkeypatch: pytest.MonkeyPatch) -> Iterator[Crashed]:
    """The same, to be planted."""
    monkeypatch.setattr(_journal_file, "_PATIENCE", 2)
    yield crashed
    crashed.clear()


def assert_refused(planted: Crashed, logs: Path, notices: Notices, make: Make) -> None:
    """Nothing there changes, it is told once, and the handlers that come go on under other names."""
    before, journals = contents(logs), planted.journals()

    assert recover(logs) == 0

    assert (contents(logs), planted.journals()) == (before, journals)
    assert len(notices.about("'dead'")) == 1, notices.texts()
    assert "can't be recovered" in notices.about("'dead'")[0]
    notices.records.clear()

    handler = make(logs, session_id="dead")
    handler.handle(record("still here"))
    assert handler.session_id not in {None, "dead"}
    assert handler.flush()
    for _ in range(3):
        handler._files._look_after(lambda: False, sweep=True)
    handler.close()
    assert len(notices.about("'dead' has crashed and could not be recovered")) == 1, notices.texts()
    assert len(notices.about("can't be recovered")) == 1, notices.texts()
    after = contents(logs)
    assert {name: after.get(name) for name in before} == before
    assert planted.journals() == journals
    assert "still here" in messages_of(logs)


def fields_of(journal: bytes) -> dict[str, Any]:
    found = []
    for at in _journal_layout.SLOTS:
        number, _, length = _journal_layout.HEAD.unpack_from(journal, at)
        found.append((number, journal[at + _journal_layout.HEAD.size :][:length]))
    return dict(zip(NAMES, _journal_layout.FIXED.unpack_from(max(found)[1]), strict=True))


def in_use(journal: bytes) -> int:
    """Which arena the 40 records are in."""
    fields = fields_of(journal)
    return 0 if fields["live0"] else 1


def base(journal: bytes) -> int:
    return ARENAS + in_use(journal) * ARENA


def only(journal: bytes, **changes: Any) -> dict[str, Any]:
    """Changes of the arena that is in use."""
    return {f"{name}{in_use(journal)}": value for name, value in changes.items()}


def poked(journal: bytes, at: int, content: bytes) -> bytes:
    return journal[:at] + content + journal[at + len(content) :]


def promising(target: bytes, **changes: Any) -> Callable[[bytes], bytes]:
    return lambda journal: rewritten(journal, **{"target": target, "start": base(journal), "offset": 0, **changes})


def dated(*marks: tuple[int, int]) -> Callable[[bytes], bytes]:
    def change(journal: bytes) -> bytes:
        start = base(journal)
        made = [(start + offset, day) for offset, day in marks]
        one = in_use(journal) == 0
        return rewritten(journal, dates=made, **({} if one else {"marks0": 0, "marks1": len(made)}))

    return change


TODAY = b"telemetry-2026-11-22-dead.jsonl"
JOURNALS: dict[str, Callable[[bytes], bytes]] = {
    "random header": lambda journal: os.urandom(4096) + journal[4096:],
    "random slots": lambda journal: journal[:1024] + os.urandom(3072) + journal[4096:],
    "random preamble": lambda journal: os.urandom(1024) + journal[1024:],
    "random arenas": lambda journal: journal[:ARENAS] + os.urandom(len(journal) - ARENAS),
    "random after the lines": lambda journal: (
        journal[: base(journal) + 10_000] + os.urandom(len(journal) - base(journal) - 10_000)
    ),
    "zeros in the lines": lambda journal: poked(journal, base(journal) + 100, bytes(300)),
    "a carriage return": lambda journal: poked(journal, base(journal) + 30, b"\r"),
    "no journal at all": lambda journal: b"hello\n",
    "empty": lambda journal: b"",
    "truncated": lambda journal: journal[:-4096],
    "only the header": lambda journal: journal[:4096],
    "over-long": lambda journal: journal + bytes(4096),
    "an arena of another size": lambda journal: poked(journal, 8, struct.pack("<Q", 4096)),
    "an arena of 2**63": lambda journal: poked(journal, 8, struct.pack("<Q", 2**63)),
    # Under its own number, in each of the slots.
    "generation 2**64-1": lambda journal: rewritten(rewritten(journal, generation=2**64 - 2), generation=2**64 - 1),
    "a target above": promising(b"../x.jsonl"),
    "an absolute target": promising(b"/tmp/telemetry-2026-11-22-dead.jsonl"),
    "another prefix": promising(b"other-2026-11-22-dead.jsonl"),
    "another session": promising(b"telemetry-2026-11-22-alive.jsonl"),
    "a target that is no segment": promising(b"passwd"),
    "a target that is no ASCII": promising("telemetry-2026-11-22-déad".encode()),
    "a target with a zero": promising(b"telemetry-2026-11-22-dead.jsonl\0"),
    "a huge offset": promising(TODAY, offset=2**62),
    "an offset of 2**64-1": promising(TODAY, offset=2**64 - 1),
    "a start outside": promising(TODAY, start=2**63),
    "a start in the header": promising(TODAY, start=0),
    "a start in a line": lambda journal: promising(TODAY, start=base(journal) + 5)(journal),
    "a start in the unused arena": lambda journal: promising(TODAY, start=ARENAS + (1 - in_use(journal)) * ARENA)(
        journal
    ),
    "a cap of 2**64-1": lambda journal: rewritten(journal, cap=2**64 - 1),
    "a mode with set-uid": lambda journal: rewritten(journal, mode=0o4755),
    "a third arena": lambda journal: rewritten(journal, older=2),
    "a front longer than its area": lambda journal: rewritten(journal, front=FRONT_BYTES + 1),
    "a front of zeros": lambda journal: rewritten(journal, front=100),
    "a front without an end": lambda journal: poked(rewritten(journal, front=5), FRONT, b"hello"),
    "a front of random bytes": lambda journal: poked(rewritten(journal, front=501), FRONT, os.urandom(500) + b"\n"),
    "a head outside": lambda journal: rewritten(journal, **only(journal, head=2**63)),
    "a head in a line": lambda journal: rewritten(journal, **only(journal, head=base(journal) + 3)),
    "a limit outside": lambda journal: rewritten(journal, **only(journal, limit=2**63)),
    "a limit in a line": lambda journal: rewritten(journal, **only(journal, limit=base(journal) + 50)),
    "no marks": lambda journal: rewritten(journal, dates=[]),
    "marks out of order": dated((0, 20000), (300, 20001), (100, 20002)),
    "marks in a line": dated((0, 20000), (33, 20001)),
    "a mark behind the lines": dated((0, 20000), (30_000, 20001)),
    "a date after 9999": dated((0, 2_999_999)),
    "a date before 0001": dated((0, -2_000_000)),
    "too many marks": dated(*[(0, 20000)] * 100),
    "the wrong number of marks": lambda journal: rewritten(journal, marks0=200, marks1=200),
    "no arena, and a promise": lambda journal: rewritten(journal, live0=0, live1=0, start=FRONT, target=TODAY, front=5),
    "no arena, and a loss": lambda journal: rewritten(journal, live0=0, live1=0, count=3),
}


@tmpfs
@pytest.mark.parametrize("change", JOURNALS.values(), ids=JOURNALS)
def test_a_journal_that_no_session_can_have_left(
    change: Callable[[bytes], bytes], planted: Crashed, logs: Path, notices: Notices, make: Make
) -> None:
    """A planted journal is refused as a whole: no byte of any segment changes, no file is made or deleted."""
    planted.plant(logs, change(planted.journal))
    assert_refused(planted, logs, notices, make)


FACTS: dict[str, dict[str, Any]] = {
    "a journal above": {"journal": "../../tmp/x"},
    "a journal elsewhere": {"journal": "/etc/passwd"},
    "a journal of another name": {"journal": "jsonl-handler-0123456789abcdef.journal.x"},
    "a next journal elsewhere": {"next_journal": "../etc/passwd"},
    "another prefix": {"prefix": "other"},
    "another session": {"session": "alive"},
    "another layout": {"layout": 99},
    "no text": {"journal": 7},
    "no journal key": {"journal": None},
}


@tmpfs
@pytest.mark.parametrize("facts", FACTS.values(), ids=FACTS)
def test_a_session_file_that_says_what_it_can_not(
    facts: dict[str, Any], planted: Crashed, logs: Path, notices: Notices, make: Make
) -> None:
    """A planted session file is refused as a whole, and so is what it names."""
    planted.plant(logs, **facts)
    assert_refused(planted, logs, notices, make)


@tmpfs
@pytest.mark.parametrize("content", [b" garbage", b" []", b" {" * 500, b" \xff\xfe", b"[" * 1000, b' {"layout": 2}'])
def test_a_session_file_that_says_nothing(
    content: bytes, planted: Crashed, logs: Path, notices: Notices, make: Make
) -> None:
    """A session file that can't be read is left for a person to look at."""
    path, _ = planted.plant(logs)
    path.write_bytes(content)
    assert_refused(planted, logs, notices, make)


def _readable(path: Path, journal: Path) -> None:
    journal.chmod(0o640)


def _linked(path: Path, journal: Path) -> None:
    os.link(journal, journal.with_name(f"{journal.name}.link"))


def _a_link(path: Path, journal: Path) -> None:
    journal.rename(journal.with_name(f"{journal.name}.link"))
    journal.symlink_to(f"{journal}.link")


def _a_folder(path: Path, journal: Path) -> None:
    journal.unlink()
    journal.mkdir()


def _with_holes(path: Path, journal: Path) -> None:
    with open(journal, "r+b") as file:
        file.write(struct.pack("<8sQ", b"jsonl\x00j1", 1 << 35))
    os.truncate(journal, _journal_layout.size_of(1 << 35))


@tmpfs
@pytest.mark.parametrize("change", [_readable, _linked, _a_link, _a_folder, _with_holes])
def test_a_journal_that_others_may_have_touched(
    change: Callable[[Path, Path], None], planted: Crashed, logs: Path, notices: Notices, make: Make
) -> None:
    """A journal that others may read, with a second name, or that is no file, is not even opened for its lines."""
    path, journal = planted.plant(logs)
    change(path, journal)
    try:
        assert_refused(planted, logs, notices, make)
    finally:
        journal.with_name(f"{journal.name}.link").unlink(missing_ok=True)
        if journal.is_dir():
            journal.rmdir()


@tmpfs
@root
@pytest.mark.parametrize("given_away", ["journal", "session file"])
def test_a_journal_of_another_owner(
    given_away: str, planted: Crashed, logs: Path, notices: Notices, make: Make
) -> None:
    """A session file can't lay hands on another user's journal."""
    path, journal = planted.plant(logs)
    os.chown(journal if given_away == "journal" else path, 12345, 12345)
    assert_refused(planted, logs, notices, make)


@tmpfs
@root
def test_the_journal_of_another_user_is_not_removed_beside_ones_own(
    planted: Crashed, logs: Path, notices: Notices, make: Make
) -> None:
    """A planted session file with a journal of its own can't have somebody else's removed along with it."""
    path, journal = planted.plant(logs)
    _, victim = planted.plant(logs)
    for mine in (path, journal):
        os.chown(mine, 12345, 12345)
    say(path, journal=victim.name, next_journal=journal.name)
    assert_refused(planted, logs, notices, make)
    assert victim.exists()


@tmpfs
def test_a_copy_of_a_live_directory_can_not_take_its_lines(make: Make, logs: Path, tmp_path: Path) -> None:
    """Whoever recovers a copy of a log directory does not touch the live session's journal."""
    handler = make(logs, flush_interval=600.0)
    handler.handle(record("waits"))
    (path,) = session_files(logs)
    copy = tmp_path / "copy"
    (copy / ".jsonl-handler").mkdir(parents=True)
    (copy / ".jsonl-handler" / path.name).write_bytes(path.read_bytes())

    assert recover(copy) == 0

    assert segments_of(copy) == []
    assert handler.stats().crash_safe
    assert journal_of(path).exists()
    handler.close()
    assert messages_of(logs) == ["waits"]


@tmpfs
def test_a_copy_of_a_crashed_directory_can_not_take_its_lines(logs: Path, tmp_path: Path, notices: Notices) -> None:
    """The lines of a crashed session go to its own directory, even if a copy of that is recovered first."""
    crash(logs, 3)
    (path,) = session_files(logs)
    copy = tmp_path / "copy"
    (copy / ".jsonl-handler").mkdir(parents=True)
    (copy / ".jsonl-handler" / path.name).write_bytes(path.read_bytes())

    assert recover(copy) == 0
    assert notices.about("may be a copy")
    assert recover(logs) == 3
    assert messages_of(logs) == ["0", "1", "2"]


@tmpfs
def test_a_moved_directory_is_recovered(logs: Path, tmp_path: Path) -> None:
    """A log directory may be moved after the crash."""
    crash(logs, 3)
    logs.rename(tmp_path / "moved")
    assert recover(tmp_path / "moved") == 3
    assert messages_of(tmp_path / "moved") == ["0", "1", "2"]


@tmpfs
def test_a_refused_session_stops_no_other(planted: Crashed, logs: Path, notices: Notices, make: Make) -> None:
    """The other crashed sessions are recovered, whatever one of them has been made into."""
    crash(logs, 3, session_id="aaa")
    crash(logs, 3, session_id="zzz")
    path, _ = planted.plant(logs, os.urandom(len(planted.journal)))
    before = path.read_bytes()
    # The second program may have recovered what the first one left.
    assert recover(logs) in {3, 6}
    assert sorted(messages_of(logs)) == sorted(["0", "1", "2"] * 2 + ["1", "2"])
    assert session_files(logs) == [path]
    assert path.read_bytes() == before


@tmpfs
def test_a_linked_folder_is_not_recovered(logs: Path, tmp_path: Path) -> None:
    """The sessions behind a link are another directory's."""
    crash(logs, 3)
    other = tmp_path / "other"
    other.mkdir()
    (other / ".jsonl-handler").symlink_to(logs / ".jsonl-handler")
    before = contents(logs)
    assert recover(other) == 0
    assert contents(logs) == before
    assert segments_of(other) == []
    assert recover(logs) == 3


@tmpfs
def test_a_linked_session_file_is_refused(logs: Path, tmp_path: Path, make: Make, notices: Notices) -> None:
    """A link at a session file's name is not followed, its target stays as it is, and it is told."""
    target = tmp_path / "target"
    target.write_text("precious")
    folder = logs / ".jsonl-handler"
    folder.mkdir(parents=True)
    (folder / "telemetry-dead.session").symlink_to(target)
    assert recover(logs) == 0
    assert notices.about("telemetry-dead.session")
    handler = make(logs, session_id="dead")
    handler.handle(record("still here"))
    handler.close()
    assert handler.session_id != "dead"
    assert notices.about("'dead'")
    assert (target.read_text(), (folder / "telemetry-dead.session").is_symlink()) == ("precious", True)
    assert messages_of(logs) == ["still here"]


def test_a_linked_sweep_lock_is_refused(logs: Path, tmp_path: Path, make: Make, notices: Notices) -> None:
    """A link at the sweep lock's name is not followed, its target stays as it is, and it is told."""
    target = tmp_path / "target"
    target.write_text("precious")
    os.utime(target, (1.0, 1.0))
    folder = logs / ".jsonl-handler"
    folder.mkdir(parents=True)
    (folder / "telemetry.sweep").symlink_to(target)
    handler = make(logs)
    handler.handle(record("one"))
    assert handler.flush()
    assert str(logs) in notices.wait_for(str(logs))
    handler.close()
    assert (target.read_text(), target.stat().st_mtime) == ("precious", 1.0)


@pytest.mark.parametrize("exists", [True, False])
def test_a_linked_segment_is_not_followed(exists: bool, logs: Path, tmp_path: Path, make: Make) -> None:
    """A link at a segment's name is not followed; the records go into the next segment."""
    target = tmp_path / "target"
    if exists:
        target.write_text("precious")
    logs.mkdir()
    handler = make(logs, session_id="mine")
    expected = logs / f"telemetry-{_today()}-mine.jsonl"
    expected.symlink_to(target)
    handler.handle(record("one"))
    handler.close()
    assert target.exists() == exists
    assert not exists or target.read_text() == "precious"
    assert expected.is_symlink()
    assert messages_of(logs / f"telemetry-{_today()}-mine.1.jsonl") == ["one"]


@tmpfs
def test_recovery_does_not_follow_a_linked_segment(logs: Path, tmp_path: Path) -> None:
    """A link at the name of the segment that a crashed session wrote is not followed."""
    crash(logs, 3, before="log.error('first'); settle()", session_id="dead")
    target = tmp_path / "target"
    target.write_text("precious\n")
    (segment,) = segments_of(logs)
    segment.unlink()
    segment.symlink_to(target)
    assert recover(logs) == 3
    assert target.read_text() == "precious\n"
    assert messages_of(segments_of(logs)[-1]) == ["0", "1", "2"]


def _today() -> str:
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def test_files_and_folders_are_private(logs: Path, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under any umask, what is made is its owner's alone; no link is followed, and nothing is inherited."""
    flags: dict[str, int] = {}
    real = os.open

    def opened(path: Any, flag: int, *args: Any, **kwargs: Any) -> int:
        flags[os.fspath(path)] = flags.get(os.fspath(path), -1) & flag
        return real(path, flag, *args, **kwargs)

    monkeypatch.setattr(os, "open", opened)
    before = os.umask(0)
    try:
        handler = make(logs / "below")
        handler.handle(record("one"))
        assert handler.flush()
        modes = {path: stat.S_IMODE(path.lstat().st_mode) for path in [logs, *logs.rglob("*")]}
        journals = [Path(name) for name in flags if name.startswith("/dev/shm/jsonl")]
        shown = {path: stat.S_IMODE(path.lstat().st_mode) for path in journals if path.exists()}
        handler.close()
    finally:
        os.umask(before)
    assert {path: mode for path, mode in modes.items() if path.is_dir() and mode != 0o700} == {}
    files = {path: mode for path, mode in modes.items() if not path.is_dir()} | shown
    assert len([path for path in files if path.suffix == ".jsonl"]) == 1
    assert all(mode == 0o600 for path, mode in files.items() if path.exists() or path in shown)
    ours = {name: flag for name, flag in flags.items() if name.startswith(str(logs)) or name in map(str, journals)}
    assert len(ours) >= 4
    assert all(flag & os.O_NOFOLLOW and flag & os.O_CLOEXEC for flag in ours.values()), ours


# A mutation is a place (where it hurts, or anywhere) and what stands there then.
places = st.one_of(
    st.integers(0, 4095), st.integers(FRONT, FRONT + 200), st.integers(0, 20_000), st.integers(0, 1 << 30)
)
mutations = st.lists(
    st.tuples(places, st.one_of(st.binary(min_size=1, max_size=1), st.binary(min_size=1, max_size=40), st.just(b"\n"))),
    min_size=1,
    max_size=5,
)
numbers = st.one_of(st.integers(0, 80_000), st.sampled_from([2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1, NO_LIMIT]))
small = st.integers(0, 255)
headers = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("start", "offset", "cap", "head0", "limit0", "head1", "limit1", "count"), numbers),
        **dict.fromkeys(("older", "live0", "live1", "marks0", "marks1"), small),
        "mode": st.integers(0, 65535),
        "front": st.integers(0, 65535),
        "first": st.floats(),
        "last": st.floats(),
        "target": st.one_of(st.binary(max_size=120), st.just(TODAY)),
        "dates": st.lists(st.tuples(numbers, st.integers(-(2**31), 2**31 - 1)), max_size=20),
        "generation": st.integers(0, 2**64 - 1),
    },
)


@pytest.mark.slow
@tmpfs
def test_no_mutation_of_a_journal_does_harm(crashed: Crashed, tmp_path: Path) -> None:
    """Whatever a journal is made into, recovery ends, raises nothing, writes whole lines only, and only appends."""
    at = len(list(tmp_path.iterdir()))

    @hypothesis_settings(
        max_examples=rounds(150, 5000), deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(mutated=mutations, header=st.none() | headers, length=st.none() | st.integers(0, 1 << 17))
    def attack(mutated: list[tuple[int, bytes]], header: dict[str, Any] | None, length: int | None) -> None:
        nonlocal at
        at += 1
        logs = tmp_path / f"{at}" / "logs"
        journal = crashed.journal
        if header is not None:
            journal = rewritten(journal, **header)
        for place, content in mutated:
            journal = poked(journal, place % len(journal), content)[: len(journal)]
        if length is not None:
            journal = journal[:length].ljust(length, b"\0")
        try:
            path, place = crashed.plant(logs, journal)
            recovered = recover(logs)
            assert {entry.name for entry in logs.parent.iterdir()} == {"logs"}
            segments = {segment.name: segment.read_bytes() for segment in logs.glob("*") if segment.is_file()}
            for name, content in segments.items():
                assert content.startswith(crashed.segments.get(name, b""))
                assert content == b"" or content.endswith(b"\n")
                for line in content.splitlines():
                    line.decode()
            if path.exists():
                assert (segments, recovered) == (crashed.segments, 0)
                assert place.read_bytes() == journal
            assert recover(logs) == 0
        finally:
            crashed.clear(logs.parent)

    attack()


@pytest.mark.slow
@tmpfs
def test_no_mutation_of_a_session_file_does_harm(crashed: Crashed, tmp_path: Path) -> None:
    """So it is with what a session file is made into; the lines are put back whole or not at all."""
    at = 0

    @hypothesis_settings(
        max_examples=rounds(150, 5000), deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(st.lists(st.tuples(st.integers(0, 420), st.binary(min_size=1, max_size=8)), min_size=1, max_size=4))
    def attack(mutated: list[tuple[int, bytes]]) -> None:
        nonlocal at
        at += 1
        logs = tmp_path / f"{at}" / "logs"
        try:
            path, journal = crashed.plant(logs)
            content = path.read_bytes()
            for place, replaced in mutated:
                content = poked(content, place, replaced)
            path.write_bytes(content)
            recovered = recover(logs)
            assert recovered in {0, 40}
            assert {entry.name for entry in logs.parent.iterdir()} == {"logs"}
            if recovered:
                assert messages_of(logs) == ["1", "2", *map(str, range(40))]
                assert not path.exists()
            else:
                assert {name: (logs / name).read_bytes() for name in crashed.segments} == crashed.segments
                assert journal.exists()
        finally:
            crashed.clear(logs.parent)

    attack()
