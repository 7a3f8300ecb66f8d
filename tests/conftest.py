"""What the tests share: handlers that are always closed, lines read strictly, a disk that can be held up."""

from __future__ import annotations

import errno
import gc
import json
import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jsonl_handler import Configuration, JsonlHandler
from jsonl_handler._journal_layout import CorruptError, read_preamble

PATIENCE = 30.0
"""Seconds after which a test gives up waiting; no test should ever need them."""

tmpfs = pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="there is no tmpfs for a journal here")


def rounds(short: int, full: int) -> int:
    """How often a test tries: *full* where the long suites run (``tox run -e faults``), else *short*."""
    return full if os.environ.get("JSONL_HANDLER_FULL_ROUNDS") else short


def parse_strictly(line: str | bytes) -> dict[str, Any]:
    """Read one line as RFC 8259 has it: no NaN, no name twice, an object."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        assert len(found) == len(pairs), f"a name twice in {pairs}"
        return found

    parsed = json.loads(line, parse_constant=refuse, object_pairs_hook=unique)
    assert isinstance(parsed, dict)
    return parsed


def respelt(line: bytes) -> str:
    """A line as the standard library writes it, its fields in their order: encoders spell numbers differently."""
    return json.dumps(parse_strictly(line))


def segments_of(directory: Path) -> list[Path]:
    """The segments of a directory, in the order of their names and numbers."""

    def key(path: Path) -> tuple[str, int]:
        stem, _, number = path.name.removesuffix(".jsonl").partition(".")
        return stem, int(number or 0)

    return sorted(directory.glob("*.jsonl"), key=key)


def lines_of(where: Path) -> list[dict[str, Any]]:
    """All lines of a segment, or of all segments of a directory; each must be whole and valid."""
    paths = segments_of(where) if where.is_dir() else [where]
    found = []
    for path in paths:
        content = path.read_bytes()
        assert content == b"" or content.endswith(b"\n"), f"{path} ends in the middle of a line"
        found += [parse_strictly(line) for line in content.splitlines()]
    return found


def remove_all(directory: Path) -> None:
    """Remove a directory in which a sweep may be going on, which still makes files there."""
    while directory.exists():
        shutil.rmtree(directory, ignore_errors=True)


def messages_of(where: Path) -> list[Any]:
    """The messages of all records, without the lines of the package itself."""
    return [line["message"] for line in lines_of(where) if "seq" in line]


def record(message: str = "hello", level: int = logging.INFO, **attributes: Any) -> logging.LogRecord:
    """A record as a logger makes it, with *attributes* changed."""
    made = logging.LogRecord("app", level, __file__, 1, message, (), None)
    made.__dict__.update(attributes)
    return made


def logging_config(logs: Path, **settings: Any) -> dict[str, Any]:
    """A configuration with one handler of ours, on the logger `app`."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"events": {"class": "jsonl_handler.JsonlHandler", "directory": str(logs), **settings}},
        "loggers": {"app": {"level": "INFO", "handlers": ["events"], "propagate": False}},
    }


def events() -> JsonlHandler:
    """The handler that the logger `app` has now."""
    (handler,) = logging.getLogger("app").handlers
    assert isinstance(handler, JsonlHandler)
    return handler


def until(condition: Callable[[], object]) -> None:
    """Wait until something is so."""
    ended = threading.Event()
    for _ in range(int(PATIENCE * 100)):
        if condition():
            return
        ended.wait(0.01)
    raise AssertionError("it never became so")


class Disk:
    """Stands between the package and `os.write` to segments: it can hold writes up, or fail them."""

    def __init__(self) -> None:
        self.error: int | None = None
        self.shortest: int | None = None
        self.writes = 0
        self.stuck = threading.Event()
        self._open = threading.Event()
        self._open.set()
        self._write = os.write

    def hold(self) -> None:
        """Every write to a segment blocks from now on."""
        self.stuck.clear()
        self._open.clear()

    def release(self) -> None:
        """Let the writes go on."""
        self._open.set()

    def write(self, descriptor: int, content: Any) -> int:
        if not os.readlink(f"/proc/self/fd/{descriptor}").endswith((".jsonl", ".jsonl (deleted)")):
            return self._write(descriptor, content)
        self.writes += 1
        if not self._open.is_set():
            self.stuck.set()
            assert self._open.wait(PATIENCE)
        if self.shortest is not None:
            content, self.shortest = content[: self.shortest], None
            return self._write(descriptor, content)
        if self.error is not None:
            raise OSError(self.error, os.strerror(self.error))
        return self._write(descriptor, content)

    def fill(self) -> None:
        """The disk is full from now on."""
        self.error = errno.ENOSPC

    def mend(self) -> None:
        """Writes succeed again."""
        self.error = None


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    """A disk under the test's control."""
    made = Disk()
    monkeypatch.setattr(os, "write", made.write)
    yield made
    made.mend()
    made.release()


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """A directory for segments that does not exist yet."""
    return tmp_path / "logs"


@pytest.fixture
def make(logs: Path) -> Iterator[Callable[..., JsonlHandler]]:
    """Makes handlers on `logs`, and closes them at the end."""
    made: list[JsonlHandler] = []

    def build(directory: Path | None = None, **settings: Any) -> JsonlHandler:
        made.append(JsonlHandler(directory or logs, **settings))
        return made[-1]

    yield build
    for handler in made:
        handler.close()


@pytest.fixture
def uncollected() -> Iterator[None]:
    """No garbage collector comes by: what is not referred to any more must be gone without one."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def frozen_garbage() -> Iterator[None]:
    """Hundreds of collections of all that other tests have left in the memory would take half a minute."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def healthy(tmp_path: Path) -> Iterator[Path]:
    """A directory that no other program's writes can slow down: in memory, where there is a place for that."""
    shared = Path("/dev/shm")
    if not os.access(shared, os.W_OK):
        yield tmp_path / "logs"
        return
    with tempfile.TemporaryDirectory(dir=shared) as folder:
        yield Path(folder) / "logs"


class Notices(logging.Handler):
    """Keeps what the package tells on its own logger."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self._heard = threading.Condition()

    def emit(self, record: logging.LogRecord) -> None:
        with self._heard:
            self.records.append(record)
            self._heard.notify_all()

    def texts(self) -> list[str]:
        return [entry.getMessage() for entry in self.records]

    def about(self, word: str) -> list[str]:
        return [text for text in self.texts() if word in text]

    def wait_for(self, word: str) -> str:
        """Wait until something with *word* in it is told."""
        with self._heard:
            assert self._heard.wait_for(lambda: bool(self.about(word)), PATIENCE), self.texts()
        return self.about(word)[0]


@pytest.fixture
def notices() -> Iterator[Notices]:
    """Listens to the logger `jsonl_handler`."""
    heard = Notices()
    logger = logging.getLogger("jsonl_handler")
    logger.addHandler(heard)
    yield heard
    logger.removeHandler(heard)


def _descriptors() -> set[str]:
    links = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            links.add(os.readlink(f"/proc/self/fd/{number}"))
        except OSError:
            continue
    return links


def journals_mapped() -> int:
    """How many journals this process has in its memory."""
    return sum("/dev/shm/jsonl-handler-" in line for line in Path("/proc/self/maps").read_text().splitlines())


def journals_of(directory: Path) -> list[Path]:
    """The journals of sessions below a directory that are still there."""
    found = []
    for path in Path("/dev/shm").glob("jsonl-handler-*.journal"):
        try:
            with open(path, "rb") as file:
                _, owner = read_preamble(file.read(1024))
        except (OSError, CorruptError):
            continue
        if owner.startswith(f"{directory}/"):
            found.append(path)
    return found


@pytest.fixture(autouse=True)
def left_as_found(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    """Root logging is restored, and no thread or descriptor of ours is left."""
    root = logging.getLogger()
    handlers, level, disabled = list(root.handlers), root.level, logging.root.manager.disable
    threads = set(threading.enumerate())
    yield
    for handler in [*root.handlers, *logging.getLogger("app").handlers]:
        if handler not in handlers:
            handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.disable(disabled)
    for name in ("app", "jsonl_handler"):
        logger = logging.getLogger(name)
        logger.handlers[:], logger.filters[:], logger.disabled, logger.propagate = [], [], False, True
        logger.setLevel(logging.NOTSET)
    ours = [thread for thread in threading.enumerate() if thread.name.startswith("jsonl-handler")]
    for thread in set(ours) - threads:
        thread.join(PATIENCE)
        assert not thread.is_alive(), f"{thread.name} is left"
    for name in journals_of(tmp_path):
        # Of processes that were killed on purpose, and not recovered.
        os.unlink(name)
    left = [link for link in _descriptors() if link.startswith(str(tmp_path))]
    assert not left, f"open descriptors: {left}"


@pytest.fixture
def configured() -> Iterator[Callable[..., Configuration]]:
    """`configure`; afterwards nothing of it is left."""
    from jsonl_handler import configuration, configure

    yield configure
    present = configuration._present
    if present is not None:
        present.close()
        handlers = list(present._running.handlers.values())
        for logger in [logging.root, *logging.root.manager.loggerDict.values()]:
            if isinstance(logger, logging.Logger):
                logger.handlers = [one for one in logger.handlers if one not in handlers]
        for handler in handlers:
            handler.close()
    configuration._present = None
