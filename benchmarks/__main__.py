"""The command: `python -m benchmarks` measures, and writes the report."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from benchmarks import plot, report
from benchmarks.contenders import CONTENDERS
from benchmarks.processes import ROOT
from benchmarks.suite import BENCHMARKS, Plan, Row, measure
from benchmarks.tables import tables


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks that *arguments* ask for; 1 when a run of ours failed its check."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    n, rounds = (400, 1) if options.quick else (100_000, 5)
    plan = Plan(
        n=options.n or n,
        rounds=options.rounds or rounds,
        quick=options.quick,
        contenders=frozenset(options.contenders),
    )
    origin = report.about(_command(given), plan)
    rows: list[Row] = []
    for benchmark in BENCHMARKS:
        if benchmark in options.only:
            begun = time.monotonic()
            rows += measure(benchmark, plan)
            print(f"{benchmark}: {time.monotonic() - begun:.0f} s", file=sys.stderr)
    made = tables(rows)
    report.write(options.out, origin, made, rows, plot=plot.draw(options.out, made))
    wrong = [row for row in rows if row["contender"].startswith(("ours", "choice")) and row["problem"] and "n" in row]
    return 1 if wrong else 0


def _command(given: Sequence[str]) -> str:
    """What to type to measure this again; where the report went is no part of that."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--out")
    return shlex.join(["python", "-m", "benchmarks", *parser.parse_known_args(given)[1]])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few records and one round: to see that all of it runs")
    parser.add_argument("--only", type=_names(BENCHMARKS), default=list(BENCHMARKS), help=", ".join(BENCHMARKS))
    parser.add_argument("--contenders", type=_names(CONTENDERS), default=list(CONTENDERS), help=", ".join(CONTENDERS))
    parser.add_argument("--n", type=_positive, help="records a run (default: 100,000)")
    parser.add_argument("--rounds", type=_positive, help="rounds, of which the medians are taken (default: 5)")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks", help="folder of the report")
    return parser


def _names(known: Iterable[str]) -> Callable[[str], list[str]]:
    """The type of an argument that names some of *known*, with commas between them."""

    def names(text: str) -> list[str]:
        named = text.split(",")
        unknown = sorted(set(named).difference(known))
        if unknown:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; there are {', '.join(known)}")
        return named

    return names


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


if __name__ == "__main__":
    sys.exit(main())
