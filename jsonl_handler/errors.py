"""The errors that this package raises on purpose.

Only making and configuring a handler raises; logging through one never does.
"""

from __future__ import annotations


class JsonlHandlerError(Exception):
    """Base of every error that this package raises on purpose."""


class ConfigError(JsonlHandlerError, ValueError):
    """A configuration that can't be used.

    *path* is the file it came from (None when it came from code), *where* the
    key path in it, such as ``"max_file_bytes"``, and *problem* the rule that was
    broken, the value and the remedy.
    """

    def __init__(self, path: str | None, where: str, problem: str) -> None:
        super().__init__(path, where, problem)
        self.path = path
        self.where = where
        self.problem = problem

    def __str__(self) -> str:
        return ": ".join(part for part in (self.path, self.where, self.problem) if part)
