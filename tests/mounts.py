"""Small file systems for the tests: mounted where nobody else sees them, gone with the program that mounted them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PRELUDE = """
import json, logging, os, signal, subprocess, sys, threading, time
from pathlib import Path
from jsonl_handler import JsonlHandler, recover
from small_disks import fill, frozen, lines_in, mount, wait_until

class Told(logging.Handler):
    def __init__(self):
        super().__init__()
        self.texts = []
    def emit(self, record):
        self.texts.append(record.getMessage())
    def about(self, word):
        return [text for text in self.texts if word in text]

told = Told()
logging.getLogger("jsonl_handler").addHandler(told)
logging.getLogger("jsonl_handler").propagate = False
log = logging.getLogger("app")
log.setLevel(logging.INFO)
log.propagate = False

def numbers_in(place):
    return [line["number"] for line in lines_in(place) if "number" in line]
"""
"""What such programs begin with: a logger without handlers, and an ear for what the package tells."""


def _may_mount() -> bool:
    """True where a test is allowed, and able, to mount something in a namespace of its own."""
    if os.environ.get("JSONL_HANDLER_MOUNT_TESTS") != "1" or shutil.which("unshare") is None or os.geteuid() != 0:
        return False
    command = ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"]
    return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0


needs_mounts = pytest.mark.skipif(
    not _may_mount(), reason="mounts a file system: needs JSONL_HANDLER_MOUNT_TESTS=1 and root on Linux"
)


def environment() -> dict[str, str]:
    """What a program needs that imports `small_disks`."""
    paths = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def in_private_mounts(script: str, directory: Path, *arguments: str, timeout: float = 60) -> str:
    """Run a program that may mount below *directory*; nobody else sees it, and it ends with the program.

    The program has `small_disks` at hand.
    """
    done = subprocess.run(
        ["unshare", "-m", sys.executable, "-c", script, str(directory), *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
