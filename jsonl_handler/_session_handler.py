"""What every handler of this package tells of its session."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from jsonl_handler._session_files import SessionFiles
    from jsonl_handler.settings import Settings


class SessionHandler(logging.Handler):
    """A handler that writes to `SessionFiles`."""

    # `_status` asks for it: what the package tells must not feed its own streams.
    writes_session_files = True

    _files: SessionFiles

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self._files.settings

    @property
    def session_id(self) -> str | None:
        """The session's name; None before the first record."""
        lineage = self._files.lineage
        return lineage.session_id if lineage else None

    @property
    def path(self) -> Path | None:
        """The current segment, or the last one; None before the first record."""
        return self._files.path

    @property
    def baseFilename(self) -> str:
        """The same as `logging.FileHandler` names it; empty before the first record."""
        return str(self.path or "")
