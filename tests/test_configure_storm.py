"""Reloads without end while eight threads log, and another process does the same: nothing is lost, nothing is left."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from children import run
from conftest import rounds, segments_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

RELOADS = rounds(60, 1000)

STORM = """
    import copy, gc, json, pathlib, subprocess
    import jsonl_handler

    name = sys.argv[1] if len(sys.argv) > 1 else "first"
    path = pathlib.Path(directory).with_name(f"{name}.json")
    entry = {
        "class": "jsonl_handler.JsonlHandler", "directory": directory, "overflow": "block",
        "max_total_bytes": None, "max_file_bytes": 2**30, "close_timeout": 60.0,
    }
    good = {
        "version": 1, "disable_existing_loggers": False,
        "formatters": {"ours": {"()": "jsonl_handler.JsonlFormatter"}},
        "handlers": {"events": entry},
        "loggers": {"app": {"level": "INFO", "handlers": ["events"], "propagate": False}},
    }
    refused = [
        lambda made: made.update(handler={}),
        lambda made: made["handlers"].update(x={"class": "nowhere.Handler"}),
        lambda made: made["handlers"]["events"].update(strict=True, max_files=0),
        lambda made: made["handlers"].update(x={"class": "logging.FileHandler", "filename": "/nowhere/x.txt"}),
    ]

    def write(made):
        beside = path.with_name(f"{name}.beside")
        beside.write_text(json.dumps(made))
        os.replace(beside, path)

    quiet = logging.getLogger("jsonl_handler")
    quiet.addHandler(logging.NullHandler())
    quiet.propagate = False
    write(good)
    configuration = jsonl_handler.configure(path)

    def events():
        return next(one for one in log.handlers if one.name == "events")

    def settings(made, number):
        made["handlers"]["events"].update(flush_batch_size=1 + number % 300, buffer_limit=500 + number)

    def structure(made, number):
        # The first rebuilds ours, in the same session; the others keep it.
        kind = number // 5 % 3
        if kind == 0:
            made["formatters"]["ours"]["static_fields"] = {"turn": number}
            made["handlers"]["events"]["formatter"] = "ours"
        elif kind == 1:
            made["handlers"]["null"] = {"class": "logging.NullHandler"}
            made["loggers"]["app"]["handlers"] = ["null", "events"]
        else:
            made["root"] = {"level": "ERROR", "handlers": ["events"]}

    def reload(number):
        made = copy.deepcopy(good)
        kind = number % 5
        if kind in (0, 2):
            settings(made, number)
        if kind in (1, 2, 4):
            structure(made, number)
        if kind == 3:
            refused[number // 5 % 4](made)
        write(made)
        assert configuration.reload() is (kind != 3), configuration.last_error

    def pages():
        return int(pathlib.Path("/proc/self/statm").read_text().split()[1])

    def left():
        # Handlers refer to themselves.
        gc.collect()
        return threading.active_count(), len(os.listdir("/proc/self/fd"))
"""


def test_reloads_while_eight_threads_log_in_two_processes(logs: Path) -> None:
    """Every number is there exactly once, in one session for each process; no thread, descriptor or memory more."""
    script = f"""
    stop = threading.Event()
    counts = [0] * 8

    def work(index):
        while not stop.is_set():
            for _ in range(20):
                log.info("record", extra={{"name_": name, "by": index, "number": counts[index]}})
                counts[index] += 1
            # Not so many that reading them takes longer than the storm.
            stop.wait(0.002)

    peer = subprocess.Popen([sys.executable, __file__, "second"]) if name == "first" else None
    threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
    log.info("begins")
    assert events().flush(60)
    session = events().session_id
    before = left()
    for thread in threads:
        thread.start()
    for number in range({RELOADS}):
        if number == {RELOADS} // 5:
            early = pages()
        reload(number)
    stop.set()
    for thread in threads:
        thread.join()
    assert events().flush(60)
    write(good)
    assert configuration.reload()
    # A sweep may have a file open at either moment.
    after = left()
    assert after[0] <= before[0], (after, before)
    assert after[1] <= before[1] + 1, (after, before)
    grown = (pages() - early) * 4096 / 2**20
    assert grown < 8, f"{{grown}} MiB more"
    log.info("counts", extra={{"name_": name, "counts": counts}})
    assert events().session_id == session
    logging.shutdown()
    if peer is not None:
        assert peer.wait(300) == 0
    """
    run(STORM + script, logs, limit=600.0)
    seen: Counter[tuple[str, int, int]] = Counter()
    counts: dict[str, list[int]] = {}
    sessions = set()
    for path in segments_of(logs):
        for line in map(json.loads, path.read_bytes().splitlines()):
            sessions.add(line["session"])
            assert line["session"] in path.name
            assert "dropped" not in line
            if "number" in line:
                seen[line["name_"], line["by"], line["number"]] += 1
            elif "counts" in line:
                counts[line["name_"]] = line["counts"]
    expected = Counter((name, by, number) for name in counts for by in range(8) for number in range(counts[name][by]))
    assert set(counts) == {"first", "second"}
    assert not expected - seen, f"lost: {list(expected - seen)[:5]}"
    assert not seen - expected, f"twice: {list(seen - expected)[:5]}"
    assert len(sessions) == len(segments_of(logs)) == 2


def test_in_place_reloads_leave_session_and_segment(logs: Path) -> None:
    """However often settings change, the handler, its session and its file stay."""
    script = f"""
    log.info("begins")
    handler, session, segment = events(), events().session_id, events().path
    for number in range({RELOADS}):
        made = copy.deepcopy(good)
        settings(made, number)
        write(made)
        assert configuration.reload()
        log.info("record")
        assert events() is handler
    assert handler.flush(60)
    assert (handler.session_id, handler.path) == (session, segment)
    assert handler.stats().rotations == 0
    assert configuration.generation >= {RELOADS}
    """
    run(STORM + script, logs, limit=300.0)
    assert len(segments_of(logs)) == 1


def test_a_handler_that_moves_to_the_parent_and_back_misses_nothing(logs: Path) -> None:
    """While a handler moves from a logger to the root and back, records may come twice, but none is lost."""
    script = f"""
    stop = threading.Event()
    counts = [0] * 4

    def work(index):
        while not stop.is_set():
            log.info("record", extra={{"by": index, "number": counts[index]}})
            counts[index] += 1

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for number in range({rounds(20, 200)}):
        made = copy.deepcopy(good)
        if number % 2:
            made["loggers"]["app"] = {{"level": "INFO"}}
            made["root"] = {{"level": "INFO", "handlers": ["events"]}}
        write(made)
        assert configuration.reload(), configuration.last_error
    stop.set()
    for thread in threads:
        thread.join()
    log.info("counts", extra={{"counts": counts}})
    """
    run(STORM + script, logs, limit=300.0)
    lines = [json.loads(line) for path in segments_of(logs) for line in path.read_bytes().splitlines()]
    (counts,) = (line["counts"] for line in lines if "counts" in line)
    seen = {(line["by"], line["number"]) for line in lines if "number" in line}
    assert seen == {(by, number) for by in range(4) for number in range(counts[by])}
