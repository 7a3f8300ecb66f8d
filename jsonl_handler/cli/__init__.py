"""The command ``jsonl-handler``, a thin coat over the package's public names.

It needs the extra ``cli``; the rest of the package does not.
"""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command named in ``sys.argv``; exits with 2 when the extra ``cli`` is missing."""
    try:
        from jsonl_handler.cli.commands import app
    except ModuleNotFoundError as error:
        if error.name not in {"typer", "rich"}:
            raise
        remedy = "python -m pip install 'jsonl-handler[cli]'"
        sys.stderr.write(f"The command needs {error.name}, which is not installed; run: {remedy}\n")
        sys.exit(2)
    app(prog_name="jsonl-handler")
