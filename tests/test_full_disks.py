"""Disks that are really full, of several kinds: nothing accepted is lost, no line is torn, and it is told once."""

from __future__ import annotations

from pathlib import Path

import pytest
from mounts import PRELUDE, in_private_mounts, needs_mounts

pytestmark = [pytest.mark.mount, needs_mounts]

KINDS = ["tmpfs", "ext4"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_small_disk_that_is_really_full(tmp_path: Path, kind: str) -> None:
    """What the buffer holds is written once there is room, no line is torn, trouble and its end are told once each."""
    script = """
place = mount(sys.argv[2], Path(sys.argv[1], "disk"))
handler = JsonlHandler(place / "logs", flush_interval=0.01)
log.addHandler(handler)
log.info("record", extra={"number": -1})
assert handler.flush(20)
ballast = fill(place)
for number in range(400):
    log.info("record", extra={"number": number, "fill": "x" * 300})
assert handler.flush(0.5) is False
assert "No space left" in handler.stats().last_error
ballast.unlink()
assert handler.flush(20)
assert numbers_in(place) == list(range(-1, 400))
assert handler.stats().dropped == 0
handler.close()
assert len(told.about("cannot write")) == len(told.about("works again")) == 1, told.texts
assert len(told.texts) == 2, told.texts
"""
    in_private_mounts(PRELUDE + script, tmp_path, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_killed_while_the_disk_is_full(tmp_path: Path, kind: str) -> None:
    """`recover` on the full disk raises nothing, tells, and leaves everything; with room each record is there once."""
    child = """
place = Path(sys.argv[1], "disk")
handler = JsonlHandler(place / "logs", flush_interval=0.01)
log.addHandler(handler)
for number in range(-5, 0):
    log.info("record", extra={"number": number})
assert handler.flush(20)
fill(place)
for number in range(400):
    log.info("record", extra={"number": number, "fill": "x" * 300})
assert handler.flush(0.3) is False
print(handler.stats().accepted, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    script = f"""
place = mount(sys.argv[2], Path(sys.argv[1], "disk"))
child = subprocess.run([sys.executable, "-c", {PRELUDE + child!r}, sys.argv[1]], stdout=subprocess.PIPE, timeout=40)
assert (child.returncode, child.stdout) == (-signal.SIGKILL, b"405\\n")
(session,) = place.glob("logs/.jsonl-handler/*.session")
journal = Path("/dev/shm", json.loads(session.read_text())["journal"])
there = sum(path.read_bytes().count(b"\\n") for path in place.rglob("*.jsonl"))
put_back = []
for attempt in range(3):
    put_back.append(recover(place / "logs"))
    assert len(told.about("No space left")) == attempt + 1, told.texts
    assert session.exists() and journal.exists()
    # Room for some of it: what has been put back is counted, and not put back again.
    os.truncate(place / "ballast", (place / "ballast").stat().st_size - 20_000)
(place / "ballast").unlink()
put_back.append(recover(place / "logs"))
assert numbers_in(place) == list(range(-5, 400))
assert not session.exists() and not journal.exists()
assert recover(place / "logs") == 0
assert len(told.texts) == 3, told.texts
assert there + sum(put_back) == 405 and sum(put_back[:3]) > 50, (there, put_back)
"""
    in_private_mounts(PRELUDE + script, tmp_path, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_an_exit_on_a_full_disk(tmp_path: Path, kind: str) -> None:
    """The interpreter ends within `close_timeout`, and what was not written is put back when there is room."""
    child = """
place = Path(sys.argv[1], "disk")
handler = JsonlHandler(place / "logs", flush_interval=0.01, close_timeout=0.5)
log.addHandler(handler)
log.info("record", extra={"number": 0})
assert handler.flush(20)
fill(place)
for number in range(1, 300):
    log.info("record", extra={"number": number, "fill": "x" * 300})
import atexit
# Registered later than logging's own: it runs before.
atexit.register(lambda: Path(sys.argv[1], "ends").write_text(str(time.monotonic())))
"""
    script = f"""
place = mount(sys.argv[2], Path(sys.argv[1], "disk"))
subprocess.run([sys.executable, "-c", {PRELUDE + child!r}, sys.argv[1]], timeout=40, check=True)
took = time.monotonic() - float(Path(sys.argv[1], "ends").read_text())
assert took < 0.5 + 1.5, took
(place / "ballast").unlink()
recover(place / "logs")
assert numbers_in(place) == list(range(300))
print(took)
"""
    print(in_private_mounts(PRELUDE + script, tmp_path, kind))
