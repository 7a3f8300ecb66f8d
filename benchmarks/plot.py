"""The plot: what a record costs, and how long a call takes, each contender beside the others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.tables import Table

_OURS, _THEIRS = "#1b6ca8", "#b0b7bf"
_DOTS = {"p50 µs": "o", "p99 µs": "s", "p99.9 µs": "^", "max µs": "x"}


def draw(folder: Path, made: Sequence[Table]) -> str:
    """Write `results.svg` and `results.png`; returns what the page says in their place."""
    by_name = {table.name: table for table in made}
    panels = [(kind, by_name[name]) for name, kind in (("cost", _bars), ("latency", _dots)) if name in by_name]
    if not panels:
        return "There is a plot only of cost and latency."
    try:
        import matplotlib as mpl
    except ImportError:
        return "There is no plot: matplotlib is not installed."
    mpl.use("Agg")
    from matplotlib import pyplot

    # So that a second run on the same numbers writes the same file.
    settings = {"svg.hashsalt": "jsonl_handler", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    with pyplot.rc_context(settings):
        figure, axes = pyplot.subplots(1, len(panels), figsize=(8 * len(panels), 6.5), squeeze=False)
        for axis, (kind, table) in zip(axes[0], panels, strict=True):
            kind(axis, table)
        figure.tight_layout()
        folder.mkdir(parents=True, exist_ok=True)
        figure.savefig(folder / "results.svg", metadata={"Date": None})
        figure.savefig(folder / "results.png", dpi=110, metadata={"Software": None})
        pyplot.close(figure)
    return "![Cost of a record and latency of a call, for each contender](results.svg)"


def _rows(table: Table, *, sort: str, case: str) -> list[dict[str, Any]]:
    named = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    shown = [row for row in named if row.get("case", case) == case and row[sort] is not None]
    return sorted(shown, key=lambda row: float(row[sort]), reverse=True)


def _bars(axis: Any, table: Table) -> None:
    rows = _rows(table, sort="CPU ×", case="cost")
    for place, row in enumerate(rows):
        color = _color(row)
        axis.barh(place, row["CPU ×"], color=color, height=0.7, alpha=0.55)
        axis.barh(place, row["caller ×"], color=color, height=0.35)
        end = max(row["CPU ×"], row["caller ×"])
        axis.text(end, place, f" {row['caller ×']:.2f} / {row['CPU ×']:.2f}", va="center", fontsize=7)
    axis.set_yticks(range(len(rows)), [row["contender"] for row in rows])
    axis.set_xscale("log")
    axis.set_xlim(0.9, 60)
    axis.set_xticks([1, 2, 5, 10, 20, 50], ["1", "2", "5", "10", "20", "50"])
    axis.set_xlabel("× NullHandler, per record: caller (dark, thin) and CPU of all threads (light)")
    axis.set_title(table.title)


def _dots(axis: Any, table: Table) -> None:
    rows = _rows(table, sort="p99 µs", case="steady")
    for place, row in enumerate(rows):
        axis.plot([row["p50 µs"], row["max µs"]], [place, place], color=_color(row), linewidth=1, zorder=1)
        for rank, marker in _DOTS.items():
            axis.scatter(row[rank], place, marker=marker, color=_color(row), zorder=2, s=24)
    axis.set_yticks(range(len(rows)), [row["contender"] for row in rows])
    axis.set_xscale("log")
    axis.set_xlabel("µs a call, 5,000 calls a second: p50 ●, p99 ■, p99.9 ▲, max ✕")
    axis.set_title(table.title)


def _color(row: dict[str, Any]) -> str:
    contender = row["contender"]
    return _OURS if "jsonl_handler" in contender or "handler.write" in contender else _THEIRS
