"""From the rows of all runs to tables: medians, and ratios to the floor within the same round."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.child import PERCENTILES
from benchmarks.contenders import CONTENDERS
from benchmarks.suite import RATE, Row

FLOOR = "null"
Cell = str | float | None


@dataclass(frozen=True, slots=True)
class Table:
    """One table of the report; *notes* are sentences."""

    name: str
    title: str
    notes: Sequence[str]
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]


def tables(rows: Sequence[Row]) -> list[Table]:
    """A table for each benchmark that was run."""
    made = []
    for name, (title, notes, tabulate) in _KINDS.items():
        of_this = [row for row in rows if row["benchmark"] == name]
        if of_this:
            columns, cells = tabulate(of_this)
            columns = [*columns, "good runs"]
            if len({row[0] for row in cells}) == 1 and columns[0] == "case":
                # There is no other to be told from.
                columns, cells = columns[1:], [row[1:] for row in cells]
            made.append(Table(name, title, notes, columns, cells))
    return made


def ratios(rows: Sequence[Row], case: str, contender: str, key: str) -> list[float]:
    """What *contender* took in each round, as a multiple of what the floor took in that round."""
    floors = {row["round"]: _per_record(row, key) for row in _good(rows, case, FLOOR)}
    found = ((row["round"], _per_record(row, key)) for row in _good(rows, case, contender))
    return [value / floors[number] for number, value in found if number in floors]


def _per_record(row: Row, key: str) -> float:
    return float(row[key]) / int(row["n"])


def _good(rows: Iterable[Row], case: str, contender: str) -> list[Row]:
    return [row for row in rows if row["case"] == case and row["contender"] == contender and not row["problem"]]


def _verdict(rows: Iterable[Row], case: str | None, contender: str) -> str:
    """How many runs passed their check, and what was wrong with the others."""
    runs = [row for row in rows if case in (None, row["case"]) and row["contender"] == contender]
    problems = dict.fromkeys(row["problem"] for row in runs if row["problem"])
    if runs and "n" not in runs[0]:
        return str(next(iter(problems)))
    good = sum(not row["problem"] for row in runs)
    return "; ".join([f"{good} of {len(runs)}", *problems])


def _median(values: Sequence[float]) -> float | None:
    return median(values) if values else None


def _in_order(rows: Iterable[Row], key: str) -> list[str]:
    return list(dict.fromkeys(row[key] for row in rows))


def _label(contender: str) -> str:
    return CONTENDERS[contender].label


_Tabulate = Callable[[Sequence[Row]], tuple[list[str], list[list[Cell]]]]


def _each(rows: Sequence[Row], cells: Callable[[str, str], list[Cell]]) -> list[list[Cell]]:
    return [
        [case, _label(name), *cells(case, name), _verdict(rows, case, name)]
        for case in _in_order(rows, "case")
        for name in _in_order((row for row in rows if row["case"] == case), "contender")
    ]


def _cost(rows: Sequence[Row]) -> tuple[list[str], list[list[Cell]]]:
    def cells(case: str, name: str) -> list[Cell]:
        good = _good(rows, case, name)
        found: list[Cell] = []
        for key in ("caller_s", "caller_cpu_s", "cpu_s"):
            found.append(_median([_per_record(row, key) * 1e6 for row in good]))
            found.append(_median(ratios(rows, case, name, key)))
        return found

    return [
        "case",
        "contender",
        *(f"{what} {unit}" for what in ("caller", "caller's CPU", "CPU") for unit in ("µs", "×")),
    ], _each(rows, cells)


def _latency(rows: Sequence[Row]) -> tuple[list[str], list[list[Cell]]]:
    def cells(case: str, name: str) -> list[Cell]:
        good = _good(rows, case, name)
        found: list[Cell] = [_median([row[f"{rank}_us"] for row in good]) for rank in PERCENTILES]
        return [*found, max((row["max_us"] for row in good), default=None)]

    return ["case", "contender", *(f"{rank} µs" for rank in PERCENTILES), "worst µs"], _each(rows, cells)


def _memory(rows: Sequence[Row]) -> tuple[list[str], list[list[Cell]]]:
    def cells(case: str, name: str) -> list[Cell]:
        good = _good(rows, case, name)
        return [_median([row[key] / 2**20 for row in good]) for key in ("before_bytes", "grown_bytes")]

    return ["case", "contender", "after warm-up MiB", "growth MiB"], _each(rows, cells)


def _rate(row: Row) -> float:
    return float(row["n"] / row["caller_s"])


def _scaling(rows: Sequence[Row]) -> tuple[list[str], list[list[Cell]]]:
    """Rates, as parts of the contender's own in the first case of the same round, and that against the floor's part."""
    first = rows[0]["case"]

    def parts(case: str, name: str) -> dict[int, float]:
        alone = {row["round"]: _rate(row) for row in _good(rows, first, name)}
        return {
            row["round"]: _rate(row) / alone[row["round"]] for row in _good(rows, case, name) if row["round"] in alone
        }

    def cells(case: str, name: str) -> list[Cell]:
        own, floor = parts(case, name), parts(case, FLOOR)
        against = [own[number] / floor[number] for number in own if number in floor]
        return [
            _median([_rate(row) for row in _good(rows, case, name)]),
            _median(list(own.values())),
            _median(against),
        ]

    return ["at once", "contender", "records/s", f"against {first}", "that against NullHandler's"], _each(rows, cells)


def _imports(rows: Sequence[Row]) -> tuple[list[str], list[list[Cell]]]:
    cells: list[list[Cell]] = []
    for case in _in_order(rows, "case"):
        good = _good(rows, case, "ours")
        base, ours = (_median([row[key] * 1e3 for row in good]) for key in ("base_s", "import_s"))
        cells.append([case, base, ours, _verdict(rows, case, "ours")])
    return ["case", "logging.handlers + pythonjsonlogger ms", "jsonl_handler over that ms"], cells


_COST_NOTES = (
    "All is for one record.",
    "Caller: wall time of the logging calls; caller's CPU: what its thread used of that.",
    "CPU: of all threads of the process, from the end of the configuration until the last line is on disk.",
    "×: the median of the ratios to NullHandler in the same round.",
)
_LIKE_COST = ("The columns are those of the first table.",)
_KINDS: dict[str, tuple[str, Sequence[str], _Tabulate]] = {
    "cost": ("What a record costs", _COST_NOTES, _cost),
    "latency": (
        "How long a call takes",
        (
            f"Calls at a pace of {RATE:,} a second; each percentile is the median of the rounds, *worst* the longest "
            "call of all rounds.",
            "Rotation: files of 64 KiB; RotatingFileHandler and its kin keep 10 of them.",
            "Sweep: each of these files asks for a sweep, with 10,000 other files in the directory (100 in a quick "
            "run).",
            "Stalled disk: no write returns and the buffer is full, after the first drop.",
        ),
        _latency,
    ),
    "memory": (
        "Memory that grows",
        ("Resident memory, from a warm-up of a tenth of the records to the last call.",),
        _memory,
    ),
    "threads": (
        "Threads that log at once",
        ("Records a second of all threads together.",),
        _scaling,
    ),
    "processes": (
        "Processes that log at once",
        ("Records a second of the slowest process; ours share a directory, those of concurrent-log-handler a file.",),
        _scaling,
    ),
    "sizes": ("Longer messages", _LIKE_COST, _cost),
    "files": ("Files in the directory", _LIKE_COST, _cost),
    "extras": ("Number of extras", _LIKE_COST, _cost),
    "choices": (
        "What users can choose",
        (*_LIKE_COST, "What the rows mean, and what they give up, is said in [performance](../performance.md)."),
        _cost,
    ),
    "imports": (
        "Import time",
        ("A run is good when none of filelock, typer, rich and duckdb was imported.",),
        _imports,
    ),
}
