"""The house keeps its plan: who may import whom, who starts threads, who changes files."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

import jsonl_handler

PACKAGE = "jsonl_handler"
ROOT = Path(jsonl_handler.__file__).parent

# Room -> the rooms it may import.
# Everyone may import `errors`, `_status`, `_clock` and `_held`; those import nobody outside of them.
# docs/design.md shows the same table.
ARROWS: dict[str, set[str]] = {
    "__init__": {"_buffer", "_schema", "configuration", "files", "formatter", "handler", "pair", "reading", "settings"},
    "__main__": {"cli"},
    "errors": set(),
    "_clock": set(),
    "_held": set(),
    "_status": {"_clock", "_held"},
    "_rules": set(),
    "_aliases": set(),
    "settings": {"_aliases", "_codec", "_rules"},
    "_settings_docs": {"_rules", "settings"},
    "_schema": {"_place", "_rules", "settings"},
    "_values": set(),
    "_encoding": {"_values"},
    "_truncation": {"_values"},
    "_record": {"_values"},
    "formatter": {"_encoding", "_record", "_values"},
    "_shapes": {"_encoding", "_record", "_truncation", "_values"},
    "_common": {"_shapes"},
    "_lines": {"_common", "_encoding", "_shapes", "_values", "formatter"},
    "_arena": set(),
    "_journal_layout": {"_arena", "_losses"},
    "_journal": {"_arena", "_journal_layout", "_losses"},
    "_dates": set(),
    "_doorbell": set(),
    "_losses": set(),
    "_waiting": set(),
    "_stock": {"_arena", "_dates", "_journal", "_losses", "settings"},
    "_admission": {"_doorbell", "_journal", "_stock", "_truncation", "_waiting", "settings"},
    "_handover": {"_admission", "_doorbell", "_journal", "_losses", "_stock", "settings"},
    "_buffer": {"_handover", "_journal", "settings"},
    "_names": set(),
    "_mounts": set(),
    "_lockfile": {"_mounts"},
    "_journal_file": {"_journal", "_journal_layout", "_lockfile", "_mounts"},
    "_lineage": set(),
    "_fork": {"_lineage", "_lockfile", "_parking"},
    "_parking": set(),
    "_session_file": {"_lockfile"},
    "_session": {"_lockfile", "_session_file"},
    "_survey": {"_lockfile", "_names", "_session_file"},
    "_codec": set(),
    "_segment_file": {"_arena", "_codec", "_lockfile"},
    "_segments": {"_arena", "_dates", "_names", "_segment_file"},
    "_own_lines": {"_encoding", "_losses", "_values"},
    "_journal_check": {"_arena", "_dates", "_journal", "_journal_layout", "_names", "_session_file"},
    "_recovery": {
        *(
            "_arena",
            "_journal",
            "_journal_check",
            "_journal_file",
            "_journal_layout",
            "_lockfile",
            "_names",
            "_own_lines",
            "_segment_file",
            "_segments",
        ),
        *("_session_file", "_truncation"),
    },
    "_safekeeping": {"_journal", "_journal_file", "_session_file", "settings"},
    "_retention": {"_names", "_survey", "settings"},
    "_closed_segments": {"_dates", "_names", "_session", "_session_file"},
    "_compression": {"_closed_segments", "_codec", "_lockfile", "_names", "_segment_file", "_survey"},
    "_upkeep": {
        *("_compression", "_journal_file", "_recovery", "_retention", "_session_file", "_survey", "settings"),
    },
    "_outage": set(),
    "_worker": set(),
    "_at_exit": set(),
    "_origin": set(),
    "_logging_lock": set(),
    "_maintenance": {"_logging_lock", "_parking", "_worker"},
    "_stream": {"_dates", "_names", "_segments", "settings"},
    "_succession": {"_lineage"},
    "_place": {"_rules"},
    "_claimed_session": {
        *("_arena", "_lineage", "_lockfile", "_names", "_outage", "_own_lines", "_place", "_safekeeping", "_segments"),
        *("_session", "_session_file", "_stream", "_succession", "_truncation", "_upkeep", "settings"),
    },
    "_session_files": {
        *("_arena", "_claimed_session", "_lineage", "_maintenance", "_origin", "_truncation", "_upkeep", "settings"),
    },
    "_reconfiguring": {"settings"},
    "_session_handler": {"_reconfiguring", "_session_files", "settings"},
    "_door": {"_buffer", "_common", "_encoding", "_lineage", "_lines", "_truncation"},
    "files": {
        *("_arena", "_at_exit", "_dates", "_fork", "_lineage", "_lines", "_reconfiguring", "_session_files"),
        *("_session_handler", "_truncation", "_values", "settings"),
    },
    "_batches": {"_arena", "_buffer", "_journal_layout", "_lineage", "_losses", "_own_lines", "_stock", "_truncation"},
    "pair": {"_batches", "_buffer", "_door", "_fork", "_lineage", "_parking", "_stock", "_worker"},
    "_opening": {
        *("_at_exit", "_buffer", "_door", "_lineage", "_logging_lock", "_session_files", "_session_handler", "pair"),
    },
    "handler": {
        *("_buffer", "_fork", "_journal", "_lines", "_opening", "_reconfiguring", "_session_files", "settings"),
    },
    "reading": {"_lockfile", "_maintenance", "_recovery"},
    "_config_file": set(),
    "_config_source": {"_rules"},
    "_config_ours": {"_place", "_rules", "files", "handler", "settings"},
    "_config_check": {"_config_ours", "_rules"},
    "_config_plan": {"_config_ours"},
    "_config_build": {"_config_ours", "_config_plan", "_origin", "_rules"},
    "_config_loggers": {"_config_plan"},
    "_retire": {"_worker"},
    "_config_apply": {
        "_config_build",
        "_config_check",
        "_config_loggers",
        "_config_ours",
        "_config_plan",
        "_retire",
        "_session_handler",
    },
    "_config_report": {
        "_config_apply",
        "_config_build",
        "_config_ours",
        "_config_plan",
        "_place",
        "_rules",
        "settings",
    },
    "_sighup": set(),
    "_watch": {"_fork", "_parking", "_worker"},
    "configuration": {
        "_config_apply",
        "_config_file",
        "_config_plan",
        "_config_report",
        "_config_source",
        "_fork",
        "_maintenance",
        "_rules",
        "_sighup",
        "_watch",
    },
    # The commands know the public names and each other, nothing else.
    "cli": {"__init__", "cli", "configuration"},
}
EVERYONE = {"errors", "_status", "_clock", "_held"}

# What others wrote -> the rooms that may import it.
OUTSIDE: dict[str, set[str]] = {
    "pythonjsonlogger": {"formatter", "_lines"},
    "orjson": {"_encoding"},
    "filelock": {"_lockfile"},
    "backports": {"_codec"},
    # In the standard library from 3.14 on.
    "compression": {"_codec"},
    "yaml": {"_config_source"},
    "typer": {"cli"},
    "rich": {"cli"},
}

# The writer, maintenance, the watch and `_retire` import `_worker`; the demo plays an application.
THREAD_ROOMS = {"_worker", "cli"}
THREAD_NAMES = {"Thread", "Timer", "start_new_thread", "start_joinable_thread", "ThreadPoolExecutor"}

FILE_ROOMS = {
    *("_compression", "_journal_file", "_segment_file", "_session", "_session_file", "_survey", "_retention"),
    "_lockfile",
}
OS_CHANGES = {
    *(
        "write",
        "pwrite",
        "writev",
        "truncate",
        "ftruncate",
        "unlink",
        "remove",
        "rmdir",
        "removedirs",
        "rename",
    ),
    *("renames", "replace", "link", "symlink", "mkdir", "makedirs", "chmod", "fchmod", "utime"),
}
PATH_CHANGES = {"unlink", "rmdir", "write_bytes", "write_text", "hardlink_to", "symlink_to", "mkdir"}

MODULES = sorted(ROOT.rglob("*.py"))


def dotted(path: Path) -> list[str]:
    """The module's name below the package: ``cli/demo.py`` is ``["cli", "demo"]``."""
    return list(path.relative_to(ROOT).with_suffix("").parts)


def room(path: Path) -> str:
    return dotted(path)[0]


def imported(tree: ast.AST, path: Path) -> Iterator[str]:
    """The full names of what is imported anywhere in *tree*, in functions and for types too."""
    here = [PACKAGE, *dotted(path)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(here[: -node.level]) if node.level else ""
            module = ".".join(part for part in (base, node.module or "") if part)
            yield from (f"{module}.{alias.name}" for alias in node.names)


def target(name: str) -> str:
    """The room that a full name of this package lies in: a public name lies in ``__init__``."""
    first = name.removeprefix(PACKAGE).lstrip(".").split(".")[0]
    is_room = (ROOT / f"{first}.py").exists() or (ROOT / first / "__init__.py").exists()
    return first if first and is_room else "__init__"


def is_ours(name: str) -> bool:
    return name.split(".")[0] == PACKAGE


@pytest.mark.parametrize("path", MODULES, ids=lambda path: ".".join(dotted(path)))
def test_a_room_imports_only_the_rooms_that_the_plan_allows(path: Path) -> None:
    """Imports between the rooms run one way, as the table says."""
    tree = ast.parse(path.read_bytes())
    allowed = ARROWS.get(room(path), set()) | (set() if room(path) in EVERYONE else EVERYONE)

    arrows = {target(name) for name in imported(tree, path) if is_ours(name)}

    assert room(path) in ARROWS, f"{path.name} is not in the table of rooms"
    assert arrows <= allowed, f"{room(path)} may not import {sorted(arrows - allowed)}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: ".".join(dotted(path)))
def test_a_room_imports_only_the_libraries_that_it_needs(path: Path) -> None:
    """What others wrote comes in through few doors, so that the optional stays optional."""
    tree = ast.parse(path.read_bytes())

    libraries = {name.split(".")[0] for name in imported(tree, path) if not is_ours(name)}

    foreign = libraries - sys.stdlib_module_names
    assert all(room(path) in OUTSIDE.get(library, set()) for library in foreign), sorted(foreign)


def test_the_table_of_rooms_names_each_room_that_is_there() -> None:
    """The table has no row for a room that is gone."""
    assert set(ARROWS) == {room(path) for path in MODULES}


def test_the_table_of_rooms_has_no_circle() -> None:
    """Following the arrows never leads back to where one began."""
    arrows = {start: ends - {start} for start, ends in ARROWS.items()}
    while leaves := {start for start, ends in arrows.items() if not ends}:
        arrows = {start: ends - leaves for start, ends in arrows.items() if start not in leaves}

    assert not arrows


@pytest.mark.parametrize("path", MODULES, ids=lambda path: ".".join(dotted(path)))
def test_threads_are_started_only_by_the_writer_and_maintenance(path: Path) -> None:
    """No other room starts a thread."""
    names = {
        node.attr if isinstance(node, ast.Attribute) else node.id
        for call in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(call, ast.Call)
        for node in [call.func]
        if isinstance(node, ast.Attribute | ast.Name)
    }

    assert room(path) in THREAD_ROOMS or not names & THREAD_NAMES


@pytest.mark.parametrize("path", MODULES, ids=lambda path: ".".join(dotted(path)))
def test_files_are_changed_only_by_the_rooms_that_own_them(path: Path) -> None:
    """What lies in the log directory is written and deleted in few places."""
    changes = {
        node.attr
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.Attribute)
        and (
            (isinstance(node.value, ast.Name) and node.value.id == "os" and node.attr in OS_CHANGES)
            or node.attr in PATH_CHANGES
        )
    }

    assert room(path) in FILE_ROOMS or not changes


PROBE = """
    import atexit, json, os, sys

    registered, threads, opened = [], [], []
    real = atexit.register

    def register(function, *args, **kwargs):
        registered.append(sys._getframe(1).f_globals.get("__name__", ""))
        return real(function, *args, **kwargs)

    def hook(event, args):
        if event in ("_thread.start_new_thread", "_thread.start_joinable_thread"):
            threads.append(event)
        elif event == "open" and not str(args[0]).endswith((".py", ".pyc", ".so", ".pyd")):
            opened.append(str(args[0]))

    atexit.register = register
    sys.addaudithook(hook)
    # What a measurement of coverage brings along is not ours.
    before = set(sys.modules)
    import jsonl_handler
    seen = [list(threads), list(opened)]

    print(json.dumps({
        "threads": seen[0],
        "opened": seen[1],
        "atexit": [name for name in registered if name.startswith("jsonl_handler")],
        "modules": sorted({name.split(".")[0] for name in set(sys.modules) - before}),
    }))
"""


def test_importing_the_package_starts_nothing() -> None:
    """An import starts no thread, opens no file, registers no exit and brings in nothing optional."""
    # -B: a byte-code file that Python itself writes is no doing of ours.
    command = [sys.executable, "-B", "-c", textwrap.dedent(PROBE)]

    seen = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)

    assert seen["threads"] == []
    assert seen["opened"] == []
    assert seen["atexit"] == []
    # Whatever `configure` needs comes with its first use; `logging.config` would bring `socketserver`.
    assert not {"tomllib", "yaml", "socketserver"} & set(seen["modules"])
    assert not {"filelock", "typer", "rich", "backports", "compression"} & set(seen["modules"])


@pytest.mark.skipif("JSONL_HANDLER_INSTALLED" not in os.environ, reason="tox sets it where it installed the wheel")
def test_the_tests_see_the_installed_package() -> None:
    """Under tox the wheel is what is tested, not the checkout beside the tests."""
    assert not ROOT.is_relative_to(Path(__file__).resolve().parent.parent) or ".tox" in ROOT.parts
