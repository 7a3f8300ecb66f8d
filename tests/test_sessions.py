"""Sessions: one writer per file, whoever else is there."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import logging.config
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE, Notices, lines_of, messages_of, record, rounds, segments_of

from jsonl_handler import JsonlHandler, RotatingSessionJsonlHandler, _session, _survey
from jsonl_handler._arena import Cursor
from jsonl_handler._session import TakenError, claim, clean_id
from jsonl_handler._session_file import SessionFile

Make = Callable[..., JsonlHandler]
ROOT = Path(__file__).parents[1]


def session_files(logs: Path) -> list[str]:
    """The names of the session files there are."""
    return sorted(path.name for path in (logs / ".jsonl-handler").glob("*.session"))


@contextmanager
def program(script: str, *args: object) -> Iterator[subprocess.Popen[str]]:
    """A Python process of its own that runs *script*."""
    child = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, args)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate(timeout=PATIENCE)


LIVE = """
import logging, sys
from jsonl_handler import JsonlHandler
handler = JsonlHandler(sys.argv[1], session_id=sys.argv[2])
handler.handle(logging.makeLogRecord({"msg": "child", "levelno": 40, "levelname": "ERROR"}))
handler.flush(30)
print(handler.session_id, flush=True)
sys.stdin.readline()
handler.handle(logging.makeLogRecord({"msg": "child again", "levelno": 40, "levelname": "ERROR"}))
handler.close()
print("closed", flush=True)
sys.stdin.readline()
"""


def answer(child: subprocess.Popen[str]) -> str:
    """The next line that a program prints."""
    assert child.stdout is not None
    return child.stdout.readline().strip()


def nod(child: subprocess.Popen[str]) -> None:
    """Let a program go on."""
    assert child.stdin is not None
    child.stdin.write("\n")
    child.stdin.flush()


def test_two_handlers_of_one_process_never_share_a_file(make: Make, logs: Path, notices: Notices) -> None:
    """Given the same `session_id`, the second takes a fresh name and says so."""
    first, second = make(session_id="twin"), make(session_id="twin")
    for handler in (first, second, first, second):
        handler.handle(record(str(handler is first)))
        handler.flush(PATIENCE)
    assert first.session_id == "twin"
    assert second.session_id not in {None, "twin"}
    assert first.path is not None
    assert second.path is not None
    assert messages_of(first.path) == ["True", "True"]
    assert messages_of(second.path) == ["False", "False"]
    told = notices.wait_for("in use")
    assert "'twin'" in told
    assert f"'{second.session_id}'" in told


def test_two_processes_never_share_a_file(make: Make, logs: Path, notices: Notices) -> None:
    """Nor do two processes."""
    with program(LIVE, logs, "twin") as child:
        assert answer(child) == "twin"
        handler = make(session_id="twin")
        handler.handle(record("parent"))
        handler.flush(PATIENCE)
        nod(child)
        assert answer(child) == "closed"
        assert handler.session_id != "twin"
        assert handler.path is not None
        assert messages_of(handler.path) == ["parent"]
        assert sorted(messages_of(logs)) == ["child", "child again", "parent"]
        assert "'twin'" in notices.wait_for("in use")


def test_a_name_is_free_again_after_close(make: Make, logs: Path) -> None:
    """Another process that has ended cleanly holds nothing."""
    with program(LIVE, logs, "name") as child:
        answer(child)
        nod(child)
        assert answer(child) == "closed"
        assert session_files(logs) == []
        handler = make(session_id="name")
        handler.handle(record("parent"))
        assert handler.session_id == "name"
        handler.close()
    assert [line["seq"] for line in lines_of(logs)] == [0, 1, 2]


def test_a_crashed_sessions_name_can_be_claimed_again(make: Make, logs: Path) -> None:
    """After `kill -9` the session file is there but not locked: the next one of that name goes on with it."""
    with program(LIVE, logs, "name") as child:
        answer(child)
        child.send_signal(signal.SIGKILL)
        child.wait(PATIENCE)
    assert session_files(logs) == ["telemetry-name.session"]
    handler = make(session_id="name")
    handler.handle(record("after the crash"))
    handler.close()
    assert [(line["message"], line["seq"]) for line in lines_of(logs)] == [("child", 0), ("after the crash", 1)]
    assert len(segments_of(logs)) == 1
    assert session_files(logs) == []


def test_the_session_file_tells_who_writes_what(make: Make, logs: Path) -> None:
    """While the session lives its file is locked and names the segment; after close it is gone."""
    handler = make(session_id="me")
    assert not logs.exists()
    handler.handle(record())
    handler.flush(PATIENCE)
    path = logs / ".jsonl-handler" / "telemetry-me.session"
    facts = json.loads(path.read_text())
    assert facts["pid"] == os.getpid()
    assert handler.path is not None
    assert facts["segment"] == handler.path.name
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    with pytest.raises(TakenError):
        claim(logs, "telemetry", "me")
    handler.close()
    assert list(path.parent.glob("*.session")) == []
    assert list(path.parent.glob(".*.new")) == []


@pytest.mark.parametrize(
    ("wanted", "cleaned"),
    [
        (None, None),
        ("", None),
        ("../../x", "x"),
        ("../..", None),
        ("🎈🎈", None),
        ("ümlaut", "mlaut"),
        ("\N{KELVIN SIGN}elvin", "elvin"),
        ("x" * 300, "xxxxxxxx"),
        ("MyService-1", "myservic"),
        ("MyService-2", "myservic"),
        ("a-b_c.d e", "abcde"),
        ("---", None),
        ("a\0b\n", "ab"),
        (12345, "12345"),
        (0, "0"),
    ],
)
def test_session_ids_are_cleaned(make: Make, logs: Path, tmp_path: Path, wanted: Any, cleaned: str | None) -> None:
    """The first 8 ASCII letters and digits, in lower case; when nothing is left, a random one."""
    assert clean_id(wanted) == cleaned
    handler = make(session_id=wanted)
    handler.handle(record())
    handler.close()
    assert handler.session_id is not None
    assert len(handler.session_id) == 8 if cleaned is None else handler.session_id == cleaned
    (path,) = segments_of(logs)
    assert path.name.endswith(f"-{handler.session_id}.jsonl")
    assert [entry.name for entry in tmp_path.iterdir()] == ["logs"]


def test_random_names_differ(make: Make, logs: Path) -> None:
    """Two handlers without a `session_id` have two sessions."""
    first, second = make(), make()
    for handler in (first, second):
        handler.handle(record())
    assert first.session_id != second.session_id


def test_names_of_other_prefixes_are_other_sessions(make: Make, logs: Path) -> None:
    """The same `session_id` under two prefixes is no conflict."""
    first, second = make(session_id="x", prefix="a"), make(session_id="x", prefix="b")
    for handler in (first, second):
        handler.handle(record())
        handler.flush(PATIENCE)
    assert (first.session_id, second.session_id) == ("x", "x")
    assert len(segments_of(logs)) == 2


def test_a_link_in_the_session_files_place_is_not_followed(make: Make, logs: Path, tmp_path: Path) -> None:
    """Nothing is written through a link; the handler takes another name and goes on."""
    folder = logs / ".jsonl-handler"
    folder.mkdir(parents=True)
    (tmp_path / "precious").write_text("precious")
    (folder / "telemetry-x.session").symlink_to(tmp_path / "precious")
    handler = make(session_id="x")
    handler.handle(record("kept"))
    assert handler.flush(PATIENCE)
    assert handler.session_id != "x"
    assert messages_of(logs) == ["kept"]
    assert (tmp_path / "precious").read_text() == "precious"


def test_a_link_in_the_folders_place_is_not_followed(make: Make, logs: Path, tmp_path: Path, notices: Notices) -> None:
    """A `.jsonl-handler` that leads elsewhere is told and not used."""
    logs.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (logs / ".jsonl-handler").symlink_to(tmp_path / "elsewhere")
    handler = make(close_timeout=0.05)
    handler.handle(record("kept"))
    assert not handler.flush(0.05)
    assert ".jsonl-handler" in notices.wait_for("cannot write")
    assert list((tmp_path / "elsewhere").iterdir()) == []
    (logs / ".jsonl-handler").unlink()
    assert handler.flush(PATIENCE)
    assert messages_of(logs) == ["kept"]


RACE = """
import os, sys, time
from pathlib import Path
from jsonl_handler import _session, _survey
if sys.argv[3] == "linkless":
    def refuse(*args):
        raise PermissionError(1, "Operation not permitted")
    os.link = refuse
directory, until = Path(sys.argv[1]), time.monotonic() + float(sys.argv[2])
owned = 0
print("ready", flush=True)
sys.stdin.readline()
while time.monotonic() < until:
    try:
        session = _session.claim(directory, "t", "x")
    except _session.TakenError:
        continue
    # Two owners at a time: the second finds the witness of the first. (A session file that somebody
    # removed is nobody's name any more; the next one is another file.)
    witness = directory / f"owner-{os.fstat(session._descriptor).st_ino}"
    os.close(os.open(witness, os.O_CREAT | os.O_EXCL))
    owned += 1
    os.unlink(witness)
    if sys.argv[3] == "removed" and owned % 2:
        # As after a crash.
        os.close(session._descriptor)
    else:
        session.release()
print(owned, flush=True)
"""


REMOVE = """
import contextlib, os, sys, time
print("ready", flush=True)
sys.stdin.readline()
until = time.monotonic() + float(sys.argv[2])
while time.monotonic() < until:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(sys.argv[1] + "/.jsonl-handler/t-x.session")
print("done", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["links", "linkless", "removed"])
def test_claim_and_release_race(tmp_path: Path, kind: str) -> None:
    """Two processes that claim and release one name for a while: never both own it, and both do get it.

    Nor where every other time one crashes instead, and a third one removes whatever it finds.
    """
    seconds = rounds(1, 5)
    with contextlib.ExitStack() as opened:
        scripts = [RACE, RACE] + [REMOVE] * (kind == "removed")
        children = [opened.enter_context(program(script, tmp_path, seconds, kind)) for script in scripts]
        for child in children:
            assert answer(child) == "ready"
        for child in children:
            nod(child)
        counts = [answer(child) for child in children]
        assert [child.wait(PATIENCE) for child in children] == [0] * len(children)
    assert all(int(count) > 10 for count in counts[:2]), counts
    left = [path.name for path in (tmp_path / ".jsonl-handler").iterdir()]
    # The last one may have crashed.
    assert left == [] or (kind == "removed" and left == ["t-x.session"])


def test_claim_crash_and_claim_race(tmp_path: Path) -> None:
    """Eight threads find the file of a crashed session: exactly one of them gets the name."""
    for _ in range(30):
        crashed = claim(tmp_path, "t", "x")
        os.close(crashed._descriptor)
        start = threading.Barrier(8)
        owners: list[SessionFile] = []

        def race(start: threading.Barrier = start, owners: list[SessionFile] = owners) -> None:
            start.wait(PATIENCE)
            try:
                owners.append(claim(tmp_path, "t", "x"))
            except TakenError:
                return

        threads = [threading.Thread(target=race) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert len(owners) == 1
        owners[0].release()


def test_a_file_system_without_hard_links(make: Make, logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAT and some network shares have none: names are still held by one session at a time."""

    def refuse(*args: object, **more: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    first, second = make(session_id="twin"), make(session_id="twin")
    for handler in (first, second):
        handler.handle(record())
        assert handler.flush(PATIENCE)
    assert first.session_id == "twin"
    assert second.session_id != "twin"
    assert len(session_files(logs)) == 2
    first.close()
    third = make(session_id="twin")
    third.handle(record())
    assert third.session_id == "twin"
    assert not list((logs / ".jsonl-handler").glob(".*.new"))


def test_a_crashed_session_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There too a crashed session's name can be claimed again, and a live one's can't."""

    def refuse(*args: object, **more: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    os.close(claim(tmp_path, "t", "x")._descriptor)
    session = claim(tmp_path, "t", "x")
    with pytest.raises(TakenError):
        claim(tmp_path, "t", "x")
    session.release()


def configured(logs: Path, **settings: Any) -> dict[str, Any]:
    """A dictConfig of one handler, on the logger `app`."""
    entry = {"class": "jsonl_handler.JsonlHandler", "directory": str(logs), **settings}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"file": entry},
        "loggers": {"app": {"handlers": ["file"], "level": "INFO"}},
    }


@pytest.mark.parametrize("session_id", [None, "web"])
def test_dict_config_again_goes_on_with_the_session(logs: Path, session_id: str | None) -> None:
    """The new handler continues session, segment and `seq`."""
    for number in range(4):
        logging.config.dictConfig(configured(logs, session_id=session_id))
        for word in "ab":
            logging.getLogger("app").info("%d%s", number, word)
    logging.shutdown()
    lines = lines_of(logs)
    assert [line["message"] for line in lines] == [f"{number}{word}" for number in range(4) for word in "ab"]
    assert [line["seq"] for line in lines] == list(range(8))
    assert len({line["session"] for line in lines}) == 1
    assert len(segments_of(logs)) == 1


def test_dict_config_again_under_a_name_that_another_holds(logs: Path) -> None:
    """A handler that had to take a fresh name hands that one on."""
    with program(LIVE, logs, "web") as child:
        assert answer(child) == "web"
        for number in range(3):
            logging.config.dictConfig(configured(logs, session_id="web"))
            logging.getLogger("app").info(str(number))
        logging.shutdown()
        found = {path.name: messages_of(path) for path in segments_of(logs)}
    assert sorted(found.values()) == [["0", "1", "2"], ["child"]]


def test_dict_config_again_with_two_handlers_of_one_directory(logs: Path) -> None:
    """Each goes on with its own session: no third and fourth begin, and they don't change places."""
    config = configured(logs)
    config["handlers"]["more"] = {**config["handlers"]["file"], "level": "ERROR"}
    config["loggers"]["app"]["handlers"] = ["file", "more"]
    for number in range(3):
        logging.config.dictConfig(config)
        logging.getLogger("app").info(str(number))
        logging.getLogger("app").error("error %d", number)
    logging.shutdown()
    found = sorted(messages_of(path) for path in segments_of(logs))
    assert found == [["0", "error 0", "1", "error 1", "2", "error 2"], ["error 0", "error 1", "error 2"]]


def test_a_late_record_at_the_closed_handler_goes_to_the_new_ones_session(make: Make, logs: Path) -> None:
    """Somebody still holds the old handler: its record lands in the present file, with the next `seq`."""
    old = make()
    old.handle(record("old"))
    old.close()
    new = make()
    new.handle(record("new"))
    old.handle(record("late"))
    new.flush(PATIENCE)
    assert messages_of(logs) == ["old", "new", "late"]
    assert [line["seq"] for line in lines_of(logs)] == [0, 1, 2]
    assert old.session_id == new.session_id


def test_a_late_opening_does_not_take_the_session_from_its_heir(logs: Path) -> None:
    """Another handler took over in the very moment in which a closed one is opened again: that one starts anew."""
    old = RotatingSessionJsonlHandler(logs)
    old.handle(record("old"))
    old.close()
    new = RotatingSessionJsonlHandler(logs)
    new.handle(record("new"))
    assert old.open().session_id != new.session_id
    new.handle(record("more"))
    assert messages_of(logs) == ["old", "new", "more"]
    assert len(segments_of(logs)) == 1
    old.close()
    new.close()


def test_a_session_is_claimed_once_by_all_threads(make: Make, logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller that opens and one that writes straight through, at a time: one claim, one session."""
    files = make(session_id="once")._files
    inside, second, go_on = threading.Event(), threading.Event(), threading.Event()
    real = _session.claim

    def slow(*args: Any, **more: Any) -> SessionFile:
        if inside.is_set():
            second.set()
        inside.set()
        assert go_on.wait(PATIENCE)
        return real(*args, **more)

    monkeypatch.setattr(_session, "claim", slow)
    opening = threading.Thread(target=files.open)
    writing = threading.Thread(target=files.write_batch, args=(b"{}\n", Cursor(0), 3, [(0, 20_000)]))
    opening.start()
    assert inside.wait(PATIENCE)
    writing.start()
    # Were there two claims, the second would come now.
    assert not second.wait(0.2)
    go_on.set()
    for thread in (opening, writing):
        thread.join(PATIENCE)
    assert not second.is_set()
    assert session_files(logs) == ["telemetry-once.session"]
    files.close()


def test_a_live_duplicate_inherits_nothing(make: Make, logs: Path) -> None:
    """Of two handlers built after one that closed, the first goes on with the session, and only it."""
    old = make()
    old.handle(record("old"))
    old.close()
    old.handle(record("late"))
    heir, duplicate = make(), make()
    for handler in (heir, duplicate, heir, duplicate):
        handler.handle(record(str(handler is heir)))
        handler.flush(PATIENCE)
    third = make()
    third.handle(record("third"))
    third.flush(PATIENCE)
    assert heir.session_id == old.session_id
    assert len({heir.session_id, duplicate.session_id, third.session_id}) == 3
    assert heir.path is not None
    assert messages_of(heir.path) == ["old", "late", "True", "True"]
    assert len(segments_of(logs)) == 3


def test_another_name_or_directory_or_prefix_inherits_nothing(make: Make, logs: Path, tmp_path: Path) -> None:
    """Only a handler of the same directory and prefix goes on, and one that asks for another name does not."""
    old = make()
    old.handle(record("old"))
    old.close()
    for handler in (make(prefix="other"), make(session_id="other"), make(tmp_path / "other")):
        handler.handle(record())
        assert handler.session_id != old.session_id
    heir = make()
    heir.handle(record())
    assert heir.session_id == old.session_id


def test_a_directory_reached_by_a_link_is_the_same(make: Make, logs: Path, tmp_path: Path) -> None:
    """The session goes on whatever name the directory is called by."""
    logs.mkdir()
    (tmp_path / "link").symlink_to(logs)
    old = make()
    old.handle(record("old"))
    old.close()
    heir = make(tmp_path / "link")
    heir.handle(record("new"))
    heir.close()
    assert messages_of(logs) == ["old", "new"]
    assert len(segments_of(logs)) == 1


def test_handlers_that_replace_each_other_under_load(logs: Path) -> None:
    """Threads that log at old and new handlers while they are replaced: each record once, one writer per file."""
    handlers = [RotatingSessionJsonlHandler(logs)]
    handlers[0].handle(record("first"))
    stop = threading.Event()
    counts = [0] * 3

    def work(index: int) -> None:
        while not stop.is_set() or counts[index] < 50:
            handlers[counts[index] % len(handlers)].handle(record(f"{index}:{counts[index]}"))
            counts[index] += 1

    threads = [threading.Thread(target=work, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(10):
        handlers[-1].close()
        handlers.append(RotatingSessionJsonlHandler(logs))
        handlers[-1].handle(record("new"))
    stop.set()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive(), "a thread hangs"
    for handler in handlers:
        handler.close()
    found = messages_of(logs)
    expected = [f"{index}:{number}" for index in range(3) for number in range(counts[index])]
    assert sorted(found) == sorted([*expected, "first", *["new"] * 10])
    names = [(line["session"], line["seq"]) for line in lines_of(logs)]
    assert len(set(names)) == len(names)


def test_stale_facts_do_no_harm(tmp_path: Path) -> None:
    """Whatever a session file says, reading it raises nothing, and what can't be read protects all its files."""
    from jsonl_handler._names import SegmentName

    folder = tmp_path / ".jsonl-handler"
    session = claim(tmp_path, "t", "x")
    name = SegmentName.parse("t-2026-11-22-x.jsonl", "t")
    assert name is not None
    for content in (b"", b"[" * 1023, b" null", b" {}", b' {"segment": ["x"]}', b"\xff" * 2000, b' {"boot": {}}'):
        (folder / "t-x.session").write_bytes(content)
        with _survey.survey(tmp_path, "t") as live:
            assert live.protects(name)
    session.note_segment("t-2026-11-22-x.1.jsonl")
    with _survey.survey(tmp_path, "t") as live:
        assert not live.protects(name)
        assert live.protects(name.next())
    session.release()
    with _survey.survey(tmp_path, "t") as live:
        assert not live.protects(name.next())


@pytest.mark.parametrize(
    ("folder", "hidden"),
    [
        ("/srv/logs", False),
        ("/srv/share", True),
        ("/srv/share/deep/down", True),
        ("/srv/shares", False),
        ("/srv/share/local", False),
        ("/srv/with blank/logs", True),
        ("/srv/grün/logs", True),
        ("/srv/sshfs", True),
    ],
)
def test_network_file_systems_are_known_by_their_mounts(
    monkeypatch: pytest.MonkeyPatch, folder: str, hidden: bool
) -> None:
    """The longest mount point above a directory says what it lies on."""
    from jsonl_handler import _lockfile, _mounts

    mounts = (
        "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        "23 22 0:40 / /srv/share rw - nfs4 host:/export rw\n"
        "24 23 8:2 / /srv/share/local rw - xfs /dev/sdb1 rw\n"
        "25 22 0:41 / /srv/with\\040blank rw - cifs //host/a rw\n"
        "26 22 0:42 / /srv/grün rw - 9p share rw\n"
        "27 22 0:43 / /srv/sshfs rw - fuse.sshfs host:/ rw\n"
    )
    monkeypatch.setattr(_mounts, "content_of", lambda path: mounts.encode())
    assert _lockfile.may_hide_locks(Path(folder)) is hidden


def test_a_session_of_another_machine_counts_as_live_for_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a network share its lock may not be seen here: a young session file of another boot is trusted."""
    from jsonl_handler import _lockfile

    session = claim(tmp_path, "t", "x")
    text = session.path.read_text().replace(_lockfile.boot_id(), "0" * 36)
    os.close(session._descriptor)
    session.path.write_text(text)
    monkeypatch.setattr(_lockfile, "may_hide_locks", lambda path: True)
    with pytest.raises(TakenError):
        claim(tmp_path, "t", "x")
    day_ago = time.time() - 90_000
    os.utime(session.path, (day_ago, day_ago))
    claim(tmp_path, "t", "x").release()
