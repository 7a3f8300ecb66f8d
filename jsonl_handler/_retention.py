"""Retention: which files go (`plan`, which only decides), and their deletion (`sweep`).

Which files are ours is known to `_names`, which of them are in use to `_survey`.
"""

from __future__ import annotations

import heapq
import os
import shutil
import stat
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Self

from jsonl_handler import _survey
from jsonl_handler._clock import now
from jsonl_handler._names import SegmentName

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import date

    from jsonl_handler.settings import Settings

# One C call over all of 100,000 names would hold the GIL for 60 ms; over so many it takes about 1 ms.
_CHUNK = 2_000
# So many files are looked at in about half a millisecond.
_FEW = 100
_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Limits:
    """What the files of one prefix may take; None is no limit."""

    max_age_days: float | None = None
    max_total_bytes: int | None = None
    max_files: int | None = None
    min_free_bytes: int | None = None

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The limits in force: a suspended one is none."""
        names = ("max_age_days", "max_total_bytes", "max_files", "min_free_bytes")
        # 0 is a limit only for min_free_bytes, where it says nothing.
        return cls(**{name: getattr(settings, name) or None for name in names if name not in settings.suspended})


@dataclass(frozen=True, slots=True)
class Segment:
    """One file as it was listed; *protected* while a live session writes it."""

    name: SegmentName
    size: int
    mtime: float
    protected: bool = False
    inode: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """What to delete, oldest first, and the limits that stay exceeded even so, in words."""

    delete: list[Segment]
    unmet: list[str]


@dataclass(slots=True)
class SweepResult:
    """What one sweep did.

    *skipped*: another process was at it.
    *complete*: all files were seen and the plan was followed to its end.
    """

    deleted: int = 0
    freed: int = 0
    problems: list[str] = field(default_factory=list)
    unmet: list[str] = field(default_factory=list)
    skipped: bool = False
    complete: bool = False


def plan(segments: Sequence[Segment], limits: Limits, now: float, free: int | None) -> Plan:
    """Choose what to delete: all that is too old, then the fewest, oldest first.

    Times are by last write; ties are broken by date, number and session.
    Protected segments count in every total, and stay.
    *free* is what the disk has left in bytes, None when unknown.
    """
    oldest = now - limits.max_age_days * _DAY if limits.max_age_days is not None else None
    kept, size = len(segments), sum(segment.size for segment in segments)
    freed = 0
    delete: list[Segment] = []

    def exceeded() -> Iterator[str]:
        if limits.max_total_bytes is not None and size - freed > limits.max_total_bytes:
            yield f"max_total_bytes is {limits.max_total_bytes}, in use are {size - freed}"
        if limits.max_files is not None and kept - len(delete) > limits.max_files:
            yield f"max_files is {limits.max_files}, in use are {kept - len(delete)}"
        if limits.min_free_bytes is not None and free is not None and free + freed < limits.min_free_bytes:
            yield f"min_free_bytes is {limits.min_free_bytes}, free are {free + freed}"

    def is_old(segment: Segment) -> bool:
        return oldest is not None and segment.mtime < oldest

    candidates = [segment for segment in segments if not segment.protected]
    if not any(exceeded()):
        # Mostly so: then there is little to put in order.
        candidates = [segment for segment in candidates if is_old(segment)]
    for segment in _oldest_first(candidates):
        if not is_old(segment) and not any(exceeded()):
            break
        delete.append(segment)
        freed += segment.size
    unmet = list(exceeded())
    aged = sum(segment.protected and is_old(segment) for segment in segments)
    if aged:
        unmet.append(f"max_age_days is {limits.max_age_days:g}, older and in use are {aged} files")
    return Plan(delete, unmet)


def _never() -> bool:
    return False


def sweep(
    directory: str,
    prefix: str,
    limits: Limits,
    *,
    stop: Callable[[], bool] = _never,
    most_deleted: int | None = None,
    most_listed: int | None = None,
) -> SweepResult:
    """Bring the files of *prefix* in *directory* within *limits*.

    *stop* is asked at every hundredth file and before each deletion; once it says yes, what is left waits for
    another sweep.
    *most_deleted* files go at most.
    Of a directory with more than *most_listed* names only a part is seen, so that only age may delete.
    Nothing is done while another process sweeps.
    Raises nothing for what the disk refuses: `SweepResult.problems` tells it.
    """
    result = SweepResult()
    if limits == Limits():
        result.complete = True
        return result
    try:
        with _survey.sweep_lock(directory, prefix) as ours:
            result.skipped = not ours
            if not ours:
                return result
            # Listed before it is asked who lives: a session that begins in between has no file in the list.
            segments, whole = _listing(directory, prefix, stop, most_listed, result)
            if stop():
                return result
            if not whole:
                limits = Limits(max_age_days=limits.max_age_days)
            with _survey.survey(directory, prefix) as live:
                free = _free(directory) if limits.min_free_bytes is not None else None
                seen = [replace(each, protected=True) if live.protects(each.name) else each for each in segments]
                chosen = plan(seen, limits, now(), free)
                result.unmet += chosen.unmet
                for segment in chosen.delete[:most_deleted]:
                    if stop():
                        return result
                    _delete(directory, segment, result)
            result.complete = whole and (most_deleted is None or len(chosen.delete) <= most_deleted)
    except FileNotFoundError:
        # Somebody deletes the whole directory: that is no trouble, and a session makes it anew.
        result.complete = not os.path.isdir(directory)
    except OSError as error:
        result.problems.append(f"{directory}: {_reason(error)}")
    return result


def _listing(
    directory: str, prefix: str, stop: Callable[[], bool], most: int | None, result: SweepResult
) -> tuple[list[Segment], bool]:
    """Our regular files, and whether these are all."""
    segments: list[Segment] = []
    with os.scandir(directory) as entries:
        for count, entry in enumerate(entries):
            if count == most or (count % _FEW == 0 and stop()):
                return segments, False
            name = SegmentName.parse(entry.name, prefix)
            if name is None:
                continue
            try:
                # Not entry.stat(): on Windows that has no inode, and the time of the last closing.
                found = os.lstat(entry.path)
            except FileNotFoundError:
                continue
            except OSError as error:
                result.problems.append(f"{entry.path}: {_reason(error)}")
                continue
            if stat.S_ISREG(found.st_mode):
                segments.append(Segment(name, found.st_size, found.st_mtime, inode=found.st_ino))
    return segments, True


def _delete(directory: str, segment: Segment, result: SweepResult) -> None:
    path = os.path.join(directory, str(segment.name))
    try:
        found = os.lstat(path)
        # Another file under the name, or one that a session took up again since, is not what was chosen.
        same = stat.S_ISREG(found.st_mode) and found.st_ino == segment.inode
        if same and found.st_mtime == segment.mtime:
            os.unlink(path)
            result.deleted += 1
            result.freed += segment.size
    except FileNotFoundError:
        return
    except OSError as error:
        result.problems.append(f"{path}: {_reason(error)}")


def _oldest_first(segments: Iterable[Segment]) -> Iterator[Segment]:
    rest = iter(segments)
    runs = [sorted(run, key=_order) for run in iter(lambda: list(islice(rest, _CHUNK)), [])]
    return heapq.merge(*runs, key=_order)


def _order(segment: Segment) -> tuple[float, date, int, str, str]:
    # Of two copies the one that is not compressed comes first: the smaller one keeps its lines longer.
    return segment.mtime, segment.name.date, segment.name.part, segment.name.session, segment.name.suffix


def _free(directory: str) -> int | None:
    """Bytes that this user may still write on the disk."""
    try:
        if hasattr(os, "statvfs"):
            disk = os.statvfs(directory)
            return disk.f_bavail * disk.f_frsize
        return shutil.disk_usage(directory).free
    except OSError:
        return None


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
