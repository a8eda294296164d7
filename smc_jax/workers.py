"""Threads that fuse pairs side by side: how many there are, and the memory that they share."""

import os
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import jax

from smc_jax import memory

T = TypeVar("T")

_OWN = threading.local()
"""Of a thread of a pool: the event that tells it to stop."""


def count() -> int:
    """How many pairs are best in work at once: one a core, which is what their scans keep busy. A
    GPU takes one at a time; the others are read and written meanwhile.
    """
    if jax.default_backend() != "cpu":
        return 4
    mine = getattr(os, "sched_getaffinity", None)
    return len(mine(0)) if mine else os.cpu_count() or 1


@contextmanager
def pool(size: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that stop when the one that made them meets an error or is interrupted: no pair is
    begun any more, and none goes on with its next tile; what is not done in tiles is finished.
    """
    stop = threading.Event()
    with ThreadPoolExecutor(size, initializer=lambda: setattr(_OWN, "stop", stop)) as threads:
        try:
            yield threads
        except BaseException:
            stop.set()
            ROOM.look()
            threads.shutdown(wait=False, cancel_futures=True)
            raise


def each(parts: Iterable[T]) -> Iterator[T]:
    """The parts of a pair's work; raises CancelledError when this thread is to stop."""
    for part in parts:
        check()
        yield part


def _stopped() -> bool:
    stop = getattr(_OWN, "stop", None)
    return stop is not None and stop.is_set()


def check() -> None:
    """Raises CancelledError when this thread is to stop."""
    if _stopped():
        raise CancelledError("interrupted")


class Room:
    """The memory that pairs share: who comes first is let in first."""

    def __init__(self):
        self._taken = self._inside = self._half = 0
        self._waiting: list[object] = []
        self._changed = threading.Condition()

    @contextmanager
    def take(self, needed: int, budget: int | None = None) -> Iterator[int]:
        """Waits until so many bytes are left, or all; gives the budget.

        Args:
          needed: of a pair. One that needs more than the budget has all of it.
          budget: bytes of all pairs together; by default half of what was free when nobody
            had any.

        Raises:
          CancelledError: this thread is to stop.
        """
        me, granted = object(), 0

        def turn() -> bool:
            nonlocal granted
            # What is taken need not be in use yet: what is free meanwhile says little.
            if not self._inside:
                self._half = memory.available()
            granted = self._half if budget is None else budget
            free = not self._inside or self._taken + needed <= granted
            return _stopped() or (free and self._waiting[0] is me)

        with self._changed:
            self._waiting.append(me)
            try:
                self._changed.wait_for(turn)
                check()
                needed = min(needed, granted)
                self._taken += needed
                self._inside += 1
            finally:
                self._waiting.remove(me)
                self._changed.notify_all()
        try:
            yield granted
        finally:
            with self._changed:
                self._taken -= needed
                self._inside -= 1
                self._changed.notify_all()

    def look(self) -> None:
        """Has those who wait see whether they are to stop."""
        with self._changed:
            self._changed.notify_all()


ROOM = Room()
"""What all pairs share."""
