"""Shows the progress of a run to the person who watches it."""

import sys
import time
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from tqdm import tqdm

from smc_jax import processes

LINE_SECONDS = 10
"""Without a terminal, progress lines are at least this far apart."""


class Progress:
    """A progress bar on a terminal; elsewhere, a plain line now and then."""

    def __init__(self, start: int, steps: int, batch: int):
        self._terminal = sys.stderr.isatty() and processes.first()
        self._bar = tqdm(
            initial=start, total=steps, unit="step", disable=not self._terminal, dynamic_ncols=True
        )
        self._steps, self._batch = steps, batch
        self._told = time.monotonic()
        self._first: tuple[int, float] | None = None

    def advance(self, step: int) -> None:
        """Records that `step` is done."""
        self._bar.update()
        if self._first is None:
            # The speed leaves out this step, whose time includes compilation.
            self._first = step, time.monotonic()

    def pairs_per_second(self, step: int) -> float | None:
        """Returns the mean speed up to the finished `step`, or None while none is measured."""
        if self._first is None or step <= self._first[0]:
            return None
        first, began = self._first
        return (step - first) * self._batch / max(time.monotonic() - began, 1e-9)

    def write(
        self,
        step: int,
        scalars: Mapping[str, float],
        images: Mapping[str, Float[np.ndarray, "h w"]],
    ) -> None:
        """Shows the loss of the finished `step`, and its validation if there was one."""
        text, left = f"loss {scalars['loss']:.4f}", ""
        rate = scalars.get("host/pairs_per_second")
        if rate:
            text += f"  {rate:.2f} pairs/s"
            minutes, seconds = divmod(int((self._steps - step) * self._batch / rate), 60)
            left = f"  {minutes}:{seconds:02d} left"
        if scalars["skipped"]:
            text += f"  {scalars['skipped']:.0f} skipped"
        self._bar.set_postfix_str(text)
        scores = {k.removeprefix("val/"): v for k, v in scalars.items() if k.startswith("val/")}
        if scores:
            told = "  ".join(f"{name} {value:.4g}" for name, value in scores.items())
            tqdm.write(f"step {step}/{self._steps}  validation  {told}")
        now = time.monotonic()
        if not self._terminal and (now - self._told > LINE_SECONDS or step == self._steps):
            self._told = now
            print(f"step {step}/{self._steps}  {text}{left}", flush=True)

    def close(self) -> None:
        """Ends the bar's line."""
        self._bar.close()
