"""SIGTERM and SIGINT ask a run to stop after its current step; they do not kill it."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

import jax
from jax.experimental import multihost_utils


class Stop:
    """Whether the run was asked to stop."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def due(self, step: int) -> bool:
        """Whether to stop after `step`. All processes of a job get the same answer, provided that
        each asks once per step.
        """
        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(step)
        return self.signal is not None

    @property
    def status(self) -> int:
        """The exit status of the run: 130 if SIGINT stopped it, otherwise 0."""
        return 130 if self.signal == signal.SIGINT else 0


@contextlib.contextmanager
def requests() -> Iterator[Stop]:
    """Listens for SIGTERM and SIGINT; a second SIGINT interrupts at once."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(number: int, frame: object) -> None:
        stop.signal = number
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        # Not print: this handler may interrupt another call of it.
        os.write(2, b"\nstopping after this step, with a checkpoint; Ctrl-C: at once, without\n")
        if number == signal.SIGINT and jax.process_count() > 1:
            os.kill(os.getpid(), signal.SIGTERM)

    # In a job of several processes JAX itself listens for SIGTERM, and informs the others.
    numbers = [signal.SIGINT] if jax.process_count() > 1 else [signal.SIGINT, signal.SIGTERM]
    before = {number: signal.signal(number, ask) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
