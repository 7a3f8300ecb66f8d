"""Files that hold a lock: opened without following a link, locked on our own descriptor, checked to be the linked one.

filelock's `lock_descriptor` does the locking: it takes 1 µs and logs nothing, where `FileLock`
takes 57 and logs four DEBUG records into the very tree that this package serves.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING

from jsonl_handler._mounts import content_of, kind_of

if TYPE_CHECKING:
    from pathlib import Path

# `O_NOFOLLOW`, `O_CLOEXEC` and `O_BINARY` are not everywhere.
SAFE = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)

_STDERR = 2

# What is open, and the names of what is just being opened or closed: a fork may come at that very moment.
_open: dict[int, str] = {}
_passing: dict[object, str] = {}

_NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "virtiofs", "ceph", "glusterfs", "lustre", "afs"}

_lock_descriptor: Callable[..., bool] | None = None


def prepare() -> None:
    """Import filelock now, for good.

    Not with the package, since it costs 11 to 37 ms, and not with the first record: an
    import under way in another thread when the process forks hangs the child, and at the
    interpreter's end nothing can be imported any more.
    """
    global _lock_descriptor
    if _lock_descriptor is None:
        from filelock import lock_descriptor

        _lock_descriptor = lock_descriptor


def try_lock(descriptor: int) -> bool:
    """Lock an open file if nobody holds it; OSError where the filesystem has no locks."""
    prepare()
    assert _lock_descriptor is not None
    return _lock_descriptor(descriptor, blocking=False)


def open_safely(path: Path, flags: int, mode: int = 0o600) -> int:
    """Open without following a link, never as descriptor 0, 1 or 2.

    In a program that was started with one of them closed, whatever writes to its stderr would write to our file.
    """
    name, key = os.fspath(path), object()
    _passing[key] = name
    numbers: list[int] = []
    try:
        # Put into the list before Ctrl-C can come: what is only returned would be lost then.
        numbers.extend(map(os.open, (name,), (flags | SAFE,), (mode,)))
        while numbers[-1] <= _STDERR:
            numbers.extend(map(os.dup, numbers[-1:]))
        descriptor = numbers[-1]
        _open[descriptor] = name
        del numbers[-1]
    finally:
        for number in numbers:
            os.close(number)
        # No call: Ctrl-C here would lose the descriptor. A child that was forked meanwhile has none.
        if key in _passing:
            del _passing[key]  # noqa: RUF051
    return descriptor


def close(descriptor: int) -> None:
    """Close what `open_safely` opened."""
    key = object()
    name = _open.get(descriptor)
    if name is None:
        # A forked child has closed what its parent had open, and the number may be another file's by now.
        return
    _passing[key] = name
    try:
        # No call between these: Ctrl-C would leave it open for ever.
        if descriptor in _open:
            del _open[descriptor]
            os.close(descriptor)
    finally:
        _passing.pop(key, None)


def close_all() -> None:
    """Close all that is open, in a forked child; the parent's locks stay with the parent."""
    numbers = [*_open, *_numbers_of(set(_passing.values()))]
    _open.clear()
    _passing.clear()
    for number in numbers:
        with contextlib.suppress(OSError):
            os.close(number)


def _numbers_of(names: set[str]) -> list[int]:
    """The descriptors of files that have one of *names*; none where the system does not tell (see proc(5), fd)."""
    if not names:
        return []
    real = {os.path.join(os.path.realpath(os.path.dirname(name)), os.path.basename(name)) for name in names}
    found = []
    with contextlib.suppress(OSError):
        for number in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/self/fd/{number}").removesuffix(" (deleted)") in real:
                    found.append(int(number))
    return found


def is_linked(descriptor: int, path: Path) -> bool:
    """True while *path* names the very file that is open."""
    try:
        there = os.lstat(path)
    except FileNotFoundError:
        return False
    here = os.fstat(descriptor)
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


def unlink_if_ours(descriptor: int, path: Path) -> None:
    """Remove *path*, unless it names another file by now."""
    if is_linked(descriptor, path):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def open_existing(path: Path) -> int | None:
    """Open a regular file for reading and writing; None when it is gone; OSError for a link or anything else."""
    try:
        descriptor = open_safely(path, os.O_RDWR | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{path} is not a regular file")
    except BaseException:
        close(descriptor)
        raise
    return descriptor


def make_private_folder(path: Path) -> None:
    """Make a folder and its parents with mode 0700 where they are missing."""
    if not path.parent.is_dir():
        make_private_folder(path.parent)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)


def boot_id() -> str:
    """A text that changes with each start of this machine; empty where there is none."""
    try:
        # Not as text: that would import a codec, and an import that another thread is in at a fork hangs the child.
        return content_of("/proc/sys/kernel/random/boot_id").decode("ascii").strip()
    except OSError:
        return ""


def may_hide_locks(path: Path) -> bool:
    """True on a network filesystem, where the lock of another host may not be seen."""
    kind = kind_of(path)
    return kind is None or kind in _NETWORK or kind.startswith("fuse.")
