"""The recipes of docs/how-to.md work: each is run as one program, with its files and its edits."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import jsonl_handler

PAGE = (Path(__file__).parent.parent / "docs" / "how-to.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SECTIONS = {
    title: [(language, text) for language, text in BLOCK.findall(section)]
    for title, section in re.findall(r"^## (.+?)$(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
}
START = "Before you begin"
RECIPES = [title for title in SECTIONS if title != START]
LANGUAGES = {"python", "py", "toml", "yaml", "json", "diff", "sh", "ini"}
COMMAND = "python -m jsonl_handler "

PROGRAM = """
import os
import runpy
import subprocess
import sys
import types
from pathlib import Path


def put(name, text):
    Path(name).write_text(text, encoding="utf-8")


def edit(old, new):
    text = Path("logging.toml").read_text(encoding="utf-8")
    assert text.count(old) == 1, old
    put("logging.toml", text.replace(old, new))
    if "configuration" in globals():
        # Nobody waits for the watch: a reload takes up what it has not yet seen.
        configuration.reload()


def run(command):
    done = subprocess.run(command, shell=True)
    assert done.returncode == 0, command
"""
END = """
configuration.close()
"""


def file_name(text: str) -> str | None:
    """The name in the first line of a block that is a file."""
    named = re.match(r"# ([\w.-]+\.\w+)\n", text)
    return named[1] if named else None


def edited(diff: str) -> tuple[str, str]:
    """What an edit looks for, and what it puts there."""
    lines = diff.splitlines(keepends=True)
    assert {line[0] for line in lines} <= set(" +-")
    return (
        "".join(line[1:] for line in lines if line[0] != "+"),
        "".join(line[1:] for line in lines if line[0] != "-"),
    )


def files_of(blocks: list[tuple[str, str]]) -> Iterator[str]:
    for _, text in blocks:
        if name := file_name(text):
            yield f"put({name!r}, {text!r})\n"
            if name == "gunicorn.conf.py":
                yield f"worker = types.SimpleNamespace()\nrunpy.run_path({name!r})['post_fork'](None, worker)\n"
                yield "configuration = worker.logging_configuration\n"


def acts_of(blocks: list[tuple[str, str]]) -> Iterator[str]:
    for language, text in blocks:
        if language == "python" and not file_name(text):
            yield text
        elif language == "diff":
            yield "edit({!r}, {!r})\n".format(*edited(text))
        elif language == "sh":
            for line in text.splitlines():
                if line.startswith(COMMAND):
                    yield f"run({line.replace('python', sys.executable, 1)!r})\n"


def program_of(title: str) -> str:
    """A recipe as one program; one that configures logging itself does without the program of the beginning."""
    recipe, start = SECTIONS[title], SECTIONS[START]
    configures = any("configure(" in text.replace("reconfigure(", "") for _, text in recipe)
    # The page checks and reads pyproject.toml in different recipes.
    elsewhere = [block for blocks in SECTIONS.values() for block in blocks if file_name(block[1]) == "pyproject.toml"]
    parts = [*files_of([*elsewhere, *start]), *([] if configures else acts_of(start)), *files_of(recipe)]
    return "".join([PROGRAM, *parts, *acts_of(recipe), END])


def test_every_recipe_can_be_run() -> None:
    """Each recipe is a program that compiles, and each edit fits the file that it edits."""
    (configuration,) = [text for _, text in SECTIONS[START] if file_name(text) == "logging.toml"]

    assert len(RECIPES) >= 10
    for title in RECIPES:
        compile(program_of(title), title, "exec")
        for language, text in SECTIONS[title]:
            if language == "diff":
                assert configuration.count(edited(text)[0]) == 1, title
    assert not [language for blocks in SECTIONS.values() for language, _ in blocks if language not in LANGUAGES]


@pytest.mark.parametrize("title", RECIPES)
def test_a_recipe_does_what_it_says(title: str, tmp_path: Path) -> None:
    """What a recipe asserts holds after its edit, and its commands succeed."""
    if COMMAND in program_of(title):
        pytest.importorskip("typer")
    script = tmp_path / "recipe.py"
    script.write_text(program_of(title), encoding="utf-8")
    package = str(Path(jsonl_handler.__file__).parent.parent)

    done = subprocess.run(
        [sys.executable, script],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": package},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("language", ["json", "yaml"])
def test_a_file_for_an_editor_is_a_configuration(
    language: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What tells an editor of the schema does not keep the file from being used."""
    if language == "yaml":
        pytest.importorskip("yaml")
    (text,) = [text for kind, text in SECTIONS["Let the editor check the file"] if kind == language]
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"logging.{language}"
    path.write_text(text, encoding="utf-8")

    with jsonl_handler.configure(path) as configuration:
        assert "logging.schema.json" in text
        assert configuration.last_error is None
