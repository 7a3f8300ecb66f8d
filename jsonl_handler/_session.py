"""Who we are: claim a session's name, so that no live session has it twice."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

from jsonl_handler import _lockfile
from jsonl_handler._session_file import (
    Facts,
    SessionFile,
    folder_of,
    is_blank,
    is_live,
    path_of,
    read_facts,
)

_LINKLESS = {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK}


# How often, and how many seconds apart, a name is asked for: who recovers a crashed session holds its lock meanwhile.
_PATIENCE, _MOMENT = 10, 0.01

_LIVES = "is in use by a live handler"
_STAYS = "has crashed and could not be recovered"


class TakenError(Exception):
    """The name can't be had; *why*: a live session holds it, or one that has crashed and could not be recovered."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(path, why)
        self.path = path
        self.why = why


Rescue = Callable[[Path, int], bool]
"""Sees to a crashed session, given its file and the descriptor that holds its lock; False when it must stay."""


def _leave_alone(path: Path, descriptor: int) -> bool:
    facts = read_facts(descriptor)
    return is_blank(descriptor) if facts is None else not (facts.journal or facts.next_journal)


def clean_id(wanted: str | None) -> str | None:
    """The first 8 ASCII letters and digits, in lower case; None when nothing is left.

    Some filesystems fold case, so two names that differ only in case would be one file.
    """
    if wanted is None:
        return None
    # Not lowered first: the Kelvin sign would become an ASCII letter.
    return re.sub(r"[^A-Za-z0-9]", "", str(wanted))[:8].lower() or None


def random_id() -> str:
    """8 hexadecimal digits."""
    return os.urandom(4).hex()


def claim(
    directory: Path,
    prefix: str,
    session_id: str,
    rescue: Rescue = _leave_alone,
    *,
    journal: str = "",
    keep: Callable[[SessionFile], None] = lambda session: None,
) -> SessionFile:
    """Take a name; TakenError when it can't be had, OSError when the directory does not allow it.

    *rescue* is asked to put back what a crashed session of that name has left. *journal* is
    the one that has our lines already: there must be no moment at which nobody would find it.
    *keep* is given the session once it is claimed: what is only returned is lost if Ctrl-C comes just then.

    The session file is put in place whole (made under another name, locked, then linked), so
    that nobody ever sees it without its lock: made and locked in place, 52 double owners
    were seen in 5 seconds of claiming and unlinking.
    """
    folder = folder_of(directory, make=True)
    final = path_of(directory, prefix, session_id)
    draft = folder / f".{prefix}-{session_id}-{os.urandom(4).hex()}.new"
    facts = Facts(prefix, session_id, journal=journal, boot=_lockfile.boot_id())
    descriptor, session = -1, None
    try:
        descriptor = _lockfile.open_safely(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        session = SessionFile(final, facts, descriptor)
        session.begin()
        while not _link(draft, final):
            _remove_crashed(final, rescue)
        keep(session)
    except BaseException as error:
        if session is None:
            _lockfile.close(descriptor)
        else:
            with contextlib.suppress(OSError):
                session.release()
        if not isinstance(error, OSError) or error.errno not in _LINKLESS:
            raise
        session = _claim_without_link(final, facts, rescue)
        keep(session)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(draft)
    return session


def _link(draft: Path, final: Path) -> bool:
    try:
        os.link(draft, final)
    except FileExistsError:
        return False
    return True


def _claim_without_link(final: Path, facts: Facts, rescue: Rescue) -> SessionFile:
    """FAT and some network filesystems have no hard links: then whoever locks the new file first owns it."""
    with contextlib.suppress(FileNotFoundError):
        _remove_crashed(final, rescue)
    try:
        descriptor = _lockfile.open_safely(final, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    except FileExistsError:
        raise TakenError(final, _LIVES) from None
    if not (_lockfile.try_lock(descriptor) and _lockfile.is_linked(descriptor, final)):
        _lockfile.close(descriptor)
        raise TakenError(final, _LIVES)
    session = SessionFile(final, facts, descriptor)
    session.begin()
    return session


def _remove_crashed(final: Path, rescue: Rescue) -> None:
    """Make way for a new session file; TakenError when this one has to stay."""
    descriptor = _lockfile.open_existing(final)
    if descriptor is None:
        return
    try:
        for _ in range(_PATIENCE):
            if not is_live(descriptor, final):
                break
            time.sleep(_MOMENT)
        else:
            raise TakenError(final, _LIVES)
        if _lockfile.is_linked(descriptor, final) and not rescue(final, descriptor):
            raise TakenError(final, _STAYS)
        _lockfile.unlink_if_ours(descriptor, final)
    finally:
        _lockfile.close(descriptor)
