"""`RotatingSessionJsonlHandler`: alone, behind the standard library's pair, and behind our own."""

from __future__ import annotations

import errno
import logging
import logging.config
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from logging.handlers import QueueHandler, QueueListener
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE, Disk, Notices, lines_of, messages_of, record, segments_of

from jsonl_handler import (
    BatchQueueListener,
    ConfigError,
    JsonlHandler,
    RecordBuffer,
    RotatingSessionJsonlHandler,
    SessionQueueHandler,
    Settings,
)

Alone = Callable[..., RotatingSessionJsonlHandler]


@pytest.fixture
def alone(logs: Path) -> Iterator[Alone]:
    """Makes handlers on `logs`, and closes them at the end."""
    made: list[RotatingSessionJsonlHandler] = []

    def build(**settings: Any) -> RotatingSessionJsonlHandler:
        made.append(RotatingSessionJsonlHandler(logs, **settings))
        return made[-1]

    yield build
    for handler in made:
        handler.close()


def check_counts(handler: RotatingSessionJsonlHandler, logs: Path) -> None:
    """What was counted is what is in the files."""
    stats = handler.stats()
    assert stats.accepted == stats.written + stats.dropped + stats.pending
    assert stats.written == len(messages_of(logs))
    assert stats.bytes_written == sum(path.stat().st_size for path in segments_of(logs))


def test_each_record_is_in_the_file_when_the_call_returns(alone: Alone, logs: Path) -> None:
    """No buffer and no thread stand in between."""
    handler = alone(session_id="s")
    assert (handler.path, handler.baseFilename, handler.session_id) == (None, "", None)
    assert not logs.exists()
    for number in range(3):
        handler.handle(record(str(number)))
        assert messages_of(logs) == [str(n) for n in range(number + 1)]
    assert [line["seq"] for line in lines_of(logs)] == [0, 1, 2]
    assert {line["session"] for line in lines_of(logs)} == {"s"} == {handler.session_id}
    assert handler.path == segments_of(logs)[0]
    assert handler.baseFilename == str(handler.path)
    handler.close()
    check_counts(handler, logs)
    assert list((logs / ".jsonl-handler").glob("*.session")) == []


def test_it_works_from_dict_config(logs: Path) -> None:
    """With level, filters and formatter as any handler."""
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"short": {"format": "%(levelname)s: %(message)s"}},
            "filters": {"app": {"name": "app"}},
            "handlers": {
                "file": {
                    "class": "jsonl_handler.RotatingSessionJsonlHandler",
                    "directory": str(logs),
                    "level": "WARNING",
                    "filters": ["app"],
                    "formatter": "short",
                    "max_file_bytes": 4096,
                }
            },
            "root": {"handlers": ["file"], "level": "DEBUG"},
        }
    )
    logging.getLogger("app").warning("kept")
    logging.getLogger("app").info("too low")
    logging.getLogger("other").warning("filtered")
    logging.shutdown()
    assert lines_of(logs) == [{"message": "WARNING: kept"}]


def test_it_rotates_and_keeps_its_limits(alone: Alone, logs: Path) -> None:
    """The file settings hold here too."""
    handler = alone(max_file_bytes=4096, context={"service": "web"}, max_record_bytes=1024, file_mode=0o640)
    before = os.umask(0o022)
    try:
        for _ in range(20):
            handler.handle(record("x" * 2000))
    finally:
        os.umask(before)
    handler.close()
    assert len(segments_of(logs)) == handler.stats().rotations + 1 > 4
    for path in segments_of(logs):
        assert path.stat().st_size <= 4096
        assert path.stat().st_mode & 0o777 == 0o640
        header, *lines = lines_of(path)
        assert header["context"] == {"service": "web"}
        assert all(line["truncated"] for line in lines)


@pytest.mark.parametrize("key", ["flush_interval", "buffer_limit", "overflow", "close_timeout"])
def test_settings_of_the_buffer_are_refused(logs: Path, key: str) -> None:
    """There is no buffer: who sets one up should hear that it does nothing."""
    value = Settings.load({})[0]
    with pytest.raises(ConfigError, match="buffer") as caught:
        RotatingSessionJsonlHandler(logs, **{key: getattr(value, key)})
    assert caught.value.where == key


def test_wrong_settings_are_told_or_refused(alone: Alone, notices: Notices) -> None:
    """As with `JsonlHandler`: a fallback and a warning, an error when strict, an error for an unknown key."""
    assert alone(max_file_bytes=-1).settings.max_file_bytes == 5 * 1024 * 1024
    assert "max_file_bytes" in notices.wait_for("max_file_bytes")
    with pytest.raises(ConfigError):
        alone(max_file_bytes=-1, strict=True)
    with pytest.raises(ConfigError, match="max_file_bytes"):
        alone(maxBytes=4096)


def test_disabled_it_writes_nothing(alone: Alone, logs: Path) -> None:
    """`enabled=False` refuses records at the door."""
    handler = alone(enabled=False)
    handler.handle(record())
    assert not logs.exists()
    assert handler.stats().accepted == 0


def test_a_line_that_the_disk_refuses_is_dropped_and_told(
    alone: Alone, logs: Path, disk: Disk, notices: Notices
) -> None:
    """Nothing is raised; the count is exact, in the stream, in a notice and in `stats()`."""
    handler = alone()
    handler.handle(record("before"))
    disk.fill()
    for _ in range(3):
        handler.handle(record("lost"))
    assert handler.stats().dropped == 3
    disk.mend()
    handler.handle(record("after"))
    before, told, after = lines_of(logs)
    assert (before["message"], after["message"]) == ("before", "after")
    assert (before["seq"], after["seq"]) == (0, 4)
    assert (told["logger"], told["dropped"]) == ("jsonl_handler", 3)
    assert "No space left" in told["reason"]
    assert "3 records dropped" in notices.wait_for("dropped")
    assert "works again" in notices.wait_for("works again")
    handler.close()
    check_counts(handler, logs)
    assert len(lines_of(logs)) == 3


def test_a_loss_is_told_at_the_end_at_the_latest(alone: Alone, logs: Path, disk: Disk) -> None:
    """`close` writes the line when no record came to bring it along."""
    handler = alone()
    handler.handle(record("before"))
    disk.fill()
    handler.handle(record("lost"))
    disk.mend()
    handler.close()
    assert [line.get("dropped") for line in lines_of(logs)] == [None, 1]


def test_a_line_that_is_cut_in_two_is_finished_first(alone: Alone, logs: Path, disk: Disk) -> None:
    """Half of it is in the file: the rest comes before anything else, and it is not lost."""
    handler = alone()
    disk.shortest = 30
    disk.fill()
    handler.handle(record("cut"))
    assert handler.stats().pending == 1
    handler.handle(record("lost"))
    assert (handler.stats().pending, handler.stats().dropped) == (1, 1)
    disk.mend()
    handler.handle(record("after"))
    assert [line["message"] for line in lines_of(logs) if "seq" in line] == ["cut", "after"]
    assert [line.get("dropped") for line in lines_of(logs)] == [None, 1, None]
    check_counts(handler, logs)


def test_a_line_about_a_loss_that_is_cut_in_two_is_finished_first(alone: Alone, logs: Path, disk: Disk) -> None:
    """No other line is glued to it, and what was lost meanwhile is told by another."""
    handler = alone()
    handler.handle(record("before"))
    disk.fill()
    handler.handle(record("lost"))
    disk.shortest = 30
    handler.handle(record("lost too"))
    assert (handler.stats().pending, handler.stats().dropped) == (0, 2)
    disk.mend()
    handler.handle(record("after"))
    assert [line.get("dropped") for line in lines_of(logs)] == [None, 1, 1, None]
    check_counts(handler, logs)


def test_a_cut_line_survives_close(alone: Alone, logs: Path, disk: Disk) -> None:
    """Closed in trouble: the half line is taken back, and written whole with the next record."""
    handler = alone()
    handler.handle(record("before"))
    disk.shortest = 30
    disk.fill()
    handler.handle(record("cut"))
    handler.close()
    assert messages_of(logs) == ["before"]
    disk.mend()
    handler.handle(record("late"))
    assert messages_of(logs) == ["before", "cut", "late"]
    assert [line["seq"] for line in lines_of(logs)] == [0, 1, 2]
    handler.close()
    assert handler.stats().written == 3


def test_a_record_cut_in_two_whose_file_is_deleted(alone: Alone, logs: Path, disk: Disk) -> None:
    """The line is written whole into the file that follows."""
    handler = alone()
    disk.shortest = 30
    disk.fill()
    handler.handle(record("cut"))
    segments_of(logs)[0].unlink()
    disk.mend()
    handler.handle(record("after"))
    assert messages_of(logs) == ["cut", "after"]


def test_ctrl_c_in_the_middle_of_a_write(alone: Alone, logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """KeyboardInterrupt passes; whatever had reached the disk by then, no line is torn or twice."""
    handler = alone()
    handler.handle(record("before"))
    real = os.write

    for most in (0, 10, 10_000):

        def interrupted(descriptor: int, content: Any, most: int = most) -> int:
            if most:
                real(descriptor, content[:most])
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(os, "write", interrupted)
            with pytest.raises(KeyboardInterrupt):
                handler.handle(record(f"interrupted {most}"))
        handler.handle(record(f"after {most}"))
    handler.close()
    assert messages_of(logs) == [
        "before",
        *(f"{word} {most}" for most in (0, 10, 10_000) for word in ("interrupted", "after")),
    ]
    check_counts(handler, logs)


def test_a_directory_that_can_not_be_made(alone: Alone, logs: Path, notices: Notices) -> None:
    """The program runs, the trouble is told with path and reason, and the count follows when it is mended."""
    logs.write_text("a file in its place")
    handler = alone()
    for _ in range(5):
        handler.handle(record("lost"))
    assert str(logs) in notices.wait_for("cannot write")
    assert handler.stats().dropped == 5
    logs.unlink()
    handler.handle(record("kept"))
    told, kept = lines_of(logs)
    assert (told["dropped"], kept["message"]) == (5, "kept")
    handler.close()
    assert len(notices.about("cannot write")) == 1


def test_a_filter_that_raises_loses_its_record_only(alone: Alone, logs: Path) -> None:
    """A bug in it costs that record, which is counted and told, and the program nothing."""

    def bad(record: logging.LogRecord) -> bool:
        if record.msg == "bad":
            raise RuntimeError("a bug")
        return True

    handler = alone()
    handler.addFilter(bad)
    for text in ("good", "bad", "good too"):
        handler.handle(record(text))
    assert messages_of(logs) == ["good", "good too"]
    assert handler.stats().dropped == 1
    (told,) = (line for line in lines_of(logs) if "dropped" in line)
    assert told["dropped"] == 1
    assert "RuntimeError" in told["reason"]


def test_a_formatter_that_raises_loses_nothing(alone: Alone, logs: Path) -> None:
    """The record is kept in the form that needs no formatter."""

    class Broken(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            raise RuntimeError("a bug")

    handler = alone()
    handler.setFormatter(Broken())
    handler.handle(record("kept"))
    assert [line["message"] for line in lines_of(logs)] == ["kept"]
    assert handler.stats().dropped == 0


def test_a_value_that_logs_while_its_record_is_written(alone: Alone, logs: Path) -> None:
    """The inner record follows the outer one; nothing recurses."""
    handler = alone()

    class Chatty:
        def __str__(self) -> str:
            handler.handle(record("inner"))
            return "chatty"

    handler.handle(record("outer %s", args=(Chatty(),)))
    assert messages_of(logs) == ["outer chatty", "inner"]


def test_threads_share_it(alone: Alone, logs: Path) -> None:
    """Eight threads: each record once, whole, with a number of its own."""
    handler = alone(max_file_bytes=4096)

    def work(thread: int) -> None:
        for number in range(50):
            handler.handle(record(f"{thread}:{number}"))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    lines = lines_of(logs)
    assert [line["seq"] for line in lines] == list(range(400))
    assert sorted(messages_of(logs)) == sorted(f"{t}:{n}" for t in range(8) for n in range(50))
    check_counts(handler, logs)


def test_a_record_after_close_is_written_and_the_exit_ends_the_session(tmp_path: Path) -> None:
    """The late record takes the session up again, and nothing is left behind by the process."""
    script = (
        "import logging.config, sys; from jsonl_handler import RotatingSessionJsonlHandler as H\n"
        "h = H(sys.argv[1]); r = lambda m: logging.makeLogRecord({'msg': m})\n"
        "h.handle(r('one')); h.close(); h.close()\n"
        # From now on `logging.shutdown` does not know it any more.
        "logging.config.dictConfig({'version': 1}); h.handle(r('late'))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, env=environment, timeout=PATIENCE)
    assert messages_of(tmp_path) == ["one", "late"]
    assert [line["seq"] for line in lines_of(tmp_path)] == [0, 1]
    assert list((tmp_path / ".jsonl-handler").glob("*.session")) == []


def test_the_other_kind_of_handler_may_go_on_with_its_session(alone: Alone, logs: Path) -> None:
    """A `JsonlHandler` that replaces it continues session and file; a late record goes through that one."""
    old = alone()
    old.handle(record("old"))
    old.close()
    new = JsonlHandler(logs)
    try:
        new.handle(record("new"))
        old.handle(record("late"))
        assert new.flush(PATIENCE)
        assert messages_of(logs) == ["old", "new", "late"]
        assert [line["seq"] for line in lines_of(logs)] == [0, 1, 2]
        assert len(segments_of(logs)) == 1
    finally:
        new.close()


# Behind the standard library's pair.


def test_as_the_target_of_a_stock_listener(alone: Alone, logs: Path) -> None:
    """`QueueHandler` and `QueueListener` in code: extra fields and levels come through."""
    handler = alone(level="WARNING")
    lines: queue.SimpleQueue[Any] = queue.SimpleQueue()
    listener = QueueListener(lines, handler, respect_handler_level=True)
    log = logging.getLogger("app")
    log.addHandler(QueueHandler(lines))
    log.setLevel(logging.DEBUG)
    listener.start()
    for number in range(100):
        log.warning("record %d", number, extra={"number": number})
        log.info("too low")
    try:
        raise KeyError("k")
    except KeyError:
        log.exception("failed")
    listener.stop()
    *most, failed = lines_of(logs)
    assert [line["number"] for line in most] == list(range(100))
    assert [line["seq"] for line in most] == list(range(100))
    assert "KeyError" in failed["message"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="QueueHandler in dictConfig came with 3.12")
def test_as_the_target_of_a_stock_queue_in_dict_config(logs: Path) -> None:
    """The standard library's own form: a `QueueHandler` entry that names ours."""
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "handlers": {
                "file": {
                    "class": "jsonl_handler.RotatingSessionJsonlHandler",
                    "directory": str(logs),
                    "level": "WARNING",
                },
                "queue": {
                    "class": "logging.handlers.QueueHandler",
                    "handlers": ["file"],
                    "respect_handler_level": True,
                },
            },
            "root": {"handlers": ["queue"], "level": "DEBUG"},
        }
    )
    (entry,) = (found for found in logging.getLogger().handlers if isinstance(found, QueueHandler))
    listener: QueueListener = vars(entry)["listener"]
    listener.start()
    for number in range(50):
        logging.getLogger("app").warning("%d", number, extra={"number": number})
        logging.getLogger("app").info("too low")
    listener.stop()
    logging.shutdown()
    assert [line["number"] for line in lines_of(logs)] == list(range(50))


# Behind our own pair, joined in code.


def test_the_parts_can_be_joined_in_code(alone: Alone, logs: Path) -> None:
    """`SessionQueueHandler` and `BatchQueueListener`: lines bear the file side's session and go in batches."""
    settings, _ = Settings.load({"flush_interval": 3600.0, "flush_batch_size": 10})
    side, buffer = alone(session_id="pair"), RecordBuffer(settings)
    listener = BatchQueueListener(buffer, side)
    log = logging.getLogger("app")
    log.addHandler(SessionQueueHandler(buffer, side))
    log.setLevel(logging.INFO)
    listener.start()
    for number in range(95):
        log.info("%d", number, extra={"number": number})
    listener.stop()
    side.close()
    lines = lines_of(logs)
    assert [(line["number"], line["seq"], line["session"]) for line in lines] == [
        (number, number, "pair") for number in range(95)
    ]
    assert buffer.counts() == (95, 0, 0)
    assert not listener.running
    assert side.stats().batches < 95


def test_the_joined_parts_tell_a_loss_too(alone: Alone, logs: Path, disk: Disk, notices: Notices) -> None:
    """With a stuck disk the buffer drops the oldest; the stream and a notice say how many."""
    settings, _ = Settings.load(
        {"flush_interval": 3600.0, "buffer_limit": 10, "flush_batch_size": 10, "overflow_timeout": 0}
    )
    side, buffer = alone(), RecordBuffer(settings)
    listener, pair = BatchQueueListener(buffer, side), SessionQueueHandler(buffer, side)
    disk.hold()
    listener.start()
    pair.handle(record("first", logging.ERROR))
    assert disk.stuck.wait(PATIENCE)
    for number in range(13):
        pair.handle(record(str(number)))
    disk.release()
    listener.stop()
    side.close()
    assert messages_of(logs) == ["first", *map(str, range(3, 13))]
    assert [line["dropped"] for line in lines_of(logs) if "dropped" in line] == [3]
    assert "3 records dropped" in notices.wait_for("dropped")
    assert buffer.counts() == (11, 3, 0)


def test_a_failed_batch_goes_on_where_it_stopped(alone: Alone, logs: Path, disk: Disk) -> None:
    """The joined parts try again from the byte where an error stopped them."""
    side, buffer = alone(max_file_bytes=4096), RecordBuffer(Settings.load({"flush_interval": 3600.0})[0])
    listener, pair = BatchQueueListener(buffer, side), SessionQueueHandler(buffer, side)
    for number in range(40):
        pair.handle(record(f"{number} " + "x" * 200))
    disk.shortest = 333
    disk.fill()
    assert not listener.drain()
    disk.mend()
    assert listener.drain()
    assert messages_of(logs) == [f"{number} " + "x" * 200 for number in range(40)]


def test_prepare_and_enqueue_can_be_used_apart(alone: Alone, logs: Path) -> None:
    """As `QueueHandler` has it: `prepare` makes what `enqueue` puts into the queue."""
    side, buffer = alone(), RecordBuffer()
    pair = SessionQueueHandler(buffer, side)
    line = pair.prepare(record("prepared"))
    assert line.endswith(b"\n")
    pair.enqueue(line)
    assert BatchQueueListener(buffer, side).drain()
    assert messages_of(logs) == ["prepared"]


def test_a_listener_has_one_file_side(alone: Alone) -> None:
    """None or two are a mistake in the composing code."""
    for sides in ((), (alone(), alone())):
        with pytest.raises(TypeError, match="one handler"):
            BatchQueueListener(RecordBuffer(), *sides)


def test_an_error_number_is_told_in_words(alone: Alone, disk: Disk, notices: Notices) -> None:
    """The reason is what the system calls it, with the path."""
    handler = alone()
    disk.error = errno.EDQUOT
    handler.handle(record())
    assert os.strerror(errno.EDQUOT) in notices.wait_for("cannot write")
    assert os.strerror(errno.EDQUOT) in (handler.stats().last_error or "")
    disk.mend()
