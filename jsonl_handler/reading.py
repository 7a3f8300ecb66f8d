"""What is done with a log directory from outside: by a script, a cron job, or the command line."""

from __future__ import annotations

import os
from pathlib import Path

from jsonl_handler import _lockfile, _recovery
from jsonl_handler._maintenance import speak_now
from jsonl_handler._status import Voice


def recover(directory: str | os.PathLike[str]) -> int:
    """Put back what the crashed sessions of *directory* had accepted and not yet written; the number of lines.

    Handlers do this themselves when they start; it is meant for a directory that nobody logs
    to any more. Live sessions are not touched, and calling it again puts nothing back twice.
    What can't be recovered is left as it is, and told on the logger ``jsonl_handler``.
    Raises OSError when the directory can't be read.
    """
    _lockfile.prepare()
    voice = Voice()
    lines = 0
    for outcome in _recovery.recover_all(Path(directory)):
        lines += outcome.lines
        if outcome.refused or outcome.gone:
            voice.tell("recovery", outcome.text)
    speak_now(voice)
    return lines
