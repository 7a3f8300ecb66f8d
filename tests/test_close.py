"""Flush, close and the end of the program."""

from __future__ import annotations

import errno
import gc
import logging
import logging.config
import mmap
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import (
    PATIENCE,
    Disk,
    Notices,
    journals_mapped,
    journals_of,
    lines_of,
    messages_of,
    record,
    segments_of,
    tmpfs,
)

from jsonl_handler import JsonlHandler

Make = Callable[..., JsonlHandler]


def config(directory: Path, **settings: Any) -> dict[str, Any]:
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"events": {"class": "jsonl_handler.JsonlHandler", "directory": str(directory), **settings}},
        "root": {"level": "INFO", "handlers": ["events"]},
    }


def run(script: str, directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program of a user's, in a process of its own."""
    prelude = f"""
        import logging, logging.config, os, sys, threading
        logging.config.dictConfig({config(directory)!r})
        log = logging.getLogger("app")
    """
    source = textwrap.dedent(prelude) + textwrap.dedent(script)
    return subprocess.run(
        [sys.executable, "-c", source, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_close_writes_what_waits(make: Make, logs: Path) -> None:
    """Records in the buffer are in the file when `close` returns, and the session has ended cleanly."""
    handler = make(flush_interval=3600.0)
    for number in range(5):
        handler.handle(record(str(number)))
    handler.close()
    assert messages_of(logs) == ["0", "1", "2", "3", "4"]
    assert handler.stats().pending == 0
    assert list((logs / ".jsonl-handler").glob("*.session")) == []


def test_close_twice_is_fine(make: Make, logs: Path) -> None:
    """The second `close` does nothing."""
    handler = make()
    handler.handle(record())
    handler.close()
    handler.close()
    assert messages_of(logs) == ["hello"]


def test_close_without_a_record_makes_no_file(make: Make, logs: Path) -> None:
    """A handler that was never used leaves no trace."""
    make().close()
    assert not logs.exists()


@tmpfs
@pytest.mark.usefixtures("uncollected")
def test_a_closed_handler_gives_its_journal_back(make: Make, logs: Path) -> None:
    """Whoever still refers to a closed handler does not keep the memory of its journal, nor a descriptor of it."""
    descriptors, mapped = len(os.listdir("/proc/self/fd")), journals_mapped()
    handler = make(buffer_bytes=1 << 20)
    for message in ("before", "late"):
        handler.handle(record(message))
        assert handler.flush(PATIENCE)
        assert journals_mapped() == mapped + 1

        handler.close()

        assert journals_of(logs) == []
        assert journals_mapped() == mapped
        assert len(os.listdir("/proc/self/fd")) <= descriptors
    assert messages_of(logs) == ["before", "late"]


@tmpfs
def test_no_memory_at_close_is_told(make: Make, notices: Notices, logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler that gets no other memory at its end keeps the journal's, and says so; what comes late is written."""
    handler = make()
    handler.handle(record("before"))
    assert handler.flush(PATIENCE)
    real = mmap.mmap

    def full(descriptor: int, *arguments: Any, **options: Any) -> mmap.mmap:
        if descriptor == -1:
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        return real(descriptor, *arguments, **options)

    monkeypatch.setattr(mmap, "mmap", full)
    handler.close()
    monkeypatch.undo()

    assert any("no other memory" in text for text in notices.texts())
    assert journals_of(logs) == []
    handler.handle(record("late"))
    handler.close()
    assert messages_of(logs) == ["before", "late"]


def test_a_record_after_close_is_written_at_once_and_the_writer_runs_again(make: Make, logs: Path) -> None:
    """The late record is in the file when the call returns, in the same session and segment, with the next `seq`."""
    handler = make(flush_interval=3600.0)
    handler.handle(record("before"))
    session = handler.session_id
    handler.close()
    handler.handle(record("late"))
    assert messages_of(logs) == ["before", "late"]
    handler.handle(record("later"))
    assert handler.stats().pending == 1
    handler.close()
    lines = lines_of(logs)
    assert [line["message"] for line in lines] == ["before", "late", "later"]
    assert [line["seq"] for line in lines] == [0, 1, 2]
    assert {line["session"] for line in lines} == {session}
    assert len(segments_of(logs)) == 1


def test_a_late_write_of_a_line_is_written_too(make: Make, logs: Path) -> None:
    """`write` after `close` loses nothing either."""
    handler = make()
    handler.handle(record("before"))
    handler.close()
    handler.write({"event": "late"})
    assert lines_of(logs)[-1]["event"] == "late"


def test_close_on_a_stuck_disk_is_bounded(make: Make, disk: Disk, notices: Notices, logs: Path) -> None:
    """`close` returns after `close_timeout`, says what was not written, and the stuck writer still finishes."""
    handler = make(close_timeout=0.1)
    disk.hold()
    handler.handle(record("stuck", logging.ERROR))
    assert disk.stuck.wait(PATIENCE)
    handler.handle(record("waits"))
    handler.close()
    assert "2 records could not be written within close_timeout" in notices.wait_for("close_timeout")
    assert handler.stats().pending == 2
    disk.release()
    assert handler.flush(PATIENCE)
    assert messages_of(logs) == ["stuck", "waits"]


def test_a_session_whose_close_timed_out_is_not_handed_on(make: Make, disk: Disk, logs: Path) -> None:
    """The next handler takes a session of its own, since the stuck writer may still write."""
    first = make(close_timeout=0.05)
    disk.hold()
    first.handle(record("stuck", logging.ERROR))
    assert disk.stuck.wait(PATIENCE)
    first.close()
    second = make()
    disk.release()
    second.handle(record("other"))
    assert second.session_id != first.session_id
    assert second.flush(PATIENCE)
    assert first.flush(PATIENCE)
    assert sorted(messages_of(logs)) == ["other", "stuck"]


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        ("", 0),
        ("sys.exit(3)", 3),
        ("raise RuntimeError('uncaught')", 1),
        ("threading.Thread(target=lambda: [log.info('threaded') for _ in range(10)]).start()", 0),
    ],
)
def test_the_interpreters_exit_keeps_all_records(tmp_path: Path, ending: str, code: int) -> None:
    """Return, `sys.exit`, an uncaught exception, a thread that still logs: every record is in the file."""
    done = run("for number in range(250): log.info('record', extra={'number': number})\n" + ending, tmp_path)
    assert done.returncode == code, done.stderr
    found = [line["number"] for line in lines_of(tmp_path) if line["message"] == "record"]
    assert found == list(range(250))
    assert len([message for message in messages_of(tmp_path) if message == "threaded"]) == (
        10 if "threaded" in ending else 0
    )
    assert list((tmp_path / ".jsonl-handler").glob("*.session")) == []


def test_records_of_atexit_functions_are_kept(tmp_path: Path) -> None:
    """What is logged while the interpreter ends is written, before and after `logging.shutdown`."""
    script = """
        import atexit
        atexit.register(log.info, "at exit")
        atexit.register(lambda: (logging.shutdown(), log.info("after shutdown"), log.info("and again")))
    """
    done = run(script, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert messages_of(tmp_path) == ["after shutdown", "and again", "at exit"]


def test_records_of_a_dying_module_are_kept(tmp_path: Path) -> None:
    """A `__del__` that logs when the modules are cleared, after everything has been closed, is written."""
    script = """
        class Last:
            def __del__(self, log=log):
                log.info("last word")
        keep = Last()
        log.info("first")
    """
    done = run(script, tmp_path)
    assert done.returncode == 0, done.stderr
    assert messages_of(tmp_path)[0] == "first"
    assert messages_of(tmp_path) == ["first", "last word"]


def test_a_second_dict_config_goes_on_in_the_same_session(logs: Path) -> None:
    """`dictConfig` again: the new handler continues session, segment and `seq`, and nothing is lost or twice."""
    log = logging.getLogger("app")
    for number in range(20):
        logging.config.dictConfig(config(logs))
        log.info("record", extra={"number": number})
    logging.getLogger().handlers[-1].flush()
    lines = lines_of(logs)
    assert [line["number"] for line in lines] == list(range(20))
    assert [line["seq"] for line in lines] == list(range(20))
    assert len(segments_of(logs)) == 1


def test_a_handler_that_stays_attached_goes_on_through_the_new_one(logs: Path) -> None:
    """A framework's `dictConfig` closes handlers that stay attached: their records land in the session all the same."""
    log = logging.getLogger("app")
    old = JsonlHandler(logs)
    log.addHandler(old)
    log.propagate = False
    log.setLevel(logging.INFO)
    log.info("before")
    logging.config.dictConfig(config(logs))
    log.info("through the closed one")
    logging.getLogger("other").info("through the new one")
    new = logging.getLogger().handlers[-1]
    assert isinstance(new, JsonlHandler)
    new.flush()
    assert sorted(messages_of(logs)) == ["before", "through the closed one", "through the new one"]
    assert {line["session"] for line in lines_of(logs)} == {new.session_id}
    assert sorted(line["seq"] for line in lines_of(logs)) == [0, 1, 2]
    old.close()


def test_a_handler_built_later_takes_the_session_back(make: Make, logs: Path) -> None:
    """A closed handler that was logged to again gives the session up to the one that replaces it."""
    first = make()
    first.handle(record("one"))
    first.close()
    first.handle(record("two"))
    second = make()
    second.handle(record("three"))
    first.handle(record("four"))
    second.flush()
    lines = lines_of(logs)
    assert [line["message"] for line in lines] == ["one", "two", "three", "four"]
    assert [line["seq"] for line in lines] == [0, 1, 2, 3]
    assert len(segments_of(logs)) == 1


@pytest.mark.parametrize("action", ["shutdown", "dictConfig"])
def test_closing_never_deadlocks_against_threads_that_log(logs: Path, action: str) -> None:
    """`logging.shutdown()` and `dictConfig` over and over, while four threads log: no hang, no record lost."""
    log = logging.getLogger("app")
    logging.config.dictConfig(config(logs))
    stop = threading.Event()
    logged = [0] * 4

    def work(index: int) -> None:
        while not stop.is_set():
            log.info("record", extra={"thread_index": index, "number": logged[index]})
            logging.getLogger(f"fresh.{index}.{logged[index] % 50}").isEnabledFor(logging.INFO)
            logged[index] += 1

    threads = [threading.Thread(target=work, args=(index,), daemon=True) for index in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        if action == "shutdown":
            logging.shutdown()
        else:
            logging.config.dictConfig({**config(logs)})
    stop.set()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive(), "a thread hangs"
    logging.shutdown()
    for index in range(4):
        found = [line["number"] for line in lines_of(logs) if line.get("thread_index") == index]
        if action == "shutdown":
            assert sorted(found) == list(range(logged[index]))
        else:
            # While dictConfig builds anew, the root logger has no handler for a moment: those never reach us.
            assert len(set(found)) == len(found)


def test_a_program_in_a_directory_that_it_leaves_still_writes_there(tmp_path: Path) -> None:
    """A relative directory is that of the moment the handler was made."""
    script = f"""
        os.chdir({str(tmp_path)!r})
        handler = __import__("jsonl_handler").JsonlHandler("relative")
        log.addHandler(handler)
        log.propagate = False
        os.chdir("/")
        log.info("kept")
    """
    done = run(script, tmp_path / "unused")
    assert done.returncode == 0, done.stderr
    assert messages_of(tmp_path / "relative") == ["kept"]


CHILD = """
import logging, logging.config, multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor

def configure(directory):
    logging.config.dictConfig({
        "version": 1,
        "handlers": {"events": {"class": "jsonl_handler.JsonlHandler", "directory": directory}},
        "root": {"level": "INFO", "handlers": ["events"]},
    })

def work(number):
    logging.getLogger("app").info("record", extra={"number": number})

def child(directory):
    configure(directory)
    for number in range(20):
        work(number)

if __name__ == "__main__":
    method, kind, directory = sys.argv[1:]
    context = multiprocessing.get_context(method)
    if kind == "process":
        process = context.Process(target=child, args=(directory,))
        process.start()
        process.join()
    else:
        with ProcessPoolExecutor(2, mp_context=context, initializer=configure, initargs=(directory,)) as pool:
            list(pool.map(work, range(20)))
"""


@pytest.mark.parametrize("kind", ["process", "pool"])
@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_children_of_multiprocessing_that_configure_logging_lose_nothing(
    tmp_path: Path, method: str, kind: str
) -> None:
    """A child ends by `os._exit`, without `atexit`; what it logged is written all the same."""
    script = tmp_path / "script.py"
    script.write_text(CHILD)
    done = subprocess.run(
        [sys.executable, str(script), method, kind, str(tmp_path / "logs")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(line["number"] for line in lines_of(tmp_path / "logs")) == list(range(20))
    assert list((tmp_path / "logs" / ".jsonl-handler").glob("*.session")) == []


def test_close_is_bounded_where_only_the_session_has_to_be_ended(
    make: Make, logs: Path, notices: Notices, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All is written, and the disk stands still while the session file is removed: a later record is kept too."""
    asked, go_on, unlink = threading.Event(), threading.Event(), os.unlink

    def stuck(path: Any, **options: Any) -> None:
        if str(path).endswith(".session"):
            asked.set()
            assert go_on.wait(PATIENCE)
        unlink(path, **options)

    monkeypatch.setattr(os, "unlink", stuck)
    monkeypatch.setattr("jsonl_handler._opening._MOMENT", 0.1)
    handler = make(close_timeout=0.1)
    handler.handle(record("before"))
    assert handler.flush(PATIENCE)
    handler.close()
    assert asked.is_set()
    assert "the session could not be ended within close_timeout" in notices.wait_for("close_timeout")
    handler.handle(record("late"))
    # If the process ended now, nobody would find the journal once the session file is gone.
    assert not handler.stats().crash_safe
    go_on.set()
    assert handler.flush(PATIENCE)
    assert messages_of(logs) == ["before", "late"]


def test_an_exit_on_a_full_disk_waits_once(make: Make, disk: Disk) -> None:
    """`logging.shutdown` flushes and closes; a writer that does not move is waited for in the first of them only."""
    handler = make(close_timeout=0.2)
    disk.fill()
    handler.handle(record())
    waits: list[float] = []
    patience = handler._patience
    handler._patience = lambda timeout: waits.append(patience(timeout)) or waits[-1]  # type: ignore[func-returns-value,method-assign]
    assert handler.flush() is False
    handler.close()
    handler.handle(record("late"))
    disk.mend()
    assert handler.flush(PATIENCE)
    assert waits[0] == 0.2
    assert set(waits[1:-1]) == {0.0}


def test_a_collection_on_the_writer_does_not_hold_up_a_dict_config(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead handler's callback takes `logging`'s lock, which who closes may hold: nothing is collected meanwhile."""
    handler = make(close_timeout=1.0)
    handler.handle(record("first"))
    assert handler.flush(PATIENCE)
    real = handler._files.upkeep.sweep_a_little

    def sweep_a_little() -> None:
        # What a collection that begins of itself would do.
        found = [[number] for number in range(5_000)]
        assert len(found) == 5_000
        real()

    monkeypatch.setattr(handler._files.upkeep, "sweep_a_little", sweep_a_little)
    thresholds = gc.get_threshold()
    gc.collect()
    dead = logging.NullHandler()
    dead.itself = dead  # type: ignore[attr-defined]
    del dead
    gc.set_threshold(1_000)
    try:
        with logging._lock:  # type: ignore[attr-defined]
            handler.close()
    finally:
        gc.set_threshold(*thresholds)
    assert gc.isenabled()
    assert not handler._abandoned
