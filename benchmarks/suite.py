"""The benchmarks: what is measured for whom, and the order of the runs, in which contenders take turns."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from benchmarks import imports
from benchmarks.calls import Event
from benchmarks.contenders import CHOICES, CONTENDERS
from benchmarks.lines import problem_of
from benchmarks.processes import FailedError, folder, run_together

Row = dict[str, Any]
FEW = ("null", "rotating-orjson", "queue-orjson", "ours")
PACED = (*FEW, "ours-structlog", "structlog", "loguru", "loguru-enqueue", "concurrent-orjson", "logxide")
RATE = 5_000
_SMALL_FILES: dict[str, Any] = {"max_file_bytes": 64 * 1024, "backups": 10}
_NO_LIMITS: dict[str, Any] = {"settings": {"max_total_bytes": None, "max_files": None}}
_SWEPT: dict[str, Any] = {"max_file_bytes": 64 * 1024, "settings": {"max_files": 20_000}}
_MOST_BYTES = 50_000_000


@dataclass(frozen=True, slots=True)
class Case:
    """One question to some contenders; *share* of the records is logged.

    With *whole* all lines must be there, else those that are there must be right.
    """

    label: str
    contenders: tuple[str, ...]
    measure: str = "cost"
    share: float = 1.0
    processes: int = 1
    files: int = 0
    whole: bool = True
    event: dict[str, int] = field(default_factory=dict)
    place: dict[str, Any] = field(default_factory=dict)
    more: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured: *n* records a run, the memory of ten times as many, latency of a tenth."""

    n: int = 100_000
    rounds: int = 5
    quick: bool = False
    contenders: frozenset[str] = frozenset(CONTENDERS)

    @property
    def files(self) -> tuple[int, ...]:
        """How many other files lie in the directory."""
        return (0, 100) if self.quick else (0, 1_000, 10_000)

    def some(self, *counts: int) -> tuple[int, ...]:
        """The first two alone, for a quick run."""
        return counts[:2] if self.quick else counts


def cases(benchmark: str, plan: Plan) -> list[Case]:
    """What one benchmark asks."""
    many = plan.files[-1]
    match benchmark:
        case "cost":
            return [Case("cost", tuple(name for name in CONTENDERS if name not in CHOICES))]
        case "latency":
            paced: dict[str, Any] = {"measure": "latency", "share": 0.1}
            return [
                Case("steady", PACED, **paced),
                Case("rotation", PACED, whole=False, place=_SMALL_FILES, **paced),
                Case("sweep", ("null", "ours"), files=many, place=_SWEPT, **paced),
                Case("stalled disk", ("null", "ours"), "stalled", 0.1, whole=False),
            ]
        case "memory":
            return [Case("memory", FEW, "memory", 10, place={**_NO_LIMITS, "backups": 1_000})]
        case "threads":
            return [Case(str(k), FEW, "threads", more={"threads": k}) for k in plan.some(1, 2, 4, 8)]
        case "processes":
            files = ("null", "ours", "concurrent-orjson")
            return [Case(str(k), files, share=0.3, processes=k, place=_NO_LIMITS) for k in plan.some(1, 2, 4)]
        case "sizes":
            return [
                Case(
                    f"{size:,} B",
                    ("null", "rotating-orjson", "ours"),
                    share=min(1.0, _MOST_BYTES / size / 100_000),
                    event={"message_bytes": size},
                    place=_NO_LIMITS,
                )
                for size in plan.some(100, 1_000, 10_000, 100_000)
            ]
        case "files":
            roomy = {"settings": {"max_files": 20_000}}
            return [Case(f"{count:,} files", ("null", "ours"), files=count, place=roomy) for count in plan.files]
        case "choices":
            return [Case("choices", ("null", "ours", *CHOICES))]
        case "extras":
            some = ("null", "rotating-orjson", "ours")
            return [Case(f"{count} extras", some, event={"extras": count}) for count in plan.some(0, 5, 20)]
    raise ValueError(benchmark)


BENCHMARKS = ("cost", "latency", "memory", "threads", "processes", "sizes", "files", "extras", "choices", "imports")


def measure(benchmark: str, plan: Plan) -> Iterator[Row]:
    """Run one benchmark; each run is a row, and so is each contender that can't run."""
    if benchmark == "imports":
        yield from imports.measure(plan.rounds if plan.quick else 4 * plan.rounds)
        return
    chosen = cases(benchmark, plan)
    failed: set[tuple[str, str]] = set()
    for number in range(plan.rounds):
        for case in chosen:
            for name in case.contenders:
                if name not in plan.contenders or (case.label, name) in failed:
                    continue
                row = {"benchmark": benchmark, "case": case.label, "contender": name, "round": number}
                begun = time.monotonic()
                row |= _run(case, name, plan)
                if row["problem"]:
                    print(f"{benchmark} {case.label}: {name}: {row['problem']}", file=sys.stderr)
                if "n" not in row or (row["problem"] and time.monotonic() - begun > 60):
                    # It can't run here, or it takes too long to fail again.
                    failed.add((case.label, name))
                yield row


def _run(case: Case, name: str, plan: Plan) -> Row:
    contender = CONTENDERS[name]
    if contender.missing:
        return {"problem": contender.missing}
    n, warm_up = max(int(plan.n * case.share), 20), 0
    if case.measure == "threads":
        n -= n % case.more["threads"]
    elif case.measure != "cost":
        warm_up = max(n // 10, 20)
    with folder(case.files) as directory:
        job = {
            **case.more,
            "measure": case.measure,
            "contender": name,
            "directory": str(directory),
            "n": n,
            "warm_up": warm_up,
            "rate": RATE,
            "event": case.event,
            "place": case.place,
        }
        try:
            answers = run_together(job, case.processes)
        except FailedError as error:
            return {"problem": f"failed: {error}"}
        expected = (n + warm_up) * case.processes
        numbers = {key: max(answer[key] for answer in answers) for key in answers[0] if key != "counts"}
        counts = _added([answer["counts"] for answer in answers])
        if case.measure == "stalled" and counts:
            # How many it took to fill the buffer is not known before.
            expected = counts["accepted"]
        problem = problem_of(contender, directory, Event.of(**case.event), expected, counts=counts, whole=case.whole)
        return {"n": n, "processes": case.processes, **numbers, "counts": counts, "problem": problem}


def _added(counts: list[dict[str, int] | None]) -> dict[str, int] | None:
    told = [each for each in counts if each is not None]
    return {key: sum(each[key] for each in told) for key in told[0]} if told else None
