"""Programs that are ended while they log, and the account of what they said was accepted."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path
from typing import Any

from conftest import PATIENCE, parse_strictly, segments_of

from jsonl_handler import recover

CHILD = """
    import errno, faulthandler, json, logging, os, random, signal, sys, threading
    from jsonl_handler import JsonlHandler

    directory, report, options = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
    disk = options.pop("disk", None)
    if disk is not None:
        # Every so often the disk is full for a while; what fits of a write is written.
        write, state = os.write, {"left": 0}
        def limited(descriptor, content):
            if os.readlink(f"/proc/self/fd/{descriptor}").endswith(".jsonl"):
                state["left"] -= 1
                if -6 < state["left"] < 0:
                    if state["left"] == -1 and len(content) > 10:
                        return write(descriptor, content[: len(content) // 2 + 3])
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                if state["left"] <= -6:
                    state["left"] = random.randint(1, disk)
            return write(descriptor, content)
        os.write = limited
        import jsonl_handler.pair
        jsonl_handler.pair._FIRST_PAUSE = 0.002
        jsonl_handler.pair._LONGEST_PAUSE = 0.004
    changes = options.pop("changes", None)
    ending = options.pop("ending", None)
    after = options.pop("after", 0)
    # What is accepted is then there: nothing is dropped on a machine that is too busy for the writer.
    options.setdefault("overflow", "block")
    handler = JsonlHandler(directory, **options)
    log = logging.getLogger("app")
    log.setLevel(logging.INFO)
    log.propagate = False
    log.addHandler(handler)
    logging.getLogger("jsonl_handler").addHandler(logging.NullHandler())
    logging.getLogger("jsonl_handler").propagate = False

    def run(thread, count):
        me = os.getpid()
        fill = "x" * (thread * 40)
        for number in range(count):
            log.info("record", extra={"by": me, "worker": thread, "number": number, "fill": fill})
            os.write(report, b"%d %d %d\\n" % (me, thread, number))
            if number == after and thread == 0:
                if ending == "_exit":
                    os._exit(1)
                if ending == "segfault":
                    faulthandler._sigsegv()

    def change():
        while True:
            handler.reconfigure(**random.choice(changes))

    if changes:
        threading.Thread(target=change, daemon=True).start()

    def run_all(count):
        threads = [threading.Thread(target=run, args=(thread, count), daemon=True) for thread in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    if ending == "return":
        # A child of multiprocessing that simply returns, of a parent that has logged too.
        import multiprocessing
        run(4, 10)
        child = multiprocessing.get_context("fork").Process(target=run_all, args=(after // 4,))
        child.start()
        child.join()
        assert child.exitcode == 0
    else:
        run_all(10**9)
"""


def start(directory: Path, report: int, **options: Any) -> subprocess.Popen[bytes]:
    """Start a program that logs numbered records from four threads, and reports each as it is accepted."""
    command = [sys.executable, "-c", textwrap.dedent(CHILD), str(directory), str(report), json.dumps(options)]
    with open(directory.parent / "stderr", "ab") as stderr:
        return subprocess.Popen(command, pass_fds=[report], stderr=stderr)


def run_and_end(directory: Path, choice: random.Random, signal_number: int | None, **options: Any) -> set[bytes]:
    """Start such a program, end it after a random number of reports, and give the reports."""
    reader, writer = os.pipe()
    child = start(directory, writer, after=choice.randint(0, 3000), **options)
    os.close(writer)
    enough = choice.randint(1, 60_000)
    reported = b""
    try:
        while chunk := os.read(reader, 65536):
            reported += chunk
            if signal_number is not None and len(reported) > enough:
                child.send_signal(signal_number)
                signal_number = None
        child.wait(PATIENCE)
    finally:
        os.close(reader)
        if child.poll() is None:
            child.kill()
            child.wait()
    assert (directory.parent / "stderr").read_text() == ""
    # The last report may be torn.
    return set(reported[: reported.rfind(b"\n") + 1].splitlines())


def recover_while_killed(directory: Path, choice: random.Random, kills: int) -> None:
    """Recover, by programs that are killed in the middle of it, and at last by one that is not."""
    program = "import sys; from jsonl_handler import recover; print(1, flush=True); recover(sys.argv[1])"
    for _ in range(kills):
        child = subprocess.Popen(
            [sys.executable, "-c", program, str(directory)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert child.stdout is not None
        child.stdout.readline()
        try:
            child.wait(choice.random() * 0.004)
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
        child.wait(PATIENCE)
        child.stdout.close()
    recover(directory)


def assert_all_there(directory: Path, reported: set[bytes]) -> None:
    """Each reported record is there exactly once, each line is whole and valid, nobody is waiting to be recovered.

    On a machine that is so busy that records are dropped, as many may be missing as the stream tells of.
    """
    found: Counter[bytes] = Counter()
    told = 0
    for path in segments_of(directory):
        content = path.read_bytes()
        assert content == b"" or content.endswith(b"\n"), f"{path} ends in the middle of a line"
        for line in content.splitlines():
            fields = parse_strictly(line)
            told += fields.get("dropped") or 0
            if "by" in fields:
                found[b"%d %d %d" % (fields["by"], fields["worker"], fields["number"])] += 1
    twice = [key for key, count in found.items() if count > 1]
    assert not twice, f"twice: {len(twice)}, such as {twice[:3]}"
    missing = reported - found.keys()
    what = f"of {len(reported)} missing: {len(missing)}, such as {sorted(missing)[:3]}; told of {told}"
    assert len(missing) <= told, what
    left = [name for name in os.listdir(directory / ".jsonl-handler") if re.search(r"\.session$", name)]
    assert not left
