"""A disk that stands still: no thread of the process stops for it, no caller waits, and every loss is told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import rounds
from mounts import PRELUDE, environment, in_private_mounts, needs_mounts

STALL = (
    PRELUDE
    + """
from contextlib import contextmanager

@contextmanager
def blocked():
    # Each write to a segment waits, without the GIL, as on a disk that does not answer.
    write, go_on = os.write, threading.Event()
    def wait(descriptor, content):
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith(".jsonl"):
            go_on.wait(60)
        return write(descriptor, content)
    os.write = wait
    try:
        yield
    finally:
        os.write = write
        go_on.set()

root, kind, seconds, settings = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]), json.loads(sys.argv[4])
place = mount("ext4", root / "disk", "32m") if kind == "frozen" else root
handler = JsonlHandler(place / "logs", flush_interval=0.01, **settings)
log.addHandler(handler)
log.info("record", extra={"number": [-1, 0]})
assert handler.flush(20)

stop = False
logged, waits, gaps = [0] * 4, [0.0] * 4, [0.0]
ticks, checks, wrong = [0], [0], []

def call(thread):
    while not stop:
        begun = time.monotonic()
        log.info("record", extra={"number": [thread, logged[thread]]})
        waits[thread] = max(waits[thread], time.monotonic() - begun)
        logged[thread] += 1
        if logged[thread] % 50 == 0:
            time.sleep(0.001)

def count():
    last = time.monotonic()
    while not stop:
        ticks[0] += 1
        time.sleep(0.001)
        now = time.monotonic()
        gaps[0], last = max(gaps[0], now - last), now

def check():
    while not stop:
        stats = handler.stats()
        checks[0] += 1
        if stats.accepted != stats.written + stats.dropped + stats.pending:
            wrong.append(stats)
        time.sleep(0.002)

threads = [threading.Thread(target=call, args=(index,)) for index in range(4)]
threads += [threading.Thread(target=count), threading.Thread(target=check)]
with frozen(place) if kind == "frozen" else blocked():
    for thread in threads:
        thread.start()
    wait_until(lambda: handler.stats().dropped > 0)
    before, until = (ticks[0], handler.stats().written), time.monotonic() + seconds
    wait_until(lambda: time.monotonic() > until)
    assert handler.stats().written == before[1]
    assert ticks[0] - before[0] > 20 * seconds, ticks
stop = True
for thread in threads:
    thread.join(20)
    assert not thread.is_alive()
assert handler.flush(20)
stats = handler.stats()
assert not wrong and checks[0] > 20, (wrong[:3], checks)
assert stats.accepted == sum(logged) + 1 and stats.pending == 0, (stats, logged)
lines = lines_in(place)
numbers = [tuple(line["number"]) for line in lines if "number" in line]
assert len(set(numbers)) == len(numbers) == stats.written, (len(set(numbers)), len(numbers), stats)
assert sum(line.get("dropped", 0) for line in lines) == stats.dropped > 0
assert max(waits) < 1 and gaps[0] < 1, (waits, gaps)
handler.close()
print(f"longest wait {max(waits):.3f} s, longest gap {gaps[0]:.3f} s, {stats.dropped} dropped, {checks[0]} checks")
"""
)

SETTINGS = ["{}", '{"overflow": "drop_newest", "buffer_limit": 50}', '{"max_file_bytes": 20000}']


@pytest.mark.slow
@pytest.mark.parametrize("settings", SETTINGS)
def test_writes_that_do_not_return(tmp_path: Path, settings: str) -> None:
    """Threads run on, counts hold all the time, and afterwards what was not told as lost is there once."""
    command = [sys.executable, "-c", STALL, str(tmp_path), "blocked", str(rounds(1, 8)), settings]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment())
    assert done.returncode == 0, done.stderr
    print(done.stdout)


@pytest.mark.mount
@needs_mounts
@pytest.mark.parametrize("settings", SETTINGS)
def test_a_frozen_filesystem(tmp_path: Path, settings: str) -> None:
    """So it is with a filesystem that is frozen for a snapshot, where even `kill -9` waits for the thaw."""
    print(in_private_mounts(STALL, tmp_path, "frozen", str(rounds(2, 8)), settings))


CHILD = (
    PRELUDE
    + """
directory, pending, ending = sys.argv[1:]
handler = JsonlHandler(Path(directory) / "logs", flush_interval=0.01, close_timeout=0.5)
log.addHandler(handler)
log.info("record", extra={"number": 0})
assert handler.flush(20)
print("ready", flush=True)
sys.stdin.readline()
for number in range(1, 1 + int(pending)):
    log.info("record", extra={"number": number})
begun = time.monotonic()
if ending == "close":
    handler.close()
else:
    logging.shutdown()
print(time.monotonic() - begun, flush=True)
told.texts.clear()
"""
)


@pytest.mark.mount
@needs_mounts
@pytest.mark.parametrize("ending", ["close", "exit"])
@pytest.mark.parametrize("pending", [0, 50])
def test_an_end_on_a_frozen_filesystem(tmp_path: Path, pending: int, ending: str) -> None:
    """Closing takes `close_timeout` and a moment, whether something waits or not, and what waited is there afterwards.

    The process itself is gone only after the thaw: no thread can be ended in the middle of a write.
    """
    script = f"""
place = mount("ext4", Path(sys.argv[1], "disk"), "4m")
command = [sys.executable, "-c", {CHILD!r}, place, *sys.argv[2:]]
child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
assert child.stdout.readline() == "ready\\n"
with frozen(place):
    child.stdin.write("\\n")
    child.stdin.flush()
    took = float(child.stdout.readline())
    assert child.poll() is None
assert child.wait(20) == 0
recover(place / "logs")
assert numbers_in(place) == list(range(1 + int(sys.argv[2])))
assert not list(place.glob("logs/.jsonl-handler/*.session"))
assert took < 0.5 + 2, took
print(f"took {{took:.3f}} s")
"""
    print(in_private_mounts(PRELUDE + script, tmp_path, str(pending), ending))
