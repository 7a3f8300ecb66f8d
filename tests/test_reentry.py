"""Records logged from inside: by our own logger, by filelock, by formatters and filters, signal handlers, `__del__`."""

from __future__ import annotations

import gc
import logging
import logging.config
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE, Disk, Notices, lines_of, messages_of, record

from jsonl_handler import JsonlFormatter, JsonlHandler
from jsonl_handler._losses import Loss

Make = Callable[..., JsonlHandler]


@pytest.fixture
def log(make: Make) -> Iterator[logging.Logger]:
    """A logger with one of our handlers and no other, nor a parent; `jsonl_handler` and `filelock` log there too."""
    handler = make()
    log = logging.Logger("app", logging.DEBUG)
    log.addHandler(handler)
    others = [logging.getLogger(name) for name in ("jsonl_handler", "filelock")]
    for logger in others:
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
    yield log
    for logger in others:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)


def ours(log: logging.Logger) -> JsonlHandler:
    (handler,) = log.handlers
    assert isinstance(handler, JsonlHandler)
    return handler


def flush(log: logging.Logger) -> JsonlHandler:
    handler = ours(log)
    assert handler.flush(PATIENCE)
    return handler


def test_records_of_our_own_logger_and_of_filelock_are_ordinary_records(log: logging.Logger, logs: Path) -> None:
    """A user may log on these names too; each record is one line."""
    logging.getLogger("jsonl_handler").warning("by hand")
    logging.getLogger("filelock").debug("acquired")
    flush(log)
    assert messages_of(logs) == ["by hand", "acquired"]


def test_what_the_package_tells_does_not_feed_its_own_stream(
    log: logging.Logger, logs: Path, disk: Disk, notices: Notices
) -> None:
    """Notices reach every handler but ours: trouble of the stream makes no records in the stream."""
    disk.fill()
    log.error("first")
    notices.wait_for("No space left")
    disk.mend()
    flush(log)
    notices.wait_for("works again")
    assert messages_of(logs) == ["first"]
    assert flush(log).stats().accepted == 1


def test_claiming_and_locking_logs_nothing(log: logging.Logger, logs: Path) -> None:
    """With DEBUG on for all loggers, one record is one line: the lock's library adds none."""
    log.info("only")
    flush(log)
    assert messages_of(logs) == ["only"]


def test_a_filter_and_a_formatter_that_log(log: logging.Logger, logs: Path) -> None:
    """Records made while a record is filtered or formatted are written, each once, before the outer one."""

    class Chatty(JsonlFormatter):
        def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
            if log_data["message"] == "outer":
                log.info("from the formatter")
            return log_data

    def chatty(entry: logging.LogRecord) -> bool:
        if entry.getMessage() == "outer":
            log.info("from the filter")
        return True

    handler = ours(log)
    handler.setFormatter(Chatty())
    handler.addFilter(chatty)
    log.info("outer")
    flush(log)
    assert messages_of(logs) == ["from the filter", "from the formatter", "outer"]
    assert sorted(line["seq"] for line in lines_of(logs)) == [0, 1, 2]


def test_a_value_that_logs_while_it_is_turned_into_text(log: logging.Logger, logs: Path) -> None:
    """A `__repr__` or `__str__` that logs is no recursion as long as it ends."""

    class Talkative:
        def __str__(self) -> str:
            log.info("inner")
            return "text"

    log.info("outer %s", Talkative(), extra={"value": Talkative()})
    flush(log)
    assert messages_of(logs).count("inner") == 2
    assert messages_of(logs)[-1] == "outer text"


@pytest.mark.untraced
def test_a_value_that_logs_itself_for_ever(log: logging.Logger, logs: Path) -> None:
    """A `__str__` that logs its own object ends in a RecursionError that never reaches the program."""

    class Endless:
        def __str__(self) -> str:
            log.info("again", extra={"value": self})
            return "text"

    log.info("outer", extra={"value": Endless()})
    handler = flush(log)
    stats = handler.stats()
    assert stats.accepted == stats.written + stats.dropped
    assert messages_of(logs)[-1] == "outer"


def test_a_filter_that_raises_loses_its_record_and_says_so(log: logging.Logger, logs: Path, notices: Notices) -> None:
    """The program goes on; the record counts as dropped, in the stream too."""
    handler = ours(log)

    def broken(entry: logging.LogRecord) -> bool:
        if entry.getMessage() == "bad":
            raise ValueError("filter")
        return True

    handler.addFilter(broken)
    log.info("bad")
    log.info("good")
    flush(log)
    assert messages_of(logs) == ["good"]
    assert handler.stats().dropped == 1
    assert [line["dropped"] for line in lines_of(logs) if "dropped" in line] == [1]
    assert "made a filter fail (ValueError)" in notices.wait_for("dropped")


@pytest.mark.untraced
def test_signal_handlers_that_log_into_a_tight_loop(log: logging.Logger, logs: Path) -> None:
    """A timer's signal handler and `__del__` methods log in the middle of logging calls: no deadlock, exact counts."""
    counts = {"signal": 0, "del": 0, "loop": 0}

    class Dying:
        def __init__(self) -> None:
            self.cycle = self

        def __del__(self) -> None:
            counts["del"] += 1
            log.info("del")

    def on_alarm(number: int, frame: object) -> None:
        counts["signal"] += 1
        log.info("signal")

    log.info("loop")
    counts["loop"] += 1
    before = signal.signal(signal.SIGALRM, on_alarm)
    threshold = gc.get_threshold()
    gc.set_threshold(1)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        while counts["signal"] < 500:
            Dying()
            log.info("loop")
            counts["loop"] += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        gc.set_threshold(*threshold)
    gc.collect()
    stats = flush(log).stats()
    assert stats.dropped == 0
    assert stats.accepted == sum(counts.values())
    found = messages_of(logs)
    assert {name: found.count(name) for name in counts} == counts


def test_the_very_first_record_may_come_from_a_nested_call(
    make: Make, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record logged by this thread while it opens the session for another one is kept, after that one."""
    handler = make()
    opened = handler._files.open

    def open_and_log() -> Any:
        handler.handle(record("nested"))
        return opened()

    monkeypatch.setattr(handler._files, "open", open_and_log)
    handler.handle(record("first"))
    assert handler.flush(PATIENCE)
    assert sorted(messages_of(logs)) == ["first", "nested"]


@pytest.mark.untraced
def test_ctrl_c_passes_and_nothing_is_corrupted(make: Make, logs: Path) -> None:
    """KeyboardInterrupt out of a signal handler goes through to the program; the lines stay whole, the counts exact."""
    handler = make(buffer_limit=50)

    armed = False

    def interrupt(number: int, frame: object) -> None:
        nonlocal armed
        if armed:
            armed = False
            raise KeyboardInterrupt

    # The session is opened first: of a file that is being opened when the interrupt comes nobody knows the descriptor.
    handler.handle(record("loop"))
    before = signal.signal(signal.SIGALRM, interrupt)
    interrupts, logged = 0, 1
    signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
    try:
        while interrupts < 100:
            try:
                armed = True
                while True:
                    handler.handle(record("loop"))
                    logged += 1
            except KeyboardInterrupt:
                interrupts += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert handler.flush(PATIENCE)
    stats = handler.stats()
    assert stats.dropped == 0
    # An interrupted call may have been accepted or not; never more than that is open.
    assert logged <= stats.written <= logged + interrupts
    assert len(messages_of(logs)) == stats.written


def test_settings_problems_are_told_when_logging_is_being_configured(logs: Path, notices: Notices) -> None:
    """A warning about a setting does not log under logging's own lock; it comes with the first record."""
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "handlers": {"ours": {"class": "jsonl_handler.JsonlHandler", "directory": str(logs), "max_files": 0}},
            "root": {"handlers": ["ours"], "level": "INFO"},
        }
    )
    logging.getLogger("jsonl_handler").addHandler(notices)
    logging.getLogger("app").info("first")
    assert "max_files" in notices.wait_for("max_files")


def test_the_voice_is_not_silenced_by_disable_existing_loggers(make: Make, notices: Notices) -> None:
    """`dictConfig` disables every logger it does not name; losses are told all the same."""
    logging.getLogger("jsonl_handler").disabled = True
    handler = make()
    handler._buffer.lose("a test")
    handler.handle(record())
    assert handler.flush(PATIENCE)
    notices.wait_for("a test")


def test_a_stats_call_from_a_signal_handler_returns(make: Make) -> None:
    """`stats()` and `flush(log)` from within an interrupted call come back at once."""
    handler = make()
    handler.handle(record())
    answers: list[object] = []

    def inside() -> None:
        answers.append(handler.stats().accepted)
        answers.append(handler.flush())
        handler.handle(record("inside"))

    handler._buffer._locked(inside)
    assert answers == [1, False]
    assert handler.flush(PATIENCE)
    assert handler.stats().written == 2


def test_a_record_that_can_not_be_kept_is_counted_in_an_interrupt_too(make: Make, logs: Path) -> None:
    """A signal handler whose record fails in a filter, in the middle of a logging call, is no silent loss."""
    handler = make()
    handler.handle(record())
    handler.addFilter(lambda entry: bool(1 / len(entry.getMessage())))
    handler._buffer._locked(lambda: handler.handle(record("")))
    assert handler.flush(PATIENCE)
    assert handler.stats().dropped == 1
    assert [line["dropped"] for line in lines_of(logs) if "dropped" in line] == [1]


def test_a_burst_of_loss_that_begins_twice_is_told_whole(
    make: Make, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records dropped by an interrupt, in the very moment when the first drop is being noted, are told too."""
    handler = make()
    handler.handle(record())
    nested = iter([True])

    def interrupted(*args: Any) -> Loss:
        made = Loss(*args)
        if next(nested, False):
            handler._buffer.lose("in an interrupt")
        return made

    monkeypatch.setattr("jsonl_handler._losses.Loss", interrupted)
    handler._buffer.lose("a test")
    assert handler.flush(PATIENCE)
    assert handler.stats().dropped == 2
    assert [line["dropped"] for line in lines_of(logs) if "dropped" in line] == [2]


def test_threads_that_wait_are_all_woken(make: Make, disk: Disk, logs: Path) -> None:
    """When room appears every waiting caller goes on."""
    handler = make(buffer_limit=10, overflow="block")
    disk.hold()
    handler.handle(record("stuck", logging.ERROR))
    assert disk.stuck.wait(PATIENCE)
    for number in range(10):
        handler.handle(record(str(number)))
    callers = [threading.Thread(target=handler.handle, args=(record(f"waits {index}"),)) for index in range(5)]
    for caller in callers:
        caller.start()
    while len(handler._buffer._waiting.callers) < 5:
        callers[0].join(0.01)
    disk.release()
    for caller in callers:
        caller.join(PATIENCE)
        assert not caller.is_alive()
    assert handler.flush(PATIENCE)
    assert len(messages_of(logs)) == 16


@pytest.mark.untraced
def test_records_near_the_recursion_limit(make: Make, logs: Path) -> None:
    """Whatever the depth, each accepted record is an object, each lost one is counted, and nothing is raised by us."""
    handler = make()
    calls = 0

    def dive() -> None:
        nonlocal calls
        before = handler.stats().accepted
        handler.handle(record("deep", extra={1, 2}))
        assert handler.stats().accepted == before + 1
        calls += 1
        dive()

    with pytest.raises(RecursionError):
        dive()
    assert handler.flush(PATIENCE)
    stats = handler.stats()
    assert calls <= stats.accepted == stats.written + stats.dropped
    # Reading them back finds objects only.
    assert len([line for line in lines_of(logs) if "dropped" not in line]) == stats.written


@pytest.mark.parametrize("level", [None, "20", 20.5])
def test_a_record_whose_level_is_no_number(make: Make, logs: Path, level: object) -> None:
    """A record that a filter or `makeLogRecord` left without a level is written once."""
    handler = make()
    handler.handle(record("odd", levelno=level))
    assert handler.flush(PATIENCE)
    assert messages_of(logs) == ["odd"]
    assert handler.stats().accepted == 1
