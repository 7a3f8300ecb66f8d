"""What a contender has written, read back strictly."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.calls import Event
from benchmarks.contenders import Contender


def problem_of(
    contender: Contender, directory: Path, event: Event, expected: int, *, counts: dict[str, Any] | None, whole: bool
) -> str | None:
    """What is wrong with the lines in *directory*, in words; None when nothing is.

    Without *whole* the oldest files may be gone, and lines may have been dropped if that was told.
    """
    wanted = {"message": event.message} if contender.bare else {"message": event.message, **event.fields}
    records = told = 0
    for path in sorted(directory.rglob("*.jsonl*")):
        if path.is_file():
            with path.open("rb") as lines:
                for raw in lines:
                    try:
                        line = _flat(_strict(raw))
                    except ValueError as error:
                        return f"no strict JSON in {path.name}: {error}"
                    if line.get("logger") == "jsonl_handler":
                        told += line.get("dropped") or 0
                        continue
                    records += 1
                    wrong = [name for name, value in wanted.items() if line.get(name) != value]
                    if wrong:
                        return f"fields missing or wrong: {', '.join(wrong)}"
    return "; ".join(_miscounted(0 if contender.silent else expected, records, told, counts, whole=whole)) or None


def _miscounted(expected: int, records: int, told: int, counts: dict[str, Any] | None, *, whole: bool) -> Iterator[str]:
    dropped = counts["dropped"] if counts else 0
    if whole and dropped and records + dropped == expected:
        yield f"{dropped} of {expected} dropped"
    elif records > expected or (whole and records < expected):
        yield f"{records} lines of {expected}"
    elif expected and not records:
        yield "no lines"
    if counts is not None:
        accepted, ended = counts["accepted"], counts["written"] + counts["dropped"] + counts["pending"]
        if not accepted == ended == expected:
            yield f"{accepted} accepted, {ended} accounted for, of {expected}"
        if told != dropped:
            yield f"{dropped} dropped, {told} told"


def _strict(raw: bytes) -> dict[str, Any]:
    if not raw.endswith(b"\n"):
        raise ValueError("half a line")
    parsed = json.loads(raw, parse_constant=_refuse)
    if not isinstance(parsed, dict):
        raise ValueError("not an object")
    return parsed


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _flat(line: dict[str, Any]) -> dict[str, Any]:
    """The fields of a line in one mapping, wherever the contender puts them."""
    record = line.get("record")
    if isinstance(record, dict):
        return {**record["extra"], "message": record["message"]}
    return {**line, "message": line["event"]} if "event" in line else line
