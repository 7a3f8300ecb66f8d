"""The docs are true: their examples run, and their commands are the ones that are checked."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from test_architecture import ARROWS

import jsonl_handler

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])
VOLATILE = {"timestamp": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", "session": r"[a-z0-9]{8}"}


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def run_python(source: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    script = cwd / "example.py"
    script.write_text(source, encoding="utf-8")
    # The package that is tested, wherever another one may be installed.
    env = os.environ | {"PYTHONPATH": str(Path(jsonl_handler.__file__).parent.parent)}
    return subprocess.run([sys.executable, script], cwd=cwd, env=env, capture_output=True, text=True, timeout=60)


def test_the_readme_example_writes_the_line_that_it_shows(tmp_path: Path) -> None:
    """The README's Python example writes exactly one line, and it is the one below the example."""
    done = run_python(blocks(README, "python")[0], tmp_path)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (path,) = tmp_path.glob("logs/telemetry-*.jsonl")
    (written,) = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    (shown,) = map(json.loads, blocks(README, "json"))
    for field, pattern in VOLATILE.items():
        assert re.fullmatch(pattern, shown.pop(field))
        assert re.fullmatch(pattern, written.pop(field))
    assert list(written.items()) == list(shown.items())


def test_the_readme_example_is_short() -> None:
    """The README's example has its configuration and its event within about ten lines."""
    lines = [line for line in blocks(README, "python")[0].splitlines() if line]

    assert len(lines) <= 10


def test_the_tutorial_runs_from_top_to_bottom(tmp_path: Path) -> None:
    """The tutorial's Python blocks run one after the other without an error or a warning."""
    tutorial = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")

    done = run_python("\n".join(blocks(tutorial, "python")), tmp_path)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.glob("service-logs/shop-*.jsonl"))


def test_the_code_of_the_reference_runs(tmp_path: Path) -> None:
    """The reference's Python blocks run one after the other, and each pair writes its line."""
    reference = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")

    done = run_python("\n".join(blocks(reference, "python")), tmp_path)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    for folder, message in (("composed-logs", "through the stock pair"), ("paired-logs", "through our own pair")):
        (path,) = tmp_path.glob(f"{folder}/telemetry-*.jsonl")
        (line,) = map(json.loads, path.read_text(encoding="utf-8").splitlines())
        assert line["message"] == message


def test_the_test_command_of_the_readme_is_what_ci_runs() -> None:
    """The README's line that installs tox and runs it is a line of .ci/run."""
    (command,) = [block.strip() for block in blocks(README, "sh") if "tox" in block]

    assert "\n" not in command
    assert command in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_the_demo_command_of_the_readme_installs_what_the_demo_needs() -> None:
    """The README's line for the demo installs an extra that has typer and rich."""
    (command,) = [block.strip() for block in blocks(README, "sh") if "demo" in block]
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]

    match = re.fullmatch(r'python -m pip install "\.\[(\w+)\]" && python -m jsonl_handler demo', command)

    assert match
    assert extras[match[1]] == ["jsonl-handler[fast,cli,zstd,yaml]"]
    assert {"typer", "rich"} == {re.split("[<>=]", need)[0] for need in extras["cli"]}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_the_pages_lead_somewhere(page: Path) -> None:
    """A relative link names a file that is there."""
    targets = re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))

    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_prose_has_one_sentence_per_line(page: Path) -> None:
    """No line of prose holds the end of a sentence and the start of another."""
    prose = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    lines = [line for line in prose.splitlines() if not line.startswith("|")]

    assert [line for line in lines if re.search(r"[a-z)`][.!?] +[A-Z`]", line)] == []


def test_the_design_page_has_the_same_arrows_as_the_architecture_test() -> None:
    """The table of rooms in the docs is the one that the architecture test guards."""
    design = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| .+ \| (.+) \|$", design, re.MULTILINE)

    assert {room: set(re.findall(r"`(\w+)`", ends)) for room, ends in rows} == ARROWS


def test_no_page_names_a_folder_of_one_machine() -> None:
    """Paths in the docs work on any machine."""
    texts = [page.read_text(encoding="utf-8") for page in PAGES]

    assert not [text for text in texts if re.search(r"(?<![\w./])/(home|root|work|Users)/", text)]


def test_the_tests_that_the_docs_name_are_there() -> None:
    """`docs/reliability.md` names no test that does not exist."""
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    files = re.findall(r"`(test_\w+\.py)`", text)
    assert files
    for file in files:
        assert (ROOT / "tests" / file).exists(), file
    rows = [line for line in text.splitlines() if line.startswith("|") and "`test_" in line]
    for row in rows:
        sources = "".join(
            (ROOT / "tests" / file).read_text(encoding="utf-8") for file in re.findall(r"`(test_\w+\.py)`", row)
        )
        for name in re.findall(r"`(test_\w+)`", row):
            assert f"def {name}(" in sources, name
