"""A forked child has a session of its own; its parent's lines are its parent's alone."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from children import run
from conftest import PATIENCE, lines_of, messages_of, record, segments_of

from jsonl_handler import JsonlHandler

Make = Callable[..., JsonlHandler]

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]


@pytest.mark.parametrize("kind", ["JsonlHandler", "RotatingSessionJsonlHandler"])
def test_parent_and_child_write_to_files_of_their_own(tmp_path: Path, kind: str) -> None:
    """What the parent had pending is written once, by the parent; what the child logs is in another session's file."""
    logs = tmp_path / "logs"
    script = f"""
        log.addHandler({kind}(directory))
        log.info("pending", extra={{"by": os.getpid()}})
        child = in_child(lambda: log.info("child", extra={{"by": os.getpid()}}))
        log.info("parent", extra={{"by": os.getpid()}})
        assert os.waitpid(child, 0)[1] == 0
    """
    run(script, logs)
    assert sorted(messages_of(logs)) == ["child", "parent", "pending"]
    files = {path.name: lines_of(path) for path in segments_of(logs)}
    assert len(files) == 2
    for lines in files.values():
        assert len({(line["by"], line["session"]) for line in lines}) == 1
        assert [line["seq"] for line in lines] == list(range(len(lines)))


def test_a_lock_that_is_held_at_the_fork(tmp_path: Path) -> None:
    """A thread of the parent that is inside the buffer at the fork does not hang the child."""
    script = """
        handler = JsonlHandler(directory)
        log.addHandler(handler)
        log.info("parent")
        inside, done = threading.Event(), threading.Event()
        holder = threading.Thread(target=lambda: handler._buffer._locked(lambda: (inside.set(), done.wait(20))))
        holder.start()
        assert inside.wait(20)
        child = in_child(lambda: log.info("child"))
        assert os.waitpid(child, 0)[1] == 0
        done.set()
        holder.join()
    """
    run(script, tmp_path / "logs")
    assert sorted(messages_of(tmp_path / "logs")) == ["child", "parent"]


def test_a_child_keeps_no_session_of_its_parent_alive(make: Make, logs: Path) -> None:
    """No file of ours is open in the child: its parent's lock ends with its parent."""
    # Without limits there is no sweep, which may open its own lock at the very moment of the fork.
    handler = make(max_age_days=None, max_total_bytes=None, max_files=None)
    handler.handle(record())
    assert handler.flush(PATIENCE)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            links = []
            for number in os.listdir("/proc/self/fd"):
                try:
                    links.append(os.readlink(f"/proc/self/fd/{number}"))
                except OSError:
                    continue
            # Files, not the directory itself, which a sweep may be listing at the fork.
            os.write(writer, json.dumps([link for link in links if link.startswith(f"{logs}/")]).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as answer:
        assert json.loads(answer.read()) == []
    assert os.waitpid(child, 0)[1] == 0


def test_the_childs_numbers_begin_at_nothing(tmp_path: Path) -> None:
    """`stats()` of the child counts the child's records only, and its settings are its parent's."""
    script = """
        handler = JsonlHandler(directory, max_file_bytes=4096)
        log.addHandler(handler)
        for _ in range(5):
            log.info("parent")
        def act():
            stats = handler.stats()
            log.info("child", extra={
                "before": [stats.accepted, stats.pending, stats.session_id], "cap": handler.settings.max_file_bytes
            })
        assert os.waitpid(in_child(act), 0)[1] == 0
    """
    run(script, tmp_path / "logs")
    (line,) = [line for line in lines_of(tmp_path / "logs") if line["message"] == "child"]
    assert (line["before"], line["cap"]) == ([0, 0, None], 4096)


def test_a_multiprocessing_child_of_a_configured_parent(tmp_path: Path) -> None:
    """A `multiprocessing.Process` that is forked, and simply returns, keeps what it logged."""
    script = """
        import multiprocessing
        log.addHandler(JsonlHandler(directory))
        log.info("parent")
        def act():
            for number in range(20):
                log.info("child", extra={"number": number})
        processes = [multiprocessing.get_context("fork").Process(target=act) for _ in range(3)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(20)
            assert process.exitcode == 0
    """
    run(script, tmp_path / "logs")
    lines = lines_of(tmp_path / "logs")
    assert sorted(line["number"] for line in lines if line["message"] == "child") == sorted(list(range(20)) * 3)
    assert len({line["session"] for line in lines}) == 4
    assert [line["message"] for line in lines].count("parent") == 1


def test_a_formatter_follows_into_the_child(make: Make, logs: Path) -> None:
    """The child's lines are made by the formatter that was set in the parent."""
    handler = make()
    formatter = logging.Formatter("plain %(message)s")
    handler.setFormatter(formatter)
    handler.start_over()
    handler.handle(record())
    assert handler.flush(PATIENCE)
    assert lines_of(logs) == [{"message": "plain hello"}]
