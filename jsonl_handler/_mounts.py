"""On which kind of filesystem a path lies."""

from __future__ import annotations

import io
import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

# How a mount point's blanks, newlines and backslashes are written in mountinfo.
_OCTAL = re.compile(r"\\([0-7]{3})")


def kind_of(path: Path) -> str | None:
    """Its name as proc(5) has it in mountinfo, such as "ext4" or "tmpfs"; None where the system does not tell."""
    try:
        mounts = os.fsdecode(content_of("/proc/self/mountinfo")).splitlines()
    except OSError:
        return None
    real = os.path.realpath(path) + "/"
    best, kind = "", ""
    for mount in mounts:
        before, _, after = mount.partition(" - ")
        point = _OCTAL.sub(lambda match: chr(int(match[1], 8)), before.split(" ")[4])
        if real.startswith(point.rstrip("/") + "/") and len(point) >= len(best):
            best, kind = point, after.split(" ")[0]
    return kind


def content_of(path: str) -> bytes:
    """What a file says; OSError when it can't be read."""
    # `open` is not there any more when the interpreter ends.
    with io.FileIO(path) as file:
        return file.read()
