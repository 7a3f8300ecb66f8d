"""The report: one JSON file with all numbers, one Markdown page with the same tables."""

from __future__ import annotations

import datetime
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.contenders import packages
from benchmarks.suite import Plan, Row
from benchmarks.tables import Cell, Table


def about(command: str, plan: Plan) -> dict[str, Any]:
    """When, where and on what it was measured."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes"),
        "command": command,
        "records": plan.n,
        "rounds": plan.rounds,
        "quick": plan.quick,
        "machine": {"cores": os.cpu_count(), "cpu": _cpu(), "system": platform.system(), "load before": load},
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": packages(),
    }


def write(folder: Path, origin: dict[str, Any], made: Sequence[Table], rows: Sequence[Row], *, plot: str) -> None:
    """Write `results.json` and `results.md` into *folder*; *plot* is what the page says where the plot stands."""
    folder.mkdir(parents=True, exist_ok=True)
    everything = {"about": origin, "tables": [asdict(table) for table in made], "runs": list(rows)}
    (folder / "results.json").write_text(_compact(everything) + "\n", encoding="utf-8")
    (folder / "results.md").write_text(_page(origin, made, plot), encoding="utf-8")


def cell_text(cell: Cell) -> str:
    """One cell as the page shows it: three digits of a number, or all that stand before its point."""
    if cell is None:
        return "–"
    if isinstance(cell, str):
        return cell.replace("|", "\\|")
    return f"{cell:,.0f}" if abs(cell) >= 100 else f"{cell:#.3g}"


def _page(origin: dict[str, Any], made: Sequence[Table], plot: str) -> str:
    machine, versions = origin["machine"], origin["packages"]
    load = "" if machine["load before"] is None else f", load {machine['load before']:.1f} before"
    lines = [
        "# Benchmarks",
        "",
        "What is measured, and how to read it, is said in [benchmarks](../../benchmarks/README.md).",
        "",
        f"- date: {origin['date']}",
        f"- command: `{origin['command']}`",
        f"- records a run: {origin['records']:,}, rounds: {origin['rounds']}",
        f"- machine: {machine['cpu']}, {machine['cores']} cores, {machine['system']}{load}",
        f"- Python: {origin['python']}",
        f"- packages: {', '.join(f'{name} {number}' for name, number in versions.items())}",
        "",
        plot,
    ]
    for table in made:
        lines += [
            "",
            f"## {table.title}",
            "",
            *table.notes,
            "",
            _row(table.columns),
            _row(["---"] * len(table.columns)),
        ]
        lines += [_row([cell_text(cell) for cell in row]) for row in table.rows]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _compact(everything: dict[str, Any]) -> str:
    """JSON with one run, or one table, on a line."""
    parts = [f'"about": {json.dumps(everything["about"], indent=2)}']
    for name in ("tables", "runs"):
        each = ",\n".join(json.dumps(one, ensure_ascii=False) for one in everything[name])
        parts.append(f'"{name}": [\n{each}\n]')
    return "{" + ",\n".join(parts) + "}"


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
