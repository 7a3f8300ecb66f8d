"""Small file systems for the tests: mounted where nobody else sees them, gone with the program that mounted them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def _may_mount() -> bool:
    """True where a test is allowed, and able, to mount something in a namespace of its own."""
    if os.environ.get("JSONL_HANDLER_MOUNT_TESTS") != "1" or shutil.which("unshare") is None or os.geteuid() != 0:
        return False
    command = ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"]
    return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0


needs_mounts = pytest.mark.skipif(
    not _may_mount(), reason="mounts a file system: needs JSONL_HANDLER_MOUNT_TESTS=1 and root on Linux"
)


def in_private_mounts(script: str, directory: Path, *arguments: str, timeout: float = 60) -> str:
    """Run a program that may mount below *directory*; nobody else sees it, and it ends with the program.

    The program has `small_disks` at hand.
    """
    paths = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        ["unshare", "-m", sys.executable, "-c", script, str(directory), *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
