"""What importing the package costs over what it is built on, and what that import brings along."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from benchmarks.processes import ROOT

UNWANTED = ("filelock", "typer", "rich", "duckdb")
CASES = {"with orjson": "", "without orjson": 'sys.modules["orjson"] = None'}
_PROGRAM = """
import sys
sys.path.append({root!r})
{prepare}
import time
begun = time.perf_counter()
import logging.handlers
import pythonjsonlogger
base = time.perf_counter()
import jsonl_handler
done = time.perf_counter()
import json
print(json.dumps([base - begun, done - base, sorted({{name.partition(".")[0] for name in sys.modules}})]))
"""


def measure(rounds: int) -> Iterator[dict[str, Any]]:
    """Import it in a fresh process, once a round, from bytecode as an installed package has it."""
    with tempfile.TemporaryDirectory(prefix="jsonl-handler-bench-") as bytecode:
        for case in CASES:
            # Writes the bytecode.
            _import(case, bytecode)
        for number in range(rounds):
            for case in CASES:
                base, ours, modules = _import(case, bytecode)
                unwanted = sorted(set(UNWANTED) & set(modules))
                yield {
                    "benchmark": "imports",
                    "case": case,
                    "contender": "ours",
                    "round": number,
                    "n": 1,
                    "base_s": base,
                    "import_s": ours,
                    "problem": f"imports {', '.join(unwanted)}" if unwanted else None,
                }


def _import(case: str, bytecode: str) -> tuple[float, float, list[str]]:
    """Seconds for what it is built on, seconds for the package, and the names of all that is there then."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM.format(root=str(ROOT), prepare=CASES[case])],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPYCACHEPREFIX": bytecode, "PYTHONDONTWRITEBYTECODE": ""},
    )
    base, ours, modules = json.loads(done.stdout)
    return base, ours, modules
