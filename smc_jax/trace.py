"""A profile of a few steps, for TensorBoard's profiler, XProf or Perfetto."""

from pathlib import Path
from typing import Any

import jax

WARM = 3
"""Steps to run before the first traced one, if there are enough, so that compiling is left out."""


class Trace:
    """Traces `count` of the steps after `start`, up to `last`, into a folder."""

    def __init__(self, folder: Path, start: int, last: int, count: int):
        self._folder = folder
        self._first = max(start + 1, min(start + 1 + WARM, last - count + 1))
        self._end = min(self._first + count - 1, last) if count else 0
        self._running = False

    def before(self, step: int, state: Any) -> None:
        """Begins if `step` is the first to trace, once the device has finished earlier steps."""
        if self._end and step == self._first:
            jax.block_until_ready(state)
            jax.profiler.start_trace(str(self._folder))
            self._running = True

    def after(self, step: int, state: Any) -> None:
        """Ends if `step` is the last to trace, once the device has finished it."""
        if self._running and step == self._end:
            jax.block_until_ready(state)
            self.close()

    def close(self) -> None:
        """Ends the trace if it is still running."""
        if self._running:
            self._running = False
            jax.profiler.stop_trace()
