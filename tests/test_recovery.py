"""What a crashed session had accepted is put into its files, once, by whoever comes next."""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE, Notices, journals_of, lines_of, messages_of, record, rounds, segments_of
from crashed import Crashed, crash, facts_of, journal_of, say, session_files

from jsonl_handler import JsonlHandler, RotatingSessionJsonlHandler, _recovery, _retention, recover
from jsonl_handler._journal import Journal
from jsonl_handler._journal_layout import size_of
from jsonl_handler._session_file import SessionFile

Make = Callable[..., JsonlHandler]

pytestmark = pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="there is no tmpfs for a journal here")

# A writer that is stuck in its first write to a segment, having written half of it.
STUCK = """
real = os.write
def write(descriptor, content):
    if os.readlink(f"/proc/self/fd/{descriptor}").endswith(".jsonl"):
        real(descriptor, bytes(content)[: len(content) // 2 + 3])
        stuck.set()
        threading.Event().wait()
    return real(descriptor, content)
import threading
stuck = threading.Event()
os.write = write
"""
# One that is let go on, until it writes the line about the loss that it has led to; then there is another loss.
STUCK_IN_FRONT = """
real = os.write
def write(descriptor, content):
    if os.readlink(f"/proc/self/fd/{descriptor}").endswith(".jsonl"):
        if not stuck.is_set():
            stuck.set()
            go_on.wait()
        elif b'"dropped"' in bytes(content):
            real(descriptor, bytes(content)[: len(content) // 2 + 3])
            again.set()
            threading.Event().wait()
    return real(descriptor, content)
import threading
stuck, go_on, again = threading.Event(), threading.Event(), threading.Event()
os.write = write
"""
MORE = "[log.info(str(number)) for number in range(10, 40)]"
SMALL = {"buffer_limit": 10, "flush_batch_size": 10, "overflow_timeout": 0.0, "buffer_bytes": 65536}


class Killed(BaseException):
    """The process is no more."""


@pytest.fixture
def loud() -> Iterator[None]:
    """What is no trouble is told too."""
    logging.getLogger("jsonl_handler").setLevel(logging.INFO)
    yield
    logging.getLogger("jsonl_handler").setLevel(logging.NOTSET)


def hold_rescues(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """Whoever recovers a session sets the first event, and waits for the second one."""
    begun, go_on, real = threading.Event(), threading.Event(), _recovery.rescue

    def rescue(*args: Any) -> Any:
        begun.set()
        assert go_on.wait(PATIENCE)
        return real(*args)

    monkeypatch.setattr(_recovery, "rescue", rescue)
    return begun, go_on


def own_lines(logs: Path, field: str) -> list[dict[str, Any]]:
    return [line for line in lines_of(logs) if line.get("logger") == "jsonl_handler" and field in line]


def assert_nothing_left(logs: Path) -> None:
    assert session_files(logs) == []


def test_recover(logs: Path) -> None:
    """What was accepted is put into its files by `recover`, and a second time there is nothing to put back."""
    crash(logs, 5)
    (path,) = session_files(logs)
    journal = journal_of(path)
    assert recover(logs) == 5
    assert messages_of(logs) == ["0", "1", "2", "3", "4"]
    assert not journal.exists()
    assert_nothing_left(logs)
    assert recover(logs) == 0
    assert messages_of(logs) == ["0", "1", "2", "3", "4"]


def test_recover_where_nothing_is(tmp_path: Path) -> None:
    """A directory that does not exist, or has no sessions, has nothing to recover, and is left as it is."""
    assert recover(tmp_path / "missing") == 0
    assert not (tmp_path / "missing").exists()
    (tmp_path / "empty").mkdir()
    assert recover(str(tmp_path / "empty")) == 0
    assert list((tmp_path / "empty").iterdir()) == []


def test_a_live_session_is_not_touched(make: Make, logs: Path) -> None:
    """Whoever recovers a directory leaves live sessions alone."""
    handler = make(flush_interval=600.0)
    handler.handle(record("waits"))
    (path,) = session_files(logs)
    before = path.read_bytes(), journal_of(path).read_bytes()
    assert recover(logs) == 0
    assert (path.read_bytes(), journal_of(path).read_bytes()) == before
    assert segments_of(logs) == []
    assert handler.stats().crash_safe


@pytest.mark.parametrize("kind", [JsonlHandler, RotatingSessionJsonlHandler])
def test_the_next_handler_recovers(
    kind: type[JsonlHandler | RotatingSessionJsonlHandler], logs: Path, notices: Notices, loud: None
) -> None:
    """A handler that starts in the directory puts them back, counts them, and says so in its stream and aloud."""
    crash(logs, 5, session_id="dead")
    handler = kind(logs)
    handler.handle(record("first"))
    notices.wait_for("5 records of session 'dead'")
    handler.handle(record("second"))
    handler.close()
    assert handler.stats().recovered == 5
    (told,) = own_lines(logs, "recovered")
    assert (told["recovered"], told["ended_session"], told["session"]) == (5, "dead", handler.stats().session_id)
    assert "seq" not in told
    assert messages_of(next(path for path in segments_of(logs) if "dead" in path.name)) == [*map(str, range(5))]
    assert len(notices.about("'dead'")) == 1
    assert_nothing_left(logs)


@pytest.mark.parametrize("kind", [JsonlHandler, RotatingSessionJsonlHandler])
def test_what_is_recovered_while_a_handler_closes_is_told_in_its_stream(
    kind: type[JsonlHandler | RotatingSessionJsonlHandler], logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handler that is closed at once still says in its stream what it has put back."""
    crash(logs, 5)
    begun, go_on = hold_rescues(monkeypatch)
    # Not at the opening, but on the maintenance thread.
    monkeypatch.setattr("jsonl_handler._upkeep.Upkeep.recover_a_few", lambda self: None)
    handler = kind(logs)
    handler.handle(record("only"))
    assert begun.wait(PATIENCE)
    ask = handler._files.maintenance.stop

    def stop() -> None:
        go_on.set()
        ask()

    monkeypatch.setattr(handler._files.maintenance, "stop", stop)
    handler.close()
    assert [line["recovered"] for line in own_lines(logs, "recovered")] == [5]


def test_a_journal_that_is_gone(logs: Path, make: Make, notices: Notices) -> None:
    """After a reboot nobody knows what was lost; that is told once, in the stream and aloud."""
    crash(logs, 5, session_id="dead")
    (path,) = session_files(logs)
    journal_of(path).unlink()
    say(path, boot="another")
    for _ in range(2):
        handler = make()
        handler.handle(record("one"))
        handler._files._look_after(lambda: False, sweep=True)
        handler.close()
    assert [(line["dropped"], line["recovered"]) for line in own_lines(logs, "dropped")] == [(None, 0)]
    assert len(notices.about("nobody knows")) == 1
    assert_nothing_left(logs)


def test_recover_tells_of_a_journal_that_is_gone(logs: Path, notices: Notices) -> None:
    """So does `recover`, aloud."""
    crash(logs, 5)
    (path,) = session_files(logs)
    journal_of(path).unlink()
    assert recover(logs) == 0
    assert recover(logs) == 0
    assert len(notices.about("nobody knows")) == 1
    assert_nothing_left(logs)


def test_not_crash_safe(make: Make, logs: Path) -> None:
    """Who does not want a journal gets none."""
    handler = make(crash_safe=False, flush_interval=600.0)
    handler.handle(record("waits"))
    (path,) = session_files(logs)
    assert (facts_of(path)["journal"], facts_of(path)["next_journal"]) == ("", "")
    assert not handler.stats().crash_safe
    assert journals_of(logs) == []


def test_a_session_without_a_journal_ends_quietly(logs: Path, notices: Notices) -> None:
    """A crashed session that kept no journal has nothing to put back, and nothing is told."""
    crash(logs, 3, crash_safe=False)
    assert recover(logs) == 0
    assert notices.records == []
    assert_nothing_left(logs)


def test_an_untold_loss_is_told(logs: Path) -> None:
    """What the crashed session had dropped and not yet told of is told in its stream; the rest is there once."""
    crash(logs, 10, before=STUCK, after=f"stuck.wait(); {MORE}", **SMALL)
    recovered = recover(logs)
    (told,) = own_lines(logs, "dropped")
    assert told["dropped"] == 20
    assert 10 < recovered < 20
    assert messages_of(logs) == [*map(str, range(10)), *map(str, range(30, 40))]
    assert told["session"] == segments_of(logs)[0].stem.rpartition("-")[2]
    assert_nothing_left(logs)


def test_lines_go_to_the_files_of_their_dates(logs: Path) -> None:
    """Lines of two dates that waited in one journal go to two files."""
    before = """
handler._listener._serve = lambda: time.sleep(600)
late = logging.LogRecord("app", logging.INFO, "app.py", 1, "yesterday", (), None)
late.created -= 86400
handler.handle(late)
"""
    crash(logs, 2, before=before, session_id="dead")
    assert recover(logs) == 3
    one, two = segments_of(logs)
    assert (messages_of(one), messages_of(two)) == (["yesterday"], ["0", "1"])
    assert one.name < two.name


def test_a_removed_segment_is_written_again(logs: Path) -> None:
    """What was being written to a segment that is gone since is written to a new one."""
    crash(logs, 10, before=STUCK, after="stuck.wait()", **SMALL)
    (segment,) = segments_of(logs)
    assert segment.stat().st_size > 0
    segment.unlink()
    assert recover(logs) == 10
    assert messages_of(logs) == [*map(str, range(10))]


def test_half_a_line_is_completed(logs: Path) -> None:
    """A line that was half written is ended, not cut: whoever reads along sees it once."""
    crash(logs, 10, before=STUCK, after="stuck.wait()", **SMALL)
    (segment,) = segments_of(logs)
    begun = segment.read_bytes()
    assert not begun.endswith(b"\n")
    assert 0 < recover(logs) < 10
    assert segment.read_bytes().startswith(begun)
    assert messages_of(logs) == [*map(str, range(10))]


def test_cap_and_mode_are_kept(logs: Path) -> None:
    """Recovered segments are as large, and as private, as the session had wished."""
    crash(logs, 200, max_file_bytes=4096, file_mode=0o640, buffer_limit=1000, flush_batch_size=1000)
    before = os.umask(0)
    try:
        assert recover(logs) == 200
    finally:
        os.umask(before)
    segments = segments_of(logs)
    assert len(segments) > 5
    assert all(path.stat().st_size <= 4096 and path.stat().st_mode & 0o777 == 0o640 for path in segments)
    assert messages_of(logs) == [*map(str, range(200))]


def test_a_session_that_starts_again_goes_on(logs: Path, make: Make) -> None:
    """A session that is asked for by name again goes on in its segment, behind what was recovered."""
    crash(logs, 3, session_id="same", before="log.error('written'); settle()")
    handler = make(session_id="same")
    handler.handle(record("new"))
    handler.close()
    (segment,) = segments_of(logs)
    records = [line for line in lines_of(segment) if "seq" in line]
    assert [(line["message"], line["seq"]) for line in records] == [
        ("written", 0),
        ("0", 1),
        ("1", 2),
        ("2", 3),
        ("new", 4),
    ]
    assert handler.stats().recovered == 3
    assert [line["recovered"] for line in own_lines(logs, "recovered")] == [3]


def test_a_session_that_is_being_recovered_can_be_had(logs: Path, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for the name of a session that another one is just recovering gets it."""
    crash(logs, 3, session_id="same")
    held, asked = hold_rescues(monkeypatch)
    recovering = threading.Thread(target=recover, args=[logs])
    recovering.start()
    assert held.wait(PATIENCE)

    def first_pause(seconds: float) -> None:
        asked.set()
        recovering.join(PATIENCE)

    monkeypatch.setattr("jsonl_handler._session.time.sleep", first_pause)
    handler = make(session_id="same")
    handler.handle(record("new"))
    handler.close()
    assert handler.session_id == "same"
    assert messages_of(logs) == ["0", "1", "2", "new"]


def test_retention_waits_for_recovery(logs: Path) -> None:
    """A crashed session's last segment is not deleted before it is recovered."""
    crash(logs, 3, session_id="dead", before="log.error('written'); settle()")
    (segment,) = segments_of(logs)
    os.utime(segment, (1.0, 1.0))
    limits = _retention.Limits(max_age_days=1.0, max_files=1)
    _retention.sweep(str(logs), "telemetry", limits)
    assert segment.exists()
    assert recover(logs) == 3
    assert messages_of(segment) == ["written", "0", "1", "2"]
    os.utime(segment, (1.0, 1.0))
    _retention.sweep(str(logs), "telemetry", limits)
    assert not segment.exists()


RENEWED = """
path = next((os.path.join(d, f) for d, _, n in os.walk(directory) for f in n if f.endswith(".session")))
named = json.load(open(path))["journal"]
"""


def test_a_journal_that_is_removed_is_made_anew(logs: Path) -> None:
    """A writer whose journal was removed makes a new one, and is as safe as before."""
    after = f"""{RENEWED}
settle()
os.unlink(f"/dev/shm/{{named}}")
log.info("noticed")
settle()
while json.load(open(path))["journal"] == named or not handler.stats().crash_safe:
    time.sleep(0.001)
for number in range(3, 6):
    log.info(f"{{number}}")
"""
    crash(logs, 3, after=after)
    assert recover(logs) == 3
    assert messages_of(logs) == ["0", "1", "2", "noticed", "3", "4", "5"]


def test_a_removed_journal_is_told(logs: Path, make: Make, notices: Notices) -> None:
    """It says so, and goes on."""
    handler = make()
    handler.handle(record("one"))
    (path,) = session_files(logs)
    before = journal_of(path)
    before.unlink()
    assert handler.flush()
    notices.wait_for(f"the journal {before.name} was removed; a new one is made")
    with handler._files._lock:
        # The writer is done with it.
        assert handler.stats().crash_safe
    assert journal_of(path) != before
    assert journal_of(path).exists()


def test_where_no_new_journal_can_be_made_that_is_told(
    logs: Path, make: Make, notices: Notices, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer whose journal was removed, and that can make none, is not crash-safe, and says so."""

    def refuse(descriptor: int, offset: int, size: int) -> None:
        raise OSError(28, "No space left on device")

    handler = make()
    handler.handle(record("one"))
    (path,) = session_files(logs)
    journal_of(path).unlink()
    monkeypatch.setattr(os, "posix_fallocate", refuse)
    assert handler.flush()
    notices.wait_for("No space left on device")
    with handler._files._lock:
        assert not handler.stats().crash_safe
    handler.handle(record("two"))
    handler.close()
    assert messages_of(logs) == ["one", "two"]


@pytest.mark.parametrize("removed", ["session file", "directory"])
def test_a_session_that_is_removed_is_claimed_again(removed: str, logs: Path) -> None:
    """A session whose file, or whole directory, was removed is claimed again, and its lines are as safe as before."""
    # A sweep may be making files in it meanwhile.
    whole = "import shutil\nwhile os.path.exists(directory):\n    shutil.rmtree(directory, ignore_errors=True)"
    remove = "os.unlink(path)" if removed == "session file" else whole
    after = f"""{RENEWED}
{remove}
settle()
for number in range(3, 6):
    log.info(f"{{number}}")
"""
    crash(logs, 3, after=after)
    assert recover(logs) == 3
    assert messages_of(logs) == [*map(str, range(6))]
    assert_nothing_left(logs)


def test_a_session_that_is_claimed_again_names_its_journal_at_once(
    logs: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no moment at which a session file is there and does not say where the waiting lines are."""
    handler = make(flush_interval=600.0)
    handler.handle(record("waits"))
    (path,) = session_files(logs)
    journal = facts_of(path)["journal"]
    path.unlink()
    said, real = [], os.link

    def link(source: Path, target: Path) -> None:
        real(source, target)
        said.append(facts_of(target)["journal"])

    monkeypatch.setattr(os, "link", link)
    assert handler.flush()
    assert said == [journal]
    assert handler.stats().crash_safe


def test_a_session_file_that_can_not_be_removed_names_no_journal(
    logs: Path, make: Make, monkeypatch: pytest.MonkeyPatch, notices: Notices
) -> None:
    """A session that ended, but whose file had to stay, is not taken for a crashed one whose lines are lost."""
    handler = make()
    handler.handle(record("one"))
    (path,) = session_files(logs)
    journal, real = journal_of(path), os.unlink

    def unlink(target: Any, **kwargs: Any) -> None:
        if str(target).endswith(".session"):
            raise PermissionError(13, "Permission denied")
        real(target, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(os, "unlink", unlink)
        handler.close()
    assert notices.about("could not be removed")
    assert path.exists()
    assert not journal.exists()
    assert recover(logs) == 0
    assert notices.about("nobody knows") == []
    handler.handle(record("two"))
    handler.close()
    assert messages_of(logs) == ["one", "two"]


def test_a_forked_child_leaves_its_parents_journal_alone(logs: Path, tmp_path: Path) -> None:
    """What a child logs goes into a journal of its own, and what its parent has waiting is there once."""
    after = f"""{RENEWED}
reader, writer = os.pipe()
told, tell = os.pipe()
child = os.fork()
if not child:
    import signal
    signal.alarm(20)
    os.read(reader, 1)
    for number in range(50):
        log.info(f"child {{number}}")
    handler.flush()
    log.info("child waits")
    os.write(tell, b".")
    os.read(reader, 1)
    os._exit(0)
# What waited was written before the fork.
before = open(f"/dev/shm/{{named}}", "rb").read()
os.write(writer, b".")
os.read(told, 1)
if before == open(f"/dev/shm/{{named}}", "rb").read():
    log.info("untouched")
os.write(writer, b".")
os.waitpid(child, 0)
"""
    crash(logs, 3, after=after)
    # The child's end may have been seen to by its parent.
    recover(logs)
    found = messages_of(logs)
    assert sorted(found) == sorted(["0", "1", "2", "untouched", "child waits", *(f"child {n}" for n in range(50))])


def test_a_journal_that_is_forsaken_is_not_written() -> None:
    """Whoever still holds an arena of a journal that belongs to somebody else writes elsewhere."""
    memory = mmap.mmap(-1, size_of(4096))
    journal = Journal.begin(memory, 4096, "/x")
    arena = journal.arenas[0]
    arena.begin(0)
    arena.memory[arena.tail : arena.tail + 2] = b"x\n"
    arena.tail += 2
    before = memory[:]
    journal.forsake()
    arena.memory[arena.tail : arena.tail + 2] = b"y\n"
    arena.begin(1)
    journal.set_front(b"front\n")
    arena.wipe()
    journal.publish()
    assert memory[:] == before


def test_a_recovery_that_ends_before_the_session_does(logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who recovers may end when all is written and only the session file is left."""
    crash(logs, 3)
    real = SessionFile.note

    def note(self: SessionFile, **changed: str) -> None:
        if "journal" in changed:
            raise Killed
        real(self, **changed)

    monkeypatch.setattr(SessionFile, "note", note)
    with pytest.raises(Killed):
        recover(logs)
    monkeypatch.undo()
    assert messages_of(logs) == ["0", "1", "2"]
    assert recover(logs) == 0
    assert messages_of(logs) == ["0", "1", "2"]
    assert_nothing_left(logs)


@contextlib.contextmanager
def stopping(monkeypatch: pytest.MonkeyPatch, step: int) -> Iterator[list[int]]:
    """Whoever recovers ends at the *step*-th write, with half of it done; gives how many steps there were."""
    taken = [0]
    write, pwrite = os.write, os.pwrite

    def counted(real: Callable[..., int], descriptor: int, content: Any, *at: int) -> int:
        taken[0] += 1
        if taken[0] == step:
            real(descriptor, bytes(content)[: len(content) // 2], *at)
            raise Killed
        return real(descriptor, content, *at)

    def write_segment(descriptor: int, content: Any) -> int:
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith(".jsonl"):
            return counted(write, descriptor, content)
        return write(descriptor, content)

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", write_segment)
        patched.setattr(os, "pwrite", lambda *args: counted(pwrite, *args))
        yield taken


LOSSES = {
    "in a batch": {"before": STUCK, "after": f"stuck.wait(); {MORE}"},
    "in a line of our own": {
        "before": STUCK_IN_FRONT,
        "after": f"stuck.wait(); {MORE}; go_on.set(); again.wait(); [log.info(str(n)) for n in range(40, 80)]",
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("options", LOSSES.values(), ids=LOSSES)
def test_recoveries_that_end_anywhere(
    options: dict[str, Any], logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recovered by some that are killed, at any two moments, each line and each loss is there once."""
    crash(logs, 10, **options, **SMALL)
    crashed = Crashed(logs)
    (path,) = session_files(logs)
    journal_of(path).unlink()
    path.unlink()

    def told(place: Path) -> tuple[list[Any], list[int]]:
        return messages_of(place), [line["dropped"] for line in own_lines(place, "dropped")]

    crashed.plant(tmp_path / "whole")
    with stopping(monkeypatch, 0) as taken:
        recover(tmp_path / "whole")
    expected, steps = told(tmp_path / "whole"), taken[0]
    total = len(expected[0]) + sum(expected[1])
    assert total == (40 if "go_on" not in options["before"] else 80)
    try:
        for first in range(1, steps + 1):
            for second in range(1, rounds(3, steps + 3)):
                place = tmp_path / f"{first}-{second}"
                crashed.plant(place)
                for step in (first, second):
                    with contextlib.suppress(Killed), stopping(monkeypatch, step):
                        recover(place)
                recover(place)
                assert told(place) == expected, (first, second)
                assert_nothing_left(place)
                assert not crashed.journals()
    finally:
        crashed.clear()


def test_programs_that_always_die_at_once_leave_nothing_behind(logs: Path) -> None:
    """Each opens its session, recovers the one before it, and dies: only the last one's journal is there."""
    for _ in range(6):
        crash(logs, 2)
    assert len(session_files(logs)) == 1
    assert recover(logs) == 2
    assert len([text for text in messages_of(logs) if text in {"0", "1"}]) == 12
    assert_nothing_left(logs)


def test_half_a_line_of_a_session_without_a_journal_is_cut(logs: Path) -> None:
    """Nobody knows its rest, and nobody else would cut it."""
    crash(logs, 3, crash_safe=False, after="handler.flush()")
    (segment,) = segments_of(logs)
    with open(segment, "ab") as file:
        file.write(b'{"half')
    assert recover(logs) == 0
    assert messages_of(logs) == ["0", "1", "2"]


def test_a_session_without_its_file_is_not_crash_safe(make: Make, logs: Path) -> None:
    """Nobody would find its journal; the next write makes the file anew."""
    handler = make(flush_interval=600.0)
    handler.handle(record("one"))
    assert handler.stats().crash_safe
    (path,) = session_files(logs)
    path.unlink()
    assert not handler.stats().crash_safe
    assert handler.flush(PATIENCE)
    assert handler.stats().crash_safe
