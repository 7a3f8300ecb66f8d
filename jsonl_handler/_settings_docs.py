"""The settings described for people, generated from `Settings` itself."""

from __future__ import annotations

import logging
from dataclasses import fields

from jsonl_handler._rules import Kind, Rule
from jsonl_handler.settings import Settings


def settings_table() -> str:
    """A Markdown table of all settings, as it stands in docs/reference.md."""
    rows = ["| key | default | floor | meaning |", "|---|---|---|---|"]
    for each in fields(Settings):
        if "rule" in each.metadata:
            rule: Rule = each.metadata["rule"]
            floor = "" if rule.floor is None else _quantity(rule.floor, rule.unit)
            cells = (f"`{each.name}`", _default(each.default, rule), floor, rule.meaning)
            rows.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def _default(value: object, rule: Rule) -> str:
    if rule.kind is Kind.MODE and isinstance(value, int):
        return f"0o{value:o}"
    if rule.kind is Kind.LEVEL and isinstance(value, int):
        value = logging.getLevelName(value)
    if rule.unit and isinstance(value, int | float):
        return _quantity(value, rule.unit)
    return f'`"{value}"`' if isinstance(value, str) else f"{value}"


def _quantity(number: float, unit: str) -> str:
    if unit != "bytes":
        return f"{number:,g} {unit.removesuffix('s') if number == 1 else unit}"
    for size, name in ((2**20, "MiB"), (2**10, "KiB")):
        if number and number % size == 0:
            return f"{number:,.0f} bytes ({number / size:g} {name})"
    return f"{number:,.0f} bytes"
