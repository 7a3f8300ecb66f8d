"""The journal's memory is read back as it was written, whatever moment its process ended at; its files are found."""

from __future__ import annotations

import binascii
import fcntl
import mmap
import os
import tempfile
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import tmpfs
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from jsonl_handler import _journal_file, _journal_layout, _lockfile
from jsonl_handler._arena import MOST_MARKS
from jsonl_handler._journal import Journal
from jsonl_handler._journal_layout import CorruptError, size_of
from jsonl_handler._losses import Loss, Losses

ARENA = 4096
DAY = 86400.0

moments = st.floats(0, 4e9)
losses = st.none() | st.builds(
    Loss, reason=st.text(max_size=60), first=moments, last=moments, count=st.integers(1, 2**40)
)
days = st.integers(-700_000, 2_900_000)
lines = st.lists(st.binary(min_size=1, max_size=30).map(lambda text: text.hex().encode() + b"\n"), max_size=20)
targets = st.from_regex(r"[a-z0-9._-]{1,100}", fullmatch=True)


def blank() -> mmap.mmap:
    return mmap.mmap(-1, size_of(ARENA))


def begun(memory: mmap.mmap, lost: Losses | None = None) -> Journal:
    journal = Journal.begin(memory, ARENA, "/logs/.jsonl-handler/t-1.session")
    journal.serve(lost or Losses(), 5000, 0o640)
    return journal


def copied(memory: mmap.mmap) -> mmap.mmap:
    copy = blank()
    copy[:] = memory[:]
    return copy


@hypothesis_settings(deadline=None)
@given(
    older=st.integers(0, 1),
    loss=losses,
    front=st.none() | st.binary(max_size=200).map(lambda text: text.hex().encode() + b"\n"),
    arenas=st.tuples(st.none() | st.tuples(days, lines, days, lines), st.none() | st.tuples(days, lines, days, lines)),
    promised=st.none() | st.tuples(targets, st.integers(0, 2**62), st.integers(4096, 2**62)),
)
def test_what_is_published_is_parsed(
    older: int,
    loss: Loss | None,
    front: bytes | None,
    arenas: tuple[tuple[int, list[bytes], int, list[bytes]] | None, ...],
    promised: tuple[str, int, int] | None,
) -> None:
    """Whatever a journal says is there when another process reads it."""
    memory, lost = blank(), Losses()
    journal = begun(memory, lost)
    journal.older = older
    for arena, content in zip(journal.arenas, arenas, strict=True):
        if content is None:
            continue
        arena.begin(content[0])
        for day, some in ((None, content[1]), (content[2], content[3])):
            if day is not None:
                arena.mark(day)
            for line in some:
                memory[arena.tail : arena.tail + len(line)] = line
                arena.tail += len(line)
                arena.count += 1
    if front is not None:
        journal.set_front(front)
    lost.present = loss
    live = [arena for arena in journal.arenas if arena.live]
    if promised is not None and live and front is None:
        journal.limit(promised[2], 0o660)
        journal.pledge(promised[0], promised[1], live[0].head)
    journal.publish()

    found = Journal.parse(copied(memory))

    assert found is not None
    assert (found.older, found.front, found.promise) == (older, journal.front, journal.promise)
    for there, here in zip(found.arenas, journal.arenas, strict=True):
        assert there.live == here.live
        if here.live:
            assert (there.head, there.tail, there.count, there.marks) == (here.head, here.tail, here.count, here.marks)
    if loss is None:
        assert found.owed is None
    else:
        assert found.owed is not None
        assert (found.owed.count, found.owed.first, found.owed.last) == (loss.count, loss.first, loss.last)
        assert loss.reason.startswith(found.owed.reason.rstrip("\N{REPLACEMENT CHARACTER}"))


def test_most_marks_and_the_longest_name_fit_into_a_slot() -> None:
    """The fullest header there can be stays within its slot."""
    memory, lost = blank(), Losses()
    journal = begun(memory, lost)
    for arena in journal.arenas:
        arena.begin(0)
        for day in range(1, 2 * MOST_MARKS):
            memory[arena.tail : arena.tail + 2] = b"x\n"
            arena.tail += 2
            arena.mark(day)
    lost.present = Loss("r" * 1000, 1.0, 2.0, 3)
    journal.pledge("p" * 100, 1, journal.arenas[0].base)

    found = Journal.parse(copied(memory))

    assert found is not None
    assert [len(arena.marks) for arena in found.arenas] == [MOST_MARKS, MOST_MARKS]
    assert found.promise == journal.promise


def test_a_store_torn_at_any_byte_leaves_what_was_before() -> None:
    """A header that is half written, from the front or from the back, is not believed."""
    memory = blank()
    journal = begun(memory)
    for arena in journal.arenas:
        arena.begin(3)
    for number in range(4):
        before = copied(memory)
        journal.pledge(f"segment-{number}", number, journal.arenas[0].base)
        changed = [at for at in range(len(memory)) if memory[at] != before[at]]
        first, last = changed[0], changed[-1] + 1
        for torn in range(first, last + 1):
            for start, end in ((first, torn), (torn, last)):
                mixed = copied(before)
                mixed[start:end] = memory[start:end]
                found = Journal.parse(mixed)
                assert found is not None
                whole = mixed[first:last] == memory[first:last]
                assert found.promise.target == (
                    f"segment-{number}" if whole else f"segment-{number - 1}" * (number > 0)
                )


@pytest.mark.parametrize("generation", [2**63, 2**64 - 1])
def test_a_generation_that_nobody_reaches_is_none(generation: int) -> None:
    """A header that could have no successor is not believed."""
    memory = blank()
    journal = begun(memory)
    journal.arenas[0].begin(0)
    at = _journal_layout.SLOTS[1]
    number, _, length = _journal_layout.HEAD.unpack_from(memory, at)
    assert number == 1
    body = memory[at + _journal_layout.HEAD.size :][:length]
    slot = _journal_layout.HEAD.pack(generation, binascii.crc32(body, generation & 0xFFFFFFFF), length) + body
    there = _journal_layout.SLOTS[generation & 1]
    memory[there : there + len(slot)] = slot
    if there == at:
        memory[_journal_layout.SLOTS[0] : _journal_layout.SLOTS[0] + 1] = b"x"
        with pytest.raises(CorruptError):
            Journal.parse(memory)
    else:
        found = Journal.parse(memory)
        assert found is not None
        assert found._generation == 1


@pytest.mark.parametrize(
    "content", [b"", b"x" * 100, bytes(10_000)[:10], os.urandom(1024), b"jsonl\0j1" + b"\xff" * 1016]
)
def test_what_is_no_journal_is_told_by_its_beginning(content: bytes) -> None:
    """A beginning that this package has not written is an error of ours, whatever it is."""
    with pytest.raises(CorruptError):
        _journal_layout.read_preamble(content)


@pytest.fixture
def name(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a journal, in a place where no other program looks for orphans."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as place:
        monkeypatch.setattr(_journal_file, "PLACE", Path(place))
        yield _journal_file.new_name()


@tmpfs
def test_a_journal_is_private_and_reserved(name: str) -> None:
    """Its file may be read by its owner alone, whatever the umask is, and all of its space is there."""
    before = os.umask(0)
    try:
        made = _journal_file.create(name, ARENA, Path("/logs/.jsonl-handler/t-1.session"))
    finally:
        os.umask(before)
    path = _journal_file.PLACE / name
    status = path.stat()
    assert (status.st_mode & 0o7777, status.st_size) == (0o600, size_of(ARENA))
    assert status.st_blocks * 512 >= status.st_size
    assert not os.get_inheritable(made._descriptor)
    made.remove()
    assert not path.exists()


@tmpfs
def test_a_journal_is_never_made_over_another(name: str) -> None:
    """Whatever bears its name already, be it a link, stays as it is."""
    target = _journal_file.PLACE / f"{name}.target"
    path = _journal_file.PLACE / name
    path.symlink_to(target)
    with pytest.raises(FileExistsError):
        _journal_file.create(name, ARENA, Path("/x"))
    assert path.is_symlink()
    assert not target.exists()


@tmpfs
def test_no_room_for_a_journal_leaves_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal that can't be reserved is no journal, and no file."""

    def refuse(descriptor: int, offset: int, size: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(OSError, match="No space"):
        _journal_file.create(name, ARENA, Path("/x"))
    assert not (_journal_file.PLACE / name).exists()


@tmpfs
def test_a_journal_takes_at_most_half_of_the_memory_that_is_free(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistaken size must not take a whole machine's memory, which is reserved at once."""
    monkeypatch.setattr(_journal_file, "_ALWAYS_FINE", ARENA)
    free = [4 * size_of(ARENA)]
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_bavail=free[0], f_frsize=1))
    _journal_file.create(name, ARENA, Path("/x")).remove()
    free[0] = 2 * size_of(ARENA) - 1
    with pytest.raises(OSError, match="more than half of what is free"):
        _journal_file.create(name, ARENA, Path("/x"))
    assert not (_journal_file.PLACE / name).exists()


@tmpfs
def test_a_live_journal_is_not_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a live process writes is left alone, whoever asks for it."""
    monkeypatch.setattr(_journal_file, "_PATIENCE", 2)
    made = _journal_file.create(name, ARENA, Path("/x"))
    with pytest.raises(CorruptError, match="lives"):
        _journal_file.find(name, os.geteuid())
    made.remove()


def left_and_found(name: str) -> tuple[_journal_file.FoundFile, Journal]:
    """A journal in use whose process is gone, as another one finds it."""
    made = _journal_file.create(name, ARENA, Path("/nowhere/x.session"))
    made.journal.arenas[0].begin(1)
    _lockfile.close(made._descriptor)
    found = _journal_file.find(name, os.geteuid())
    assert found is not None
    assert found.journal is not None
    return found, found.journal


@tmpfs
def test_what_is_found_is_changed_in_the_file_too(name: str) -> None:
    """Recovery's notes are in the file, so that the next one goes on from there."""
    found, journal = left_and_found(name)
    assert found.session_file == Path("/nowhere/x.session")
    journal.set_front(b"front\n")
    journal.pledge("target", 7, journal.front_at)
    found.close()

    again = _journal_file.find(name, os.geteuid())

    assert again is not None
    assert again.journal is not None
    assert again.journal.promise.target == "target"
    assert again.journal.memory[again.journal.front_at :][:6] == b"front\n"
    again.remove()
    again.close()


@tmpfs
def test_a_journal_that_is_gone_is_none(name: str) -> None:
    """A journal that is not there is not found, and that is no error."""
    assert _journal_file.find(name, os.geteuid()) is None


@tmpfs
@pytest.mark.parametrize("state", ["old", "young", "live", "named", "foreign", "cut"])
def test_orphans(name: str, state: str, tmp_path: Path) -> None:
    """Only a journal of ours that is a day old, whose process is gone and that nobody names, is removed."""
    owner = tmp_path / ("d" * 200) / ("e" * 200) / ("f" * 200) / ("g" * 200) / ("h" * 200) / "t-1.session"
    made = _journal_file.create(name, ARENA, owner if state == "cut" else tmp_path / "t-1.session")
    path = _journal_file.PLACE / name
    if state == "foreign":
        made.journal.memory[:8] = b"whatever"
    old = time.time() - DAY - 60
    os.utime(path, None if state == "young" else (old, old))
    if state != "live":
        _lockfile.close(made._descriptor)
    asked: list[Path] = []

    def is_named(session_file: Path, journal: str) -> bool:
        assert journal == name
        asked.append(session_file)
        return state == "named"

    _journal_file.remove_orphans(is_named, lambda: False)

    assert path.exists() == (state != "old")
    assert asked == ([tmp_path / "t-1.session"] if state in {"old", "named"} else [])
    if state == "live":
        made.remove()


@tmpfs
def test_a_touched_journal_is_no_orphan(name: str) -> None:
    """A live session shows that its journal is in use, also to those who can't see its session file."""
    made = _journal_file.create(name, ARENA, Path("/x"))
    os.utime(_journal_file.PLACE / name, (1.0, 1.0))
    made.touch()
    assert time.time() - (_journal_file.PLACE / name).stat().st_mtime < 60
    made.remove()
    made.touch()


@tmpfs
def test_the_lock_of_a_journal_is_its_own(name: str) -> None:
    """What a forked child inherits with the map does not hold the lock."""
    made = _journal_file.create(name, ARENA, Path("/x"))
    _lockfile.close(made._descriptor)
    descriptor = os.open(_journal_file.PLACE / name, os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(descriptor)


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("arena", ["never used", "in use"])
def test_memory_that_nobody_needs_is_gone_at_once(arena: str) -> None:
    """A journal that was made for nothing does not wait for the garbage collector with its memory."""
    journal = Journal.anonymous(ARENA)
    if arena == "in use":
        journal.arenas[0].begin(1)
    gone = weakref.ref(journal)

    del journal

    assert gone() is None


@tmpfs
@pytest.mark.usefixtures("uncollected")
def test_what_was_found_is_gone_at_once(name: str) -> None:
    """A journal that was put back does not wait for the garbage collector with its copy."""
    found, journal = left_and_found(name)
    gone = weakref.ref(journal)
    found.remove()
    found.close()

    del found, journal

    assert gone() is None


def test_an_arena_outlives_its_journal() -> None:
    """Who still holds an arena of memory that is no longer used may go on with it; nobody is told."""
    arena = begun(blank()).arenas[0]

    arena.begin(1)
    arena.forget()

    assert not arena.live
