"""`python -m jsonl_handler check`: what is wrong with a configuration, or what would run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import jsonl_handler
from jsonl_handler import configuration

pytest.importorskip("typer")

GOOD: dict[str, Any] = {
    "version": 1,
    "handlers": {
        "events": {"class": "jsonl_handler.JsonlHandler", "directory": "logs", "file_mode": "0640", "flush_level": 30},
        "console": {"class": "logging.StreamHandler", "level": "ERROR", "stream": "ext://sys.stdout"},
    },
    "root": {"level": "INFO", "handlers": ["events", "console"]},
    "loggers": {"app": {"level": "DEBUG"}, "web": {"handlers": ["console"], "propagate": False}},
}


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    env = {"PYTHONPATH": str(Path(jsonl_handler.__file__).parent.parent)}
    command = [sys.executable, "-m", "jsonl_handler", "check", *arguments]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=60, check=False)


def test_what_would_run_is_shown(tmp_path: Path) -> None:
    """A good file is answered with its handlers, their files and their settings, and the loggers; nothing is made."""
    (tmp_path / "logging.json").write_text(json.dumps(GOOD))

    done = run("logging.json", cwd=tmp_path)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "handler events: jsonl_handler.JsonlHandler, level NOTSET",
        f"  files: {tmp_path}/logs/telemetry-DATE-SESSION.jsonl",
        "  flush_level: WARNING",
        "  file_mode: 0o640",
        "handler console: logging.StreamHandler, level ERROR",
        "logger root: level INFO, events, console",
        "logger app: level DEBUG, no handler of its own",
        "logger web: the level of its parent, console",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["logging.json"]


def test_all_that_is_wrong_is_a_line_each(tmp_path: Path) -> None:
    """One run names everything: unknown keys, classes and names, types, and values that would not be used."""
    wrong = json.loads(json.dumps(GOOD))
    wrong["handler"] = {}
    wrong["handlers"]["events"].update(maxBytes=1, max_files=0)
    wrong["handlers"]["console"]["class"] = "nowhere.Handler"
    wrong["handlers"]["file"] = {"class": "logging.FileHandler", "filename": "kept.txt", "mode": "w"}
    wrong["loggers"]["app"] = {"level": "LOUD", "handlers": ["nobody"]}
    (tmp_path / "pyproject.json").write_text(json.dumps({"tool": {"logging": wrong}}))
    (tmp_path / "kept.txt").write_text("kept")

    done = run("pyproject.json", "--table", "tool.logging", cwd=tmp_path)

    assert done.returncode == 1
    said = sorted(line.removeprefix("pyproject.json: ") for line in done.stdout.splitlines())
    assert [line.partition(": ")[0] for line in said] == [
        "handler",
        "handlers.console.class",
        "handlers.events.maxBytes",
        "handlers.events.max_files",
        "loggers.app.handlers",
        "loggers.app.level",
    ]
    assert (tmp_path / "kept.txt").read_text() == "kept"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.toml", "version = 1\nhandlers = 1 2", "line 2"),
        ("a.ini", "", "must end in .toml, .json, .yaml, .yml"),
        ("a.json", None, "No such file"),
    ],
)
def test_a_file_that_is_none_is_said_to_be_so(tmp_path: Path, name: str, content: str | None, said: str) -> None:
    """What can't be read at all is one line too, and no traceback."""
    if content is not None:
        (tmp_path / name).write_text(content)

    done = run(name, cwd=tmp_path)

    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith(f"{name}: ")
    assert said in done.stdout


def test_a_module_beside_the_program_is_found(tmp_path: Path) -> None:
    """What the file names is looked for where the command is run, as by the program itself."""
    (tmp_path / "mine.py").write_text("import logging\nclass Mine(logging.NullHandler): pass\n")
    made = {"version": 1, "handlers": {"mine": {"class": "mine.Mine"}}}
    (tmp_path / "a.json").write_text(json.dumps(made))

    done = run("a.json", cwd=tmp_path)

    assert (done.returncode, done.stdout) == (0, "handler mine: mine.Mine, level NOTSET\n")


@pytest.mark.parametrize(
    "mapping",
    [
        {"version": 1, "handlers": ["x"]},
        {"version": 1, "handlers": {"x": None}, "formatters": 7, "filters": {"y": []}},
        {"version": 1, "handlers": {"x": {"class": 7, "formatter": "cfg://handlers.y"}}},
        {"version": 1, "handlers": {"x": {"()": ["a"], "level": {}}}, "root": ["y"]},
        {7: 8, "version": 1, "loggers": {7: {}}},
        {"version": 1, "handlers": {"x": {"class": "cfg://handlers.x.class"}}},
        {"version": 1, "a": "cfg://a"},
    ],
)
def test_nothing_that_is_wrong_breaks_the_check(mapping: dict[Any, Any]) -> None:
    """Whatever a configuration holds, the check has an answer."""
    assert configuration.check(mapping).problems


def test_incremental_ones_are_checked_too() -> None:
    """A configuration that only changes levels makes no handlers."""
    found = configuration.check({"version": 1, "incremental": True, "loggers": {"app": {"level": "DEBUG"}}})

    assert found.problems == []
    assert [logger.name for logger in found.loggers] == ["app"]
