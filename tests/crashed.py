"""Sessions that have crashed: left by a program that kills itself, and planted with other content."""

from __future__ import annotations

import binascii
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from conftest import PATIENCE

from jsonl_handler import _journal_layout

SHM = Path("/dev/shm")

CHILD = """
    import json, logging, os, signal, sys, time
    from jsonl_handler import JsonlHandler
    from jsonl_handler._doorbell import Writer

    directory, count, options = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
    before, after = options.pop("before", ""), options.pop("after", "")
    logging.getLogger("jsonl_handler").addHandler(logging.NullHandler())
    handler = JsonlHandler(directory, **options)
    log = logging.getLogger("app")
    log.setLevel(logging.INFO)
    log.addHandler(handler)

    def settle():
        # What is logged after that waits.
        handler.flush()
        bell = handler._buffer._bell
        while bell.writer != Writer.WAITING or bell.urgent:
            time.sleep(0.001)

    exec(before)
    for number in range(count):
        log.info(f"{number}")
    exec(after)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def crash(directory: Path, count: int = 3, **options: Any) -> None:
    """Have a program log *count* records into its journal and kill itself; *before* and *after* are code to run."""
    options = {"flush_interval": 600.0, **options}
    command = [sys.executable, "-c", textwrap.dedent(CHILD), str(directory), str(count), json.dumps(options)]
    ended = subprocess.run(command, timeout=PATIENCE, check=False)
    assert ended.returncode == -signal.SIGKILL


def session_files(directory: Path) -> list[Path]:
    """The session files that are there."""
    return sorted((directory / ".jsonl-handler").glob("*.session"))


def facts_of(path: Path) -> dict[str, Any]:
    """What a session file says."""
    said: dict[str, Any] = json.loads(path.read_bytes())
    return said


def say(path: Path, **changed: Any) -> None:
    """Have a session file say something else."""
    content = b" " + json.dumps({**facts_of(path), **changed}).encode()
    path.write_bytes(content.ljust(1023) + b"\n")


def journal_of(path: Path) -> Path:
    """The journal that a session file names."""
    return SHM / facts_of(path)["journal"]


def contents(directory: Path) -> dict[str, bytes]:
    """All files below a directory, but for those that only hold a lock or a time."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and path.suffix != ".sweep"
    }


class Crashed:
    """One crashed session, that can be planted anywhere and as often as one likes."""

    def __init__(self, directory: Path) -> None:
        (path,) = session_files(directory)
        self.journal = journal_of(path).read_bytes()
        self.name = path.name
        self.facts = facts_of(path)
        self.segments = {segment.name: segment.read_bytes() for segment in directory.glob("*.jsonl")}
        self._planted: list[Path] = []

    def plant(self, directory: Path, content: bytes | None = None, **facts: Any) -> tuple[Path, Path]:
        """The session file and the journal of a copy, whose bytes and facts may be others."""
        place = SHM / f"jsonl-handler-{os.urandom(8).hex()}.journal"
        self._planted.append(place)
        descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        os.write(descriptor, self.journal if content is None else content)
        os.close(descriptor)
        folder = directory / ".jsonl-handler"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, lines in self.segments.items():
            (directory / name).write_bytes(lines)
        path = folder / self.name
        path.write_bytes(b" " + json.dumps({**self.facts, "journal": place.name, **facts}).encode().ljust(1022) + b"\n")
        return path, place

    def journals(self) -> list[tuple[int, int, int]]:
        """The state of what was planted on tmpfs."""
        found = [place.lstat() for place in self._planted if os.path.lexists(place)]
        return [(state.st_ino, state.st_mtime_ns, state.st_size) for state in found]

    def clear(self, directory: Path | None = None) -> None:
        """Remove what was planted."""
        for place in self._planted:
            place.unlink(missing_ok=True)
        self._planted.clear()
        if directory is not None:
            shutil.rmtree(directory, ignore_errors=True)


NAMES = (
    *("older", "start", "offset", "cap", "mode", "front", "count", "first", "last", "target_bytes", "reason_bytes"),
    *("live0", "head0", "limit0", "marks0", "live1", "head1", "limit1", "marks1"),
)


def rewritten(journal: bytes, generation: int | None = None, **changes: Any) -> bytes:
    """A journal whose header says something else, under a valid checksum; `target`, `dates` are the texts behind it."""
    slots = []
    for at in _journal_layout.SLOTS:
        number, _, length = _journal_layout.HEAD.unpack_from(journal, at)
        slots.append((number, at, journal[at + _journal_layout.HEAD.size :][:length]))
    number, at, body = max(slots)
    fields = dict(zip(NAMES, _journal_layout.FIXED.unpack_from(body), strict=True))
    rest = body[_journal_layout.FIXED.size :]
    marks = rest[fields["target_bytes"] + fields["reason_bytes"] :]
    target = changes.pop("target", rest[: fields["target_bytes"]])
    dates = changes.pop("dates", None)
    if dates is not None:
        marks = b"".join(_journal_layout.MARK.pack(*mark) for mark in dates)
        fields["marks0"], fields["marks1"] = len(dates), 0
    fields.update(target_bytes=len(target), reason_bytes=0)
    fields.update(changes)
    body = _journal_layout.FIXED.pack(*fields.values()) + target + marks
    number = number + 2 if generation is None else generation
    slot = _journal_layout.HEAD.pack(number, binascii.crc32(body, number & 0xFFFFFFFF), len(body)) + body
    at = _journal_layout.SLOTS[number & 1]
    return journal[:at] + slot + journal[at + len(slot) :]
