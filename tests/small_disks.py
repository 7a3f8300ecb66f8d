"""Small filesystems of several kinds: mounted, filled, frozen and thawed by programs that `in_private_mounts` runs.

It imports nothing of the tests or of the package: those programs are run without either at hand.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LONGEST_FREEZE = 20.0
"""Seconds after which a frozen filesystem is thawed whatever has become of who froze it."""

_WATCHDOG = """
import subprocess, sys
sys.stdout.write("ready\\n")
sys.stdout.flush()
try:
    # Ends early when nobody holds the other end any more.
    __import__("select").select([0], [], [], float(sys.argv[2]))
finally:
    subprocess.run(["fsfreeze", "-u", sys.argv[1]], capture_output=True)
"""


def mount(kind: str, place: Path, size: str = "1m") -> Path:
    """Mount an empty filesystem on *place*: "tmpfs", or "ext4" in a file that is laid beside it."""
    place.mkdir(exist_ok=True)
    if kind == "tmpfs":
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", place], check=True)
        return place
    image = place.with_name(place.name + ".image")
    subprocess.run(["truncate", "-s", size, image], check=True)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, place], check=True)
    return place


def fill(place: Path) -> Path:
    """Fill a filesystem to its last byte; the file that must be removed to make room again."""
    ballast = place / "ballast"
    with open(ballast, "wb", buffering=0) as file:
        for size in (65536, 1024, 1):
            try:
                while True:
                    file.write(b"x" * size)
                    if size == 1024:
                        # Else the disk counts blocks that it has promised and may not need.
                        os.fsync(file.fileno())
            except OSError:
                continue
    return ballast


@contextmanager
def frozen(place: Path, longest: float = LONGEST_FREEZE) -> Iterator[None]:
    """Freeze the filesystem on *place* as for a snapshot: whoever writes to it stands still until the end."""
    # The directory alone, were it not a mount of its own, would take the whole machine's disk along.
    assert os.path.ismount(place)
    assert os.stat(place).st_dev not in (os.stat("/").st_dev, os.stat(place.parent).st_dev)
    watchdog = subprocess.Popen(
        [sys.executable, "-c", _WATCHDOG, place, str(longest)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert watchdog.stdin is not None
    assert watchdog.stdout is not None
    assert watchdog.stdout.readline() == b"ready\n"
    subprocess.run(["fsfreeze", "-f", place], check=True)
    try:
        yield
    finally:
        watchdog.stdin.close()
        watchdog.wait(60)
        watchdog.stdout.close()


def lines_in(place: Path) -> list[dict[str, Any]]:
    """All lines of all segments below *place*; each must be whole."""
    found = []
    for path in sorted(place.rglob("*.jsonl")):
        content = path.read_bytes()
        assert content == b"" or content.endswith(b"\n"), f"{path} ends in the middle of a line"
        found += [json.loads(line) for line in content.splitlines()]
    return found


def wait_until(true: Any, patience: float = 30.0) -> None:
    """Wait until *true* says so."""
    deadline = time.monotonic() + patience
    while not true():
        assert time.monotonic() < deadline, "waited for ever"
        time.sleep(0.002)
