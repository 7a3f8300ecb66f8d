"""A machine without a place for journals: the records are written all the same, and that they are not safe is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from mounts import PRELUDE, in_private_mounts, needs_mounts

pytestmark = [pytest.mark.mount, needs_mounts]

PLACES = {
    # As in a container that has used up its 64 MiB.
    "full": 'subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "none", "/dev/shm"], check=True)',
    "gone": 'mount("tmpfs", Path("/dev"))',
    # A file on a disk must never be mapped: a store into it would wait for the disk, or kill the process.
    "on a disk": 'subprocess.run(["mount", "--bind", mount("ext4", root / "disk", "16m"), "/dev/shm"], check=True)',
}
REASONS = {"full": "No space left", "gone": "No such file", "on a disk": "there is no tmpfs"}


@pytest.mark.parametrize("place", PLACES)
def test_no_place_for_a_journal(tmp_path: Path, place: str) -> None:
    """Anonymous memory serves instead: told once with its reason, and nothing is lost or left."""
    script = f"""
root = Path(sys.argv[1])
{PLACES[place]}
before = os.listdir("/dev/shm") if os.path.exists("/dev/shm") else []
handler = JsonlHandler(root / "logs", flush_interval=0.01, max_file_bytes=100_000)
log.addHandler(handler)
for number in range(5000):
    log.info("record", extra={{"number": number, "fill": "x" * 300}})
assert handler.flush(20)
assert handler.stats().crash_safe is False
handler.close()
assert sorted(numbers_in(root / "logs")) == list(range(5000)), handler.stats()
assert len(told.about("no journal can be kept in /dev/shm: {REASONS[place]}")) == len(told.texts) == 1, told.texts
assert (os.listdir("/dev/shm") if os.path.exists("/dev/shm") else []) == before
"""
    in_private_mounts(PRELUDE + script, tmp_path)


def test_a_place_that_fills_up_later(tmp_path: Path) -> None:
    """A journal that is there has all of its memory: others that fill the rest of the tmpfs take nothing from it."""
    script = """
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", "/dev/shm"], check=True)
handler = JsonlHandler(Path(sys.argv[1], "logs"), flush_interval=3600, buffer_limit=5000)
log.addHandler(handler)
log.info("record", extra={"number": 0})
assert handler.flush(20)
assert handler.stats().crash_safe is True
fill(Path("/dev/shm"))
for number in range(1, 5000):
    log.info("record", extra={"number": number, "fill": "x" * 300})
assert handler.flush(20)
stats = handler.stats()
assert (stats.crash_safe, stats.dropped, stats.written) == (True, 0, 5000), stats
assert told.texts == []
handler.close()
"""
    in_private_mounts(PRELUDE + script, tmp_path)
