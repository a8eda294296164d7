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


def count() -> int:
    """How many pairs are best in work at once. The scans of a pair keep a single core busy; a GPU
    takes one pair at a time, while another is read and written.
    """
    return (os.cpu_count() or 1) if jax.default_backend() == "cpu" else 2


@contextmanager
def pool(size: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that end soon when the main one is interrupted: then no pair is begun, none that is
    fused in tiles goes on, and what is being written is finished.
    """
    with ThreadPoolExecutor(size) as threads:
        try:
            yield threads
        except Exception:
            threads.shutdown(cancel_futures=True)
            raise
        except BaseException:
            with ROOM.closed():
                threads.shutdown(cancel_futures=True)
            raise


class Room:
    """The memory that pairs share."""

    def __init__(self):
        self._free, self._taken, self._open = 0, 0, True
        self._changed = threading.Condition()

    @contextmanager
    def take(self, needed: int, budget: int | None = None) -> Iterator[int]:
        """Waits until so many bytes are left, or all; gives the budget.

        Args:
          needed: of a pair. One that needs more than the budget has all of it.
          budget: bytes of all pairs together; by default `memory.available()` when there was none.

        Raises:
          CancelledError: it is closed.
        """
        with self._changed:
            if not self._taken:
                self._free = memory.available()
            budget = self._free if budget is None else budget
            needed = min(needed, budget)
            self._changed.wait_for(
                lambda: not self._open or not self._taken or self._taken + needed <= budget
            )
            self._check()
            self._taken += needed
        try:
            yield budget
        finally:
            with self._changed:
                self._taken -= needed
                self._changed.notify_all()

    def each(self, parts: Iterable[T]) -> Iterator[T]:
        """The parts of a pair's work; raises CancelledError as soon as it is closed."""
        for part in parts:
            self._check()
            yield part

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Meanwhile no pair is begun, and none that is fused in parts goes on."""
        with self._changed:
            self._open = False
            self._changed.notify_all()
        try:
            yield
        finally:
            self._open = True

    def _check(self) -> None:
        if not self._open:
            raise CancelledError("interrupted")


ROOM = Room()
"""What all pairs share."""
