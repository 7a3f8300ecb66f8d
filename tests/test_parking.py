"""Our threads are parked while a process forks: briefly, without a lock, and nothing is lost meanwhile."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from children import run, run_and_read
from conftest import PATIENCE, Disk, Notices, lines_of, messages_of, record, segments_of

from jsonl_handler import BatchQueueListener, JsonlHandler, _worker
from jsonl_handler._parking import after_fork, before_fork

Make = Callable[..., JsonlHandler]

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]


def threads_of_ours() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("jsonl-handler")]


@pytest.mark.parametrize("when", ["before the first flush", "when all is written"])
def test_a_program_without_threads_forks_without_a_warning(tmp_path: Path, when: str) -> None:
    """Python 3.12 and later do not warn of a fork in a program that has no thread but ours."""
    script = f"""
        warnings.simplefilter("error", DeprecationWarning)
        handler = JsonlHandler(directory)
        log.addHandler(handler)
        for _ in range(20):
            log.info("parent")
            if {when == "when all is written"}:
                assert handler.flush()
            assert os.waitpid(in_child(lambda: log.info("child")), 0)[1] == 0
    """
    run(script, tmp_path / "logs")
    assert sorted(messages_of(tmp_path / "logs")) == ["child"] * 20 + ["parent"] * 20


def test_what_waits_is_written_before_the_fork_and_the_next_record_brings_the_threads_back(make: Make) -> None:
    """A fork finds neither our threads nor pending lines, and afterwards all goes on as before."""
    handler = make()
    handler.handle(record("one"))
    before_fork()
    assert threads_of_ours() == []
    assert handler.stats().pending == 0
    after_fork()
    assert threads_of_ours() == []
    handler.handle(record("two"))
    assert sorted(threads_of_ours()) == ["jsonl-handler-maintenance", "jsonl-handler-writer"]
    assert handler.flush(PATIENCE)
    assert handler.stats().written == 2


def test_records_that_come_while_the_process_forks(make: Make, logs: Path) -> None:
    """They wait in the buffer, start no thread, and are written as soon as the fork is done."""
    handler = make(flush_interval=0)
    handler.handle(record("before"))
    assert handler.flush(PATIENCE)
    before_fork()
    for number in range(3):
        handler.handle(record(f"within {number}", level=logging.ERROR))
    assert threads_of_ours() == []
    assert handler.stats().pending == 3
    after_fork()
    assert "jsonl-handler-writer" in threads_of_ours()
    assert handler.flush(PATIENCE)
    assert messages_of(logs) == ["before", "within 0", "within 1", "within 2"]


def test_a_first_record_while_the_process_forks(make: Make, logs: Path) -> None:
    """A handler that has no writer yet starts none in the middle of a fork: the record is written straight through."""
    handler = make()
    make(prefix="other").handle(record())
    before_fork()
    handler._listener._worker.park()
    handler.handle(record("first"))
    assert threads_of_ours() == ["jsonl-handler-maintenance"]
    assert handler.stats().written == 1
    handler._listener.unpark()
    after_fork()
    handler.handle(record("second"))
    assert handler.flush(PATIENCE)
    assert messages_of(logs)[-2:] == ["first", "second"]


def test_callers_wait_for_the_writer_that_comes_after_the_fork(make: Make) -> None:
    """A buffer that fills up while the process forks makes its callers wait, as for any writer about to come."""
    handler = make(buffer_limit=10, overflow="block")
    handler.handle(record())
    before_fork()
    caller = threading.Thread(target=lambda: [handler.handle(record()) for _ in range(20)])
    caller.start()
    while handler.stats().pending < 10:
        assert caller.is_alive()
    after_fork()
    caller.join(PATIENCE)
    assert handler.flush(PATIENCE)
    assert (handler.stats().written, handler.stats().dropped) == (21, 0)


def test_no_thread_can_be_started_after_the_fork(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then records are written straight through."""

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    handler = make()
    handler.handle(record())
    before_fork()
    handler.handle(record())
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        after_fork()
        handler.handle(record())
        assert (handler.stats().written, handler.stats().pending) == (3, 0)


def test_a_writer_that_is_stuck_holds_a_fork_up_only_for_a_moment(make: Make, logs: Path, disk: Disk) -> None:
    """With three handlers on a disk that does not answer a fork takes 50 ms more, not 150, and nothing is lost."""
    handlers = [make(prefix=f"p{number}", flush_interval=0) for number in range(3)]
    disk.hold()
    for handler in handlers:
        handler.handle(record())
    assert disk.stuck.wait(PATIENCE)
    waits: list[float] = []
    wait = _worker._Run.wait

    def note(self: _worker._Run, timeout: float | None) -> bool:
        assert timeout is not None
        if not self.over:
            waits.append(timeout)
        return wait(self, timeout)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_worker._Run, "wait", note)
        before_fork()
    after_fork()
    assert waits
    assert max(waits) <= 0.05
    assert sum(wait > 0.04 for wait in waits) <= 2
    disk.release()
    for handler in handlers:
        assert handler.flush(PATIENCE)
    assert sorted(messages_of(logs)) == ["hello"] * 3


def test_a_close_while_the_process_forks(make: Make, logs: Path) -> None:
    """A handler that another thread closes in the middle of a fork writes what waits, and stays closed."""
    handler = make()
    handler.handle(record("one"))
    before_fork()
    handler.handle(record("two"))
    handler.close()
    assert messages_of(logs) == ["one", "two"]
    after_fork()
    assert threads_of_ours() == []


def test_two_threads_fork_at_once(make: Make) -> None:
    """The threads come back when the last of the forks is done."""
    handler = make(flush_interval=0)
    handler.handle(record())
    assert handler.flush(PATIENCE)
    begun, go_on = threading.Event(), threading.Event()

    def other() -> None:
        before_fork()
        begun.set()
        assert go_on.wait(PATIENCE)
        after_fork()

    before_fork()
    thread = threading.Thread(target=other)
    thread.start()
    assert begun.wait(PATIENCE)
    after_fork()
    handler.handle(record())
    assert threads_of_ours() == []
    go_on.set()
    thread.join(PATIENCE)
    assert handler.flush(PATIENCE)
    assert handler.stats().written == 2


def test_a_thread_that_can_not_be_parked_is_told_of(
    make: Make, monkeypatch: pytest.MonkeyPatch, notices: Notices
) -> None:
    """What goes wrong around a fork is said by the package's voice, not as a traceback of `os.fork`."""
    handler = make()
    handler.handle(record())

    def fail(self: BatchQueueListener, timeout: float) -> None:
        raise OSError("no")

    monkeypatch.setattr(BatchQueueListener, "park", fail)
    before_fork()
    after_fork()
    handler.close()
    assert "could not be parked" in notices.wait_for("fork")


def test_a_child_without_memory_says_so(tmp_path: Path) -> None:
    """A child whose buffer can't be made keeps no records, says so once, and harms nothing of its parent's."""
    script = """
        from jsonl_handler import handler as module
        log.addHandler(JsonlHandler(directory))
        log.info("parent")
        def refuse(settings):
            raise MemoryError("no memory")
        module.RecordBuffer, made = refuse, module.RecordBuffer
        child = in_child(lambda: log.info("child"))
        module.RecordBuffer = made
        assert os.waitpid(child, 0)[1] == 0
        log.info("parent")
    """
    said = run_and_read(script, tmp_path / "logs")
    assert "keeps no records in the forked child" in said
    assert "Traceback" not in said
    assert messages_of(tmp_path / "logs") == ["parent", "parent"]


def test_a_signal_handler_that_forks_inside_the_buffer(tmp_path: Path) -> None:
    """A fork from within our own code, at any point, hangs neither the parent nor the child."""
    script = """
        log.addHandler(JsonlHandler(directory, flush_interval=0, buffer_limit=10, overflow="block"))
        children = []
        def fork(*_):
            children.append(in_child(lambda: log.info("child", extra={"by": os.getpid()})))
            if len(children) < 40:
                # Each at another point; all at once would only exhaust the stack.
                signal.setitimer(signal.ITIMER_VIRTUAL, 0.001 + len(children) / 20_000)
        # Not SIGALRM, which ends a child that hangs.
        signal.signal(signal.SIGVTALRM, fork)
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.001)
        count = 0
        while len(children) < 40:
            log.info("parent", extra={"number": count})
            count += 1
        for child in children:
            assert os.waitpid(child, 0)[1] == 0
        log.info("count", extra={"count": count})
    """
    run(script, tmp_path / "logs")
    lines = lines_of(tmp_path / "logs")
    (count,) = [line["count"] for line in lines if line["message"] == "count"]
    assert [line["number"] for line in lines if line["message"] == "parent"] == list(range(count))
    assert len({line["by"] for line in lines if line["message"] == "child"}) == 40


def test_a_child_that_returns_into_a_wait_for_room(tmp_path: Path) -> None:
    """A signal handler forks while its thread waits for room, and the child returns into that wait: it goes on."""
    script = """
        handler = JsonlHandler(directory, buffer_limit=10, overflow="block")
        log.addHandler(handler)
        log.info("parent")
        handler.flush()
        entered, release = threading.Event(), threading.Event()
        handler._files.write_batch, write = lambda *args: (entered.set(), release.wait(20), write(*args))[2], \
            handler._files.write_batch
        def fork(*_):
            if os.fork() == 0:
                signal.alarm(20)
            else:
                release.set()
        signal.signal(signal.SIGUSR1, fork)
        log.error("parent")
        assert entered.wait(20)
        parent = os.getpid()
        threading.Timer(0.2, os.kill, (parent, signal.SIGUSR1)).start()
        for _ in range(30):
            log.info("more")
        if os.getpid() != parent:
            log.info("child")
            logging.shutdown()
            os._exit(0)
        assert os.wait()[1] == 0
    """
    run(script, tmp_path / "logs")
    said = messages_of(tmp_path / "logs")
    assert said.count("child") == 1
    assert said.count("parent") == 2
    assert said.count("more") >= 30


def test_a_handler_of_our_own_voice_that_forks(tmp_path: Path) -> None:
    """A fork on the maintenance thread itself hangs nothing: it can't wait for its own end."""
    script = """
        class Forks(logging.Handler):
            def emit(self, record):
                children.append(in_child(lambda: log.info("child")))
                done.set()
        children, done = [], threading.Event()
        logging.getLogger("jsonl_handler").addHandler(Forks())
        handler = JsonlHandler(directory)
        log.addHandler(handler)
        log.info("parent")
        handler._files.voice.tell("test", "something to say")
        assert done.wait(20)
        assert os.waitpid(children[0], 0)[1] == 0
        log.info("parent")
    """
    run(script, tmp_path / "logs")
    assert sorted(messages_of(tmp_path / "logs")) == ["child", "parent", "parent"]


def test_a_fork_while_another_thread_configures_logging(tmp_path: Path) -> None:
    """dictConfig closes our handler under logging's lock, which the fork waits for: neither waits for the other."""
    script = """
        import logging.config
        config = {
            "version": 1,
            "disable_existing_loggers": False,
            "handlers": {"jsonl": {"class": "jsonl_handler.JsonlHandler", "directory": directory}},
            "root": {"level": "INFO", "handlers": ["jsonl"]},
        }
        logging.config.dictConfig(config)
        stop = threading.Event()
        def configure():
            while not stop.is_set():
                logging.config.dictConfig(config)
                log.info("parent")
        thread = threading.Thread(target=configure)
        thread.start()
        for _ in range(20):
            child = in_child(lambda: None)
            signal.alarm(30)
            assert os.waitpid(child, 0)[1] == 0
        signal.alarm(0)
        stop.set()
        thread.join()
    """
    run(script, tmp_path / "logs")


def test_a_descriptor_that_is_just_being_opened_is_closed_in_the_child(tmp_path: Path) -> None:
    """A file that another thread opened, but has not noted yet, does not stay open in the child."""
    script = """
        real, opened, go_on = os.open, threading.Event(), threading.Event()
        def slow_open(path, *args, **kwargs):
            descriptor = real(path, *args, **kwargs)
            if str(path).endswith(".jsonl"):
                opened.set()
                assert go_on.wait(20)
            return descriptor
        os.open = slow_open
        log.addHandler(JsonlHandler(directory, flush_interval=0))
        log.info("parent")
        assert opened.wait(20)
        def act():
            for number in os.listdir("/proc/self/fd"):
                with contextlib.suppress(OSError):
                    link = os.readlink(f"/proc/self/fd/{number}")
                    assert not link.startswith(directory + "/"), link
        child = in_child(act)
        go_on.set()
        assert os.waitpid(child, 0)[1] == 0
    """
    run(script, tmp_path / "logs")
    assert messages_of(tmp_path / "logs") == ["parent"]


def test_nothing_is_imported_once_a_handler_is_made(tmp_path: Path) -> None:
    """An import that another thread is in when the process forks hangs the child: records bring in nothing."""
    script = """
        handler = JsonlHandler(directory)
        alone = RotatingSessionJsonlHandler(directory, prefix="alone")
        log.addHandler(handler)
        log.addHandler(alone)
        before = set(sys.modules)
        log.info("one", extra={"value": {1, 2}})
        try:
            1 / 0
        except ZeroDivisionError:
            log.exception("two", stack_info=True)
        assert handler.flush()
        handler.close()
        log.info("late")
        logging.shutdown()
        print(*sorted(set(sys.modules) - before), end="")
    """
    assert run_and_read(script, tmp_path / "logs") == ""


def test_a_sweep_that_a_fork_stopped_comes_again(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sweep in progress ends for the fork, and begins anew after it."""
    handler = make(flush_interval=0)
    sweeps: list[bool] = []
    begun, again = threading.Event(), threading.Event()

    def look_after(stop: Callable[[], bool], *, sweep: bool) -> None:
        if not sweep:
            return
        sweeps.append(True)
        if len(sweeps) > 1:
            again.set()
            return
        begun.set()
        while not stop():
            continue

    monkeypatch.setattr(handler._files.maintenance, "_look_after", look_after)
    handler.handle(record())
    assert begun.wait(PATIENCE)
    before_fork()
    assert threads_of_ours() == []
    after_fork()
    handler.handle(record())
    assert again.wait(PATIENCE)


def test_a_pair_joined_by_hand_begins_anew_in_the_child(tmp_path: Path) -> None:
    """In the child its buffer is empty, its lines bear the child's session, and its listener can be started."""
    script = """
        from jsonl_handler import BatchQueueListener, RecordBuffer, SessionQueueHandler
        files = RotatingSessionJsonlHandler(directory)
        buffer = RecordBuffer()
        listener = BatchQueueListener(buffer, files)
        log.addHandler(SessionQueueHandler(buffer, files))
        listener.start()
        log.info("parent")
        def act():
            log.info("child")
            listener.start()
            listener.stop()
        child = in_child(act)
        assert os.waitpid(child, 0)[1] == 0
        log.info("parent")
        listener.stop()
    """
    run(script, tmp_path / "logs")
    names = {
        path.name: [(line["message"], line["session"], line["seq"]) for line in lines_of(path)]
        for path in segments_of(tmp_path / "logs")
    }
    assert sorted([line[0::2] for line in lines] for lines in names.values()) == [
        [("child", 0)],
        [("parent", 0), ("parent", 1)],
    ]
    assert all(line[1] in name for name, lines in names.items() for line in lines)


def test_ctrl_c_while_the_threads_come_back(make: Make, monkeypatch: pytest.MonkeyPatch, logs: Path) -> None:
    """An interrupt after the fork leaves no handler without its writer."""
    handlers = [make(prefix=f"p{number}", flush_interval=0) for number in range(3)]
    for handler in handlers:
        handler.handle(record())
    before_fork()
    for handler in handlers:
        handler.handle(record())

    def interrupt(self: BatchQueueListener) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(BatchQueueListener, "_begin", interrupt)
        with pytest.raises(KeyboardInterrupt):
            after_fork()
    for handler in handlers:
        handler.handle(record())
        assert handler.flush(PATIENCE)
    assert messages_of(logs) == ["hello"] * 9


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_program_that_is_started_inherits_no_file_of_ours(tmp_path: Path) -> None:
    """`subprocess` with `close_fds=False`, while threads log, hands none of our descriptors on."""
    script = """
        import subprocess
        log.addHandler(JsonlHandler(directory, flush_interval=0, max_file_bytes=100_000, overflow="block"))
        stop = threading.Event()
        def work():
            while not stop.is_set():
                log.info("parent")
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for preexec in (None, lambda: None) * 5:
            listed = subprocess.run(
                ["ls", "-l", "/proc/self/fd"], close_fds=False, preexec_fn=preexec, stdout=subprocess.PIPE, timeout=20
            )
            assert listed.returncode == 0
            assert os.fsencode(directory) not in listed.stdout, listed.stdout
        stop.set()
        for thread in threads:
            thread.join()
    """
    run(script, tmp_path / "logs")
