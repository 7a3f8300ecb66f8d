"""The benchmarks run, and what they report adds up; how long anything takes is not looked at."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

import pytest

pytest.importorskip("orjson", reason="the rows of this package are measured with the extra `fast`")

ROOT = Path(__file__).resolve().parent.parent
# At the end: where the package is installed, that is what is measured.
sys.path.append(str(ROOT))

from benchmarks import guard, lines  # noqa: E402
from benchmarks.__main__ import main  # noqa: E402
from benchmarks.calls import EVENT, MESSAGE, Event  # noqa: E402
from benchmarks.contenders import CONTENDERS  # noqa: E402
from benchmarks.processes import FailedError, folder, run_together  # noqa: E402
from benchmarks.report import cell_text  # noqa: E402
from benchmarks.suite import BENCHMARKS, Plan, cases  # noqa: E402

MEASURED = ("null", "ours", "ours-json", "ours-structlog", "null-console", "ours-console")
N = 200


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a quick run of all benchmarks, of ours and the floor."""
    out = tmp_path_factory.mktemp("benchmarks")
    arguments = ["--quick", "--n", str(N), "--contenders", ",".join(MEASURED), "--out", str(out)]
    assert main(arguments) == 0
    return out


@pytest.fixture(scope="module")
def results(report: Path) -> Any:
    """What is in `results.json`."""
    return json.loads((report / "results.json").read_text(encoding="utf-8"))


def test_each_run_of_ours_passes_its_check(results: Any) -> None:
    """Each benchmark ran each contender in each case once, and all lines were as they should be."""
    plan = Plan(n=N, rounds=1, quick=True, contenders=frozenset(MEASURED))
    expected = {
        (benchmark, case.label, name)
        for benchmark in BENCHMARKS
        if benchmark != "imports"
        for case in cases(benchmark, plan)
        for name in case.contenders
        if name in MEASURED
    } | {("imports", "with orjson", "ours"), ("imports", "without orjson", "ours")}

    ran = Counter((run["benchmark"], run["case"], run["contender"]) for run in results["runs"])
    assert ran == Counter(dict.fromkeys(expected, 1))
    for run in results["runs"]:
        missing = CONTENDERS[run["contender"]].missing
        assert run["problem"] == missing, run


def test_ratios_are_made_of_the_numbers_of_the_same_round(results: Any) -> None:
    """Every ratio in a table is what the runs say, divided by what the floor's run of that round says."""
    tables = {table["name"]: table for table in results["tables"]}
    labels = {contender.label: name for name, contender in CONTENDERS.items()}
    looked_at = 0
    for benchmark in ("cost", "sizes", "files", "extras"):
        table = tables[benchmark]
        for row in (dict(zip(table["columns"], cells, strict=True)) for cells in table["rows"]):
            case = row.get("case", benchmark)
            for column, key in (("caller", "caller_s"), ("caller's CPU", "caller_cpu_s"), ("CPU", "cpu_s")):
                if row[f"{column} ×"] is None:
                    continue
                of_case = [run for run in results["runs"] if (run["benchmark"], run["case"]) == (benchmark, case)]
                floor = {run["round"]: run[key] / run["n"] for run in of_case if run["contender"] == "null"}
                own = [run for run in of_case if run["contender"] == labels[row["contender"]]]
                assert row[f"{column} ×"] == median(run[key] / run["n"] / floor[run["round"]] for run in own)
                assert row[f"{column} µs"] == median(run[key] / run["n"] * 1e6 for run in own)
                looked_at += 1
    assert looked_at > 20


def test_the_page_shows_what_the_numbers_say(report: Path, results: Any) -> None:
    """The Markdown has every table of the JSON, row by row and cell by cell."""
    page = (report / "results.md").read_text(encoding="utf-8")
    shown = [line for line in page.splitlines() if line.startswith("| ")]
    expected = []
    for table in results["tables"]:
        for row in (table["columns"], ["---"] * len(table["columns"]), *table["rows"]):
            expected.append(f"| {' | '.join(map(cell_text, row))} |")

    assert [table["name"] for table in results["tables"]] == list(BENCHMARKS)
    assert shown == expected


def test_the_report_says_on_what_it_was_measured(results: Any) -> None:
    """Machine, Python, packages, date and the command are there, without a folder of this machine."""
    about = results["about"]

    assert None not in (about["machine"]["cores"], about["machine"]["cpu"], about["date"])
    assert {"python-json-logger", "filelock", "orjson"} <= about["packages"].keys()
    assert about["python"].split()[1] == ".".join(map(str, sys.version_info[:3]))
    assert about["command"] == f"python -m benchmarks --quick --n {N} --contenders {','.join(MEASURED)}"


@pytest.mark.parametrize("name", [name for name in CONTENDERS if name not in MEASURED])
def test_a_peer_is_measured_where_it_is_installed(name: str) -> None:
    """Each peer logs its records and passes the check that ours pass."""
    contender = CONTENDERS[name]
    if contender.missing:
        pytest.skip(contender.missing)
    with folder() as directory:
        (answer,) = run_together(job(name, directory))
        problem = lines.problem_of(contender, directory, Event(), N, counts=answer["counts"], whole=True)

    # logxide from 0.3 on writes no extras: the benchmarks say so.
    assert problem is None or name == "logxide"
    assert answer["caller_s"] > 0
    assert answer["cpu_s"] > 0


def job(contender: str, directory: Path) -> dict[str, Any]:
    """One run as the suite asks for it."""
    return {
        "measure": "cost",
        "contender": contender,
        "directory": str(directory),
        "n": N,
        "event": {},
        "place": {},
    }


def test_a_contender_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps its row, which says what is missing."""
    monkeypatch.setattr(type(CONTENDERS["null"]), "missing", property(lambda self: f"not installed: {self.name}"))

    assert main(["--quick", "--only", "cost", "--contenders", "null,loguru", "--out", str(tmp_path)]) == 0
    page = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert "| loguru serialize | – | – | – | – | – | – | not installed: loguru |" in page


def test_a_process_that_fails_is_told_with_its_last_word(tmp_path: Path) -> None:
    """What it said before it ended is the reason."""
    with pytest.raises(FailedError, match="unexpected keyword argument 'no_such_thing'"):
        run_together({**job("ours", tmp_path), "place": {"no_such_thing": 1}})


GOOD = {"logger": "bench", "message": MESSAGE, **EVENT}
FLAWS = {
    "a line is missing": ([GOOD], "1 lines of 2"),
    "a line too many": ([GOOD] * 3, "3 lines of 2"),
    "a field is wrong": ([GOOD, {**GOOD, "status": 500}], "fields missing or wrong: status"),
    "a field is gone": ([GOOD, {"message": MESSAGE}], "fields missing or wrong: path"),
    "no strict JSON": ([GOOD, {**GOOD, "ms": float("nan")}], "no strict JSON"),
}


@pytest.mark.parametrize("flaw", FLAWS)
def test_flawed_lines_fail_the_check(tmp_path: Path, flaw: str) -> None:
    """The check of the lines finds what is missing, doubled, wrong or no JSON."""
    written, expected = FLAWS[flaw]
    (tmp_path / "bench.jsonl").write_text("".join(json.dumps(line) + "\n" for line in written))

    problem = lines.problem_of(CONTENDERS["rotating-json"], tmp_path, Event(), 2, counts=None, whole=True)
    assert problem is not None
    assert problem.startswith(expected)


def test_a_loss_that_is_not_told_fails_the_check(tmp_path: Path) -> None:
    """Where the contender counts, its counts and its lines must agree."""
    (tmp_path / "bench.jsonl").write_text(json.dumps(GOOD) + "\n")
    counts = {"accepted": 2, "written": 1, "dropped": 1, "pending": 0}

    problem = lines.problem_of(CONTENDERS["ours"], tmp_path, Event(), 2, counts=counts, whole=False)
    assert problem == "1 dropped, 0 told"


def test_a_loss_fails_the_check_even_where_it_is_told(tmp_path: Path) -> None:
    """A run that wrote less than it was given is no measure of what writing costs."""
    loss = {"logger": "jsonl_handler", "message": "1 record dropped", "dropped": 1}
    (tmp_path / "bench.jsonl").write_text("".join(json.dumps(line) + "\n" for line in (GOOD, loss)))
    counts = {"accepted": 2, "written": 1, "dropped": 1, "pending": 0}

    problem = lines.problem_of(CONTENDERS["ours"], tmp_path, Event(), 2, counts=counts, whole=True)
    assert problem == "1 of 2 dropped"


def test_the_guard_allows_a_margin_and_no_more() -> None:
    """A count that is 3 % over the stored one is good, one that is 4 % over it is not."""
    stored = {"instructions_per_record": 10_000, "python": "3.11.7", "orjson": "3.13.0"}

    said = [guard.judge({**stored, "instructions_per_record": count}, stored) for count in (9_000, 10_300, 10_400)]
    assert [good for _, good in said] == [True, True, False]
    assert "--update" in said[0][0]
    assert "+4.0%" in said[2][0]
    assert guard.judge(stored, None)[1] is False
    assert "stored with orjson 3.13.0" in guard.judge({**stored, "orjson": "4"}, stored)[0]


def test_the_guard_is_skipped_without_valgrind(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says why, and does not fail."""
    monkeypatch.setattr(shutil, "which", lambda name: None)

    assert guard.main([]) == 0
    assert capsys.readouterr().out.startswith("skipped: valgrind is not installed")


def test_what_the_guard_runs_writes_all_its_records(tmp_path: Path) -> None:
    """Its program ends well, with ours and with the floor."""
    for ours in (True, False):
        program = guard.program(tmp_path / "logs", ours=ours)
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False, cwd=ROOT
        )
        assert (done.returncode, done.stderr) == (0, "")
    written = [path.read_bytes().count(b"\n") for path in (tmp_path / "logs").glob("*.jsonl")]
    assert sum(written) == guard.RECORDS + 2
