"""Who waits for the writer: callers for room in the buffer, flushes for the batch that holds their records.

Each waits on a lock of its own, which is released to let it go on. The buffer's lock guards the rest.
"""

from __future__ import annotations

from _thread import LockType, allocate_lock


def _held() -> LockType:
    lock = allocate_lock()
    lock.acquire()
    return lock


class Waiting:
    """The callers, by thread, and the flushes, by the batch they wait for."""

    __slots__ = ("_flushes", "callers")

    def __init__(self) -> None:
        self.callers: dict[int, LockType] = {}
        self._flushes: list[tuple[int, LockType]] = []

    def for_room(self, thread: int) -> LockType:
        """A lock that is released when room appears."""
        waiter = self.callers[thread] = _held()
        return waiter

    def let_in(self) -> None:
        """Wake every caller: one at a time would cost each a turn of the scheduler."""
        callers, self.callers = self.callers, {}
        for waiter in callers.values():
            waiter.release()

    def for_batch(self, generation: int) -> LockType:
        """A lock that is released when the batch of that generation is written."""
        waiter = _held()
        self._flushes.append((generation, waiter))
        return waiter

    def forget(self, flush: LockType) -> None:
        """A flush has given up."""
        self._flushes = [entry for entry in self._flushes if entry[1] is not flush]

    def written(self, generation: int) -> None:
        """All batches up to that generation are written."""
        for wanted, waiter in self._flushes:
            if wanted <= generation:
                waiter.release()
        self._flushes = [entry for entry in self._flushes if entry[0] > generation]

    @property
    def flushes(self) -> int:
        """How many flushes wait."""
        return len(self._flushes)
