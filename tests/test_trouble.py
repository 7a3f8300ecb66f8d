"""A disk that refuses: the application goes on, the trouble is told once, and nothing is lost within the bounds."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import PATIENCE, Disk, Notices, lines_of, messages_of, record, remove_all, segments_of
from mounts import in_private_mounts, needs_mounts

from jsonl_handler import ConfigError, JsonlFormatter, JsonlHandler

Make = Callable[..., JsonlHandler]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jsonl_handler.pair._FIRST_PAUSE", 0.01)
    monkeypatch.setattr("jsonl_handler.pair._LONGEST_PAUSE", 0.02)


def test_a_file_in_the_directorys_place(make: Make, logs: Path, notices: Notices) -> None:
    """The application runs, the trouble is told once with path and reason, and the records flow when it is mended."""
    logs.write_text("in the way")
    handler = make(flush_interval=0.01)
    handler.handle(record("first"))
    told = notices.wait_for("cannot write")
    assert str(logs) in told
    assert "directory" in told.lower()
    handler.handle(record("second"))
    assert handler.flush(0.1) is False
    logs.unlink()
    assert handler.flush(PATIENCE)
    assert messages_of(logs) == ["first", "second"]
    notices.wait_for("works again")
    assert len(notices.about("cannot write")) == 1
    assert len(notices.about("works again")) == 1
    assert handler.stats().write_errors > 1
    assert "directory" in str(handler.stats().last_error).lower()


def test_a_parent_that_can_not_be_made(make: Make, tmp_path: Path, notices: Notices) -> None:
    """A directory deep below something that is no directory is made as soon as that is mended."""
    (tmp_path / "file").write_text("in the way")
    handler = make(tmp_path / "file" / "deep" / "logs")
    handler.handle(record("first"))
    assert handler.flush(0.1) is False
    (tmp_path / "file").unlink()
    assert handler.flush(PATIENCE)
    assert messages_of(tmp_path / "file" / "deep" / "logs") == ["first"]


def test_a_session_asked_for_by_name_gets_a_fresh_one_when_it_can_not_be_claimed(
    make: Make, logs: Path, notices: Notices
) -> None:
    """Where the last `seq` of the asked session can't be seen, another name keeps (`session`, `seq`) unique."""
    logs.write_text("in the way")
    handler = make(session_id="worker1")
    handler.handle(record("first"))
    assert "'worker1' could not be claimed" in notices.wait_for("worker1")
    logs.unlink()
    assert handler.flush(PATIENCE)
    (line,) = lines_of(logs)
    assert line["session"] == handler.session_id != "worker1"
    assert handler.session_id in segments_of(logs)[0].name


@pytest.mark.untraced
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become another user")
def test_a_directory_without_permission(tmp_path: Path) -> None:
    """A user who may not write there: the program runs, one line on stderr names path and reason."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    script = f"""
import logging, os
from jsonl_handler import JsonlHandler
handler = JsonlHandler({str(closed)!r}, close_timeout=0.1)
logging.getLogger().addHandler(handler)
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
for number in range(100):
    logging.getLogger().warning("record %d", number)
print(handler.stats().pending)
"""
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(0o755)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "100\n"), done.stderr
    told = done.stderr.splitlines()
    assert 1 <= len(told) <= 3
    assert str(closed) in told[0]
    assert "Permission denied" in told[0]


@pytest.mark.mount
@needs_mounts
def test_a_read_only_filesystem(tmp_path: Path) -> None:
    """Records wait while the filesystem is read-only, and flow when it is made writable."""
    script = """
import logging, subprocess, sys
from pathlib import Path
from jsonl_handler import JsonlHandler
place = sys.argv[1]
subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", place], check=True)
handler = JsonlHandler(place + "/logs")
logger = logging.getLogger("app")
logger.addHandler(handler)
for number in range(50):
    logger.warning("record %d", number)
assert handler.flush(0.1) is False
assert "Read-only file system" in handler.stats().last_error, handler.stats()
subprocess.run(["mount", "-o", "remount,rw", place], check=True)
assert handler.flush(20)
(path,) = Path(place, "logs").glob("*.jsonl")
print(len(path.read_text().splitlines()))
"""
    assert in_private_mounts(script, tmp_path) == "50\n"


def test_a_full_disk_loses_nothing_once_space_returns(make: Make, disk: Disk, logs: Path, notices: Notices) -> None:
    """Records accepted while the disk is full are written when there is room again, and none twice."""
    handler = make(flush_interval=0.01)
    handler.handle(record("before"))
    assert handler.flush(PATIENCE)
    disk.fill()
    for number in range(100):
        handler.handle(record(f"full {number}"))
    notices.wait_for("No space left")
    disk.mend()
    handler.handle(record("after"))
    assert handler.flush(PATIENCE)
    assert messages_of(logs) == ["before", *(f"full {number}" for number in range(100)), "after"]
    assert len(notices.about("No space left")) == 1


@pytest.mark.parametrize("short", [None, 50, 1], ids=["whole", "half a line", "a byte"])
@pytest.mark.parametrize("error", [errno.EIO, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.ENOSPC, errno.ESTALE])
def test_whatever_the_disk_says(
    make: Make, disk: Disk, logs: Path, notices: Notices, error: int, short: int | None
) -> None:
    """Every error is waited out alike: told once with its reason, ended once, and each record is there once."""
    handler = make(flush_interval=0.01, max_file_bytes=4096)
    handler.handle(record("before"))
    assert handler.flush(PATIENCE)
    disk.shortest = short
    disk.error = error
    texts = [f"{number} " + "x" * 100 for number in range(100)]
    for text in texts:
        handler.handle(record(text))
    notices.wait_for(os.strerror(error))
    assert os.strerror(error) in str(handler.stats().last_error)
    while handler.stats().write_errors < 3:
        handler.flush(0.01)
    disk.mend()
    assert handler.flush(PATIENCE)
    notices.wait_for("works again")
    assert messages_of(logs) == ["before", *texts]
    assert handler.stats().dropped == 0
    assert len(notices.texts()) == 2


def test_a_session_file_that_can_not_be_written(
    make: Make, logs: Path, notices: Notices, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that refuses at every roll to note the next segment holds the records up, and loses none."""
    handler = make(flush_interval=0.01, max_file_bytes=4096)
    write = os.write

    def refuse(descriptor: int, content: bytes) -> int:
        # The kernel knows it by the name that it was made under.
        if "/.jsonl-handler/" in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
        return write(descriptor, content)

    handler.handle(record("before"))
    assert handler.flush(PATIENCE)
    texts = [f"{number} " + "x" * 100 for number in range(100)]
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", refuse)
        for text in texts:
            handler.handle(record(text))
        notices.wait_for(os.strerror(errno.EDQUOT))
    assert handler.flush(PATIENCE)
    assert messages_of(logs) == ["before", *texts]


def test_a_clock_that_is_set_back(make: Make, logs: Path) -> None:
    """By an hour, by a day or to 1970, and forth again: no record is lost, and `seq` goes on."""
    handler = make(flush_interval=0.01)
    moment = time.time()
    for number, shift in enumerate([0, -3600, -86_400, -moment, 5]):
        handler.handle(record(str(number), created=moment + shift))
        assert handler.flush(PATIENCE)
    assert sorted(messages_of(logs)) == ["0", "1", "2", "3", "4"]
    assert sorted(line["seq"] for line in lines_of(logs)) == [0, 1, 2, 3, 4]
    assert handler.stats().write_errors == 0


@pytest.mark.parametrize("broken", ["deleted", "replaced"])
def test_a_directory_that_goes_away_under_load(make: Make, logs: Path, notices: Notices, broken: str) -> None:
    """Removed, or a file put in its place: what is logged after that is there once it is gone again."""
    handler = make(flush_interval=0.01)
    handler.handle(record("before"))
    assert handler.flush(PATIENCE)
    remove_all(logs)
    if broken == "replaced":
        logs.write_text("in the way")
    for number in range(100):
        handler.handle(record(str(number)))
    if broken == "replaced":
        notices.wait_for("cannot write")
        logs.unlink()
    assert handler.flush(PATIENCE)
    assert messages_of(logs) == [str(number) for number in range(100)]
    assert handler.stats().crash_safe or not os.access("/dev/shm", os.W_OK)


def test_a_full_disk_is_not_talked_about_for_ever(tmp_path: Path) -> None:
    """A program that logs 600 records onto a full disk gets a few lines on stderr, whatever it logs."""
    script = f"""
import errno, logging, os
from jsonl_handler import JsonlHandler
write = os.write
def full(descriptor, content):
    if os.readlink(f"/proc/self/fd/{{descriptor}}").endswith(".jsonl"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return write(descriptor, content)
os.write = full
logging.getLogger().addHandler(JsonlHandler({str(tmp_path)!r}, close_timeout=0.2))
for number in range(600):
    logging.getLogger().error("record %d", number)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    assert "No space left" in done.stderr
    assert len(done.stderr.splitlines()) <= 4, done.stderr
    assert len(done.stderr) < 1000 + 4 * len(str(tmp_path))


def leave_half_a_line(handler: JsonlHandler, disk: Disk) -> None:
    """One line whole and half of another are in the file, and the disk is full."""
    handler.handle(record("first"))
    assert handler.flush(PATIENCE)
    disk.shortest = 50
    disk.fill()
    handler.handle(record("second"))
    assert handler.flush(0.05) is False


def test_a_short_write_goes_on_at_the_byte_where_it_stopped(make: Make, disk: Disk, logs: Path) -> None:
    """Half a line on the disk is completed, not written again."""
    handler = make()
    leave_half_a_line(handler, disk)
    (path,) = segments_of(logs)
    assert not path.read_bytes().endswith(b"\n")
    disk.mend()
    assert handler.flush(PATIENCE)
    assert messages_of(logs) == ["first", "second"]
    assert handler.stats().rotations == 0


def test_an_error_record_does_not_cut_a_pause_short_but_a_flush_does(
    make: Make, disk: Disk, notices: Notices, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk a thousand urgent records cause no thousand attempts."""
    monkeypatch.setattr("jsonl_handler.pair._FIRST_PAUSE", 3600.0)
    handler = make(close_timeout=0.1)
    disk.fill()
    handler.handle(record("urgent", logging.ERROR))
    notices.wait_for("No space left")
    for _ in range(1000):
        handler.handle(record("urgent", logging.ERROR))
    assert handler.stats().write_errors == 1
    disk.mend()
    assert handler.flush(PATIENCE)


def test_a_bug_in_the_file_side_does_not_end_the_writer(
    make: Make, logs: Path, notices: Notices, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is raised on the writer's thread is told, and the batch is tried again."""
    handler = make(flush_interval=0.01)
    with monkeypatch.context() as patch:

        def broken(*_: object) -> bool:
            raise ZeroDivisionError("a bug")

        patch.setattr(handler._files, "write_batch", broken)
        handler.handle(record("kept"))
        assert "a bug" in notices.wait_for("the writer failed")
    assert handler.flush(PATIENCE)
    assert messages_of(logs) == ["kept"]


@pytest.mark.parametrize("where", ["start", "__init__"])
def test_no_thread_can_be_started(make: Make, logs: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """Under a pid limit, or in a subinterpreter, records are written straight through, by the caller."""

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(f"threading.Thread.{where}", refuse)
    handler = make()
    for number in range(3):
        handler.handle(record(str(number)))
        assert len(messages_of(logs)) == number + 1
    assert handler.flush() is True


def test_trouble_is_told_on_stderr_when_nobody_else_listens(tmp_path: Path) -> None:
    """Where our handler is the only one, one line on stderr tells of the trouble, as with `logging.lastResort`."""
    target = tmp_path / "logs"
    target.write_text("in the way")
    script = f"""
import logging
from jsonl_handler import JsonlHandler
logging.getLogger().addHandler(JsonlHandler({str(target)!r}, close_timeout=0.05))
logging.getLogger().warning("a record")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    told = done.stderr.splitlines()
    assert len(told) == 2
    assert told[0].startswith("jsonl_handler: cannot write to")
    assert told[1].startswith("jsonl_handler: 1 records could not be written")


def test_half_a_line_is_cut_when_the_handler_gives_up(make: Make, disk: Disk, logs: Path) -> None:
    """A program that ends on a full disk leaves whole lines behind; should it go on, nothing is lost or twice."""
    handler = make(close_timeout=0.05)
    leave_half_a_line(handler, disk)
    handler.close()
    assert messages_of(logs) == ["first"]
    # The writer has not given up: it may leave another half.
    errors = handler.stats().write_errors
    disk.shortest = 50
    while disk.shortest is not None or handler.stats().write_errors == errors:
        handler.flush(0.01)
    assert messages_of(logs) == ["first"]
    disk.mend()
    handler.handle(record("third"))
    assert handler.flush(PATIENCE)
    assert messages_of(logs) == ["first", "second", "third"]


def test_a_segment_that_somebody_empties_while_the_disk_is_full(make: Make, disk: Disk, logs: Path) -> None:
    """`truncate -s 0` makes room: the line that was half written is written again whole."""
    handler = make()
    leave_half_a_line(handler, disk)
    (path,) = segments_of(logs)
    os.truncate(path, 0)
    disk.mend()
    assert handler.flush(PATIENCE)
    assert messages_of(logs) == ["second"]


def test_a_program_without_stderr_does_not_write_it_into_a_segment(tmp_path: Path) -> None:
    """With the standard descriptors closed, none of our files takes their numbers."""
    script = f"""
import logging, os
from jsonl_handler import JsonlHandler
for number in (0, 1, 2):
    os.close(number)
logging.getLogger().addHandler(JsonlHandler({str(tmp_path)!r}))
logging.getLogger().warning("a record")
logging.getLogger().handlers[0].flush()
for number in (1, 2):
    try:
        os.write(number, b"noise")
    except OSError:
        pass
"""
    subprocess.run([sys.executable, "-c", script], timeout=60, check=True)
    assert messages_of(tmp_path) == ["a record"]
    for path in (tmp_path / ".jsonl-handler").iterdir():
        assert b"noise" not in path.read_bytes()


@pytest.mark.parametrize("directory", [None, "", 5, b"bytes", "nul\0", "lone \ud800 surrogate"])
def test_a_directory_that_is_no_path(directory: object) -> None:
    """What can never be a directory is refused when the handler is made, and says what to give."""
    with pytest.raises(ConfigError, match=r"directory: .* give "):
        JsonlHandler(directory)  # type: ignore[arg-type]


@pytest.mark.parametrize("prefix", ["", "x/y", "../e", "*", "x\n", ".x", 5, None, "x" * 65])
def test_a_prefix_that_no_file_may_have(tmp_path: Path, prefix: object) -> None:
    """A prefix that would lead elsewhere, or hide the files, is refused when the handler is made."""
    with pytest.raises(ConfigError, match="prefix"):
        JsonlHandler(tmp_path, prefix=prefix)  # type: ignore[arg-type]


def test_memory_that_can_not_be_had(make: Make, logs: Path, notices: Notices) -> None:
    """A `buffer_bytes` that the system refuses is told, and the default is used; with strict it is an error."""
    handler = make(buffer_bytes=1 << 62)
    assert "buffer_bytes" in notices.wait_for("memory can't be had")
    handler.handle(record("kept"))
    assert handler.flush(PATIENCE)
    assert messages_of(logs) == ["kept"]
    with pytest.raises(ConfigError, match="buffer_bytes"):
        make(buffer_bytes=1 << 62, strict=True)


def test_a_formatter_whose_encode_forgets_the_newline(make: Make, logs: Path) -> None:
    """A subclass's own `encode` is checked like a line that is given to `write`."""

    class Own(JsonlFormatter):
        def encode(self, entry: logging.LogRecord, session: str | None = None, seq: int | None = None) -> bytes:
            return b'{"message": "own", "seq": %d}' % (seq or 0)

    handler = make()
    handler.setFormatter(Own())
    handler.handle(record())
    handler.handle(record())
    assert handler.flush(PATIENCE)
    assert messages_of(logs) == ["own", "own"]
