"""Threads that fuse pairs, or the tiles of one, in parallel: how many there are, and the memory
that pairs share.
"""

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import jax

from smc_jax import container, memory

T = TypeVar("T")
R = TypeVar("R")

_OWN = threading.local()
"""Holds, in each thread of a pool, the events `stops` of this pool and of those that it is part of;
each asks the thread to stop.
"""


def count() -> int:
    """Returns how many pairs to work on at once. A GPU fuses one at a time, while the others are
    read and written.
    """
    return cores() if jax.default_backend() == "cpu" else 4


def cores() -> int:
    """Returns how many programs to run at once: one per core of a CPU that this process may use,
    since the scans of a program keep one core busy; one on a GPU.
    """
    if jax.default_backend() != "cpu":
        return 1
    mine = getattr(os, "sched_getaffinity", None)
    there = len(mine(0)) if mine else os.cpu_count() or 1
    return min(there, container.cores() or there)


@contextmanager
def pool(size: int) -> Iterator[ThreadPoolExecutor]:
    """Yields a pool of threads, which stop if the `with` block fails or is interrupted: no further
    pair is begun, and no further tile of a pair; a pair that is fused whole is finished.
    """
    stop = threading.Event()
    stops = stop, *getattr(_OWN, "stops", ())
    with ThreadPoolExecutor(size, initializer=lambda: setattr(_OWN, "stops", stops)) as threads:
        try:
            yield threads
        except BaseException:
            stop.set()
            ROOM.look()
            threads.shutdown(wait=False, cancel_futures=True)
            raise


def each(parts: Iterable[T]) -> Iterator[T]:
    """Yields the parts of a pair's work; raises CancelledError once this thread is to stop."""
    for part in parts:
        check()
        yield part


@contextmanager
def side_by_side(
    function: Callable[[T], R], parts: Iterable[T], size: int
) -> Iterator[Iterator[R]]:
    """Yields the results of the parts of a pair's work, in order, as they come; `size` parts are
    worked on at a time. As in `each`, no part begins once this thread is to stop.
    """
    if size == 1:
        # In this thread, whose settings of JAX hold here.
        yield map(function, each(parts))
        return

    def one(part: T) -> R:
        check()
        return function(part)

    with pool(size) as threads:
        yield each(threads.map(one, parts))


def _stopped() -> bool:
    return any(stop.is_set() for stop in getattr(_OWN, "stops", ()))


def check() -> None:
    """Raises CancelledError if this thread is to stop."""
    if _stopped():
        raise CancelledError("interrupted")


class Room:
    """The memory that pairs share, granted in the order in which they ask."""

    def __init__(self):
        self._taken = self._inside = self._half = 0
        self._waiting: list[object] = []
        self._changed = threading.Condition()

    @contextmanager
    def take(self, needed: int, budget: int | None = None) -> Iterator[int]:
        """Waits until `needed` bytes of the budget, or all of it, are left; yields the budget.

        Args:
          needed: bytes of a pair. A pair that needs more than the budget gets all of it.
          budget: bytes of all pairs together; by default half of what was free when no pair
            held any.

        Raises:
          CancelledError: this thread is to stop.
        """
        me, granted = object(), 0

        def turn() -> bool:
            nonlocal granted
            # Pairs may not have used the bytes they took yet, so what is free now says little.
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
        """Wakes the threads that wait, so that they check whether to stop."""
        with self._changed:
            self._changed.notify_all()


ROOM = Room()
"""The memory that all pairs of this process share."""
