"""The guard: how many instructions a record takes, counted by callgrind, against the figure in `guard.json`.

Time differs from run to run, and a count hardly does; so it shows a loss of a few percent on any machine.
Figures of another build of Python or orjson can't be compared, so each stands with its versions.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.processes import ROOT, folder

STORE = Path(__file__).with_name("guard.json")
RECORDS = 10_000
MARGIN = 0.03
_LONGEST = 600
# All lines fit into the buffer, and are written in one batch at the end: so no thread runs beside the caller.
_SETTINGS = {
    "buffer_limit": 2 * RECORDS,
    "flush_batch_size": 2 * RECORDS,
    "buffer_bytes": 16 * 2**20,
    "flush_interval": 3600.0,
}
_PROGRAM = """
import logging, sys
sys.path.append({root!r})
from jsonl_handler import JsonlHandler
from benchmarks.calls import LOOPS, Event
handler = JsonlHandler({directory!r}, session_id="guard", **{settings!r})
# What comes once is in both runs: the session is open, and the writer has started.
handler.write("{{}}")
assert handler.flush()
log = logging.getLogger("bench")
log.setLevel(logging.INFO)
log.propagate = False
log.addHandler(handler if {ours} else logging.NullHandler())
LOOPS["extra"](log.info, Event(), {records})
handler.close()
assert handler.stats().written == 1 + {ours} * {records}
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Count, and compare or store; 1 when there are more instructions than the margin allows."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.guard", description=__doc__)
    parser.add_argument("--update", action="store_true", help=f"store the count in {STORE.name}")
    options = parser.parse_args(arguments)
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        print("skipped: valgrind is not installed, and without it there is no count of instructions")
        return 0
    stored: dict[str, Any] = json.loads(STORE.read_text(encoding="utf-8")) if STORE.exists() else {}
    counted = measure(valgrind)
    key = f"{sys.version_info.major}.{sys.version_info.minor}"
    if options.update:
        stored[key] = counted
        STORE.write_text(json.dumps(stored, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    verdict, good = judge(counted, counted if options.update else stored.get(key))
    print(verdict)
    return 0 if good else 1


def measure(valgrind: str) -> dict[str, Any]:
    """Instructions a record, over what the floor takes for the same record."""
    ours, floor = _count(valgrind, ours=True), _count(valgrind, ours=False)
    return {
        "instructions_per_record": round((ours - floor) / RECORDS),
        "python": platform.python_version(),
        "orjson": version("orjson"),
    }


def program(directory: Path, *, ours: bool) -> str:
    """What is counted: the records, with this package or with the floor; all else is the same."""
    return _PROGRAM.format(root=str(ROOT), directory=str(directory), settings=_SETTINGS, ours=ours, records=RECORDS)


def judge(counted: dict[str, Any], stored: dict[str, Any] | None) -> tuple[str, bool]:
    """What to say of a count, and whether it is good."""
    now = counted["instructions_per_record"]
    if stored is None:
        return f"{now:,} instructions a record; no figure is stored for this Python: use --update", False
    before = stored["instructions_per_record"]
    change = now / before - 1
    text = f"{now:,} instructions a record, stored are {before:,}: {change:+.1%}, allowed are {MARGIN:+.0%}"
    other = [f"{name} {stored[name]}" for name in ("python", "orjson") if stored[name] != counted[name]]
    if other:
        text += f" (but stored with {' and '.join(other)})"
    if change < -MARGIN:
        text += "; so much better that --update should store it"
    return text, now <= before * (1 + MARGIN)


def _count(valgrind: str, *, ours: bool) -> int:
    with folder() as directory:
        done = subprocess.run(
            [
                valgrind,
                "--tool=callgrind",
                f"--callgrind-out-file={directory.parent / 'callgrind'}",
                sys.executable,
                "-c",
                program(directory, ours=ours),
            ],
            capture_output=True,
            text=True,
            timeout=_LONGEST,
            check=False,
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"},
        )
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode != 0 or found is None:
        raise SystemExit(f"the run under valgrind failed:\n{done.stderr[-2000:]}")
    return int(found[1])


if __name__ == "__main__":
    sys.exit(main())
