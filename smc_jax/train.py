"""The training loop."""

import contextlib
import sys
import time
from pathlib import Path

import jax
import numpy as np
from tqdm import tqdm

from smc_jax import checkpoint, data, model, sharding, train_state, train_step
from smc_jax.config import Config
from smc_jax.errors import ConfigError
from smc_jax.types import Batch
from smc_jax.writers import Writer

LINE_SECONDS = 10
"""Without a terminal, a line of progress at most this often."""


def train(cfg: Config, workdir: str | Path) -> None:
    """Trains until `train.steps`, from the newest checkpoint in `workdir` if there is one.

    In each turn of the loop, in this order: the next batch, the step (dispatched, not awaited),
    then what the step before it measured, then, when due, a panel, and a checkpoint.

    Raises:
      ConfigError: the config, the data set and the workdir do not fit together.
    """
    mesh = sharding.make_mesh()
    if cfg.data.batch % mesh.size:
        raise ConfigError(
            f"config.data.batch is {cfg.data.batch}; {mesh.size} devices must divide it"
        )
    network = model.build(cfg.model)
    batches = data.batches(cfg.data, cfg.train.seed)
    with checkpoint.manager(workdir, cfg.train.keep) as checkpoints:
        if checkpoints.latest_step() is None:
            state = train_state.create(cfg, network, mesh)
        else:
            empty = train_state.abstract(cfg, network, mesh)
            state = checkpoint.restore(checkpoints, empty, batches, cfg)
        start = int(state.step)
        if start >= cfg.train.steps:
            print(f"{workdir} is trained: step {start} of {cfg.train.steps}")
            return
        step = train_step.jit_step(cfg, network, mesh)
        measured: tuple[int, train_step.Metrics] | None = None
        with (
            contextlib.closing(Writer(workdir, start)) as writer,
            contextlib.closing(Progress(start, cfg.train.steps, cfg.data.batch)) as progress,
        ):
            for now in range(start + 1, cfg.train.steps + 1):
                batch = sharding.put(next(batches), mesh)
                state, metrics, fused = step(state, batch)
                if measured is not None:
                    _log(writer, progress, *measured)
                    measured = None
                progress.advance(now)
                last = now == cfg.train.steps
                if last or now % cfg.train.log_every == 0:
                    measured = now, metrics
                if last or now % cfg.train.image_every == 0:
                    writer.panel(now, *_first(batch), np.asarray(fused)[0])
                if last or now % cfg.train.save_every == 0:
                    # A run that resumes from here finds its metrics complete.
                    if measured is not None:
                        _log(writer, progress, *measured)
                        measured = None
                    checkpoint.save(checkpoints, state, batches, cfg)
        checkpoints.wait_until_finished()


class Progress:
    """A progress bar on a terminal, a plain line now and then elsewhere."""

    def __init__(self, start: int, steps: int, batch: int):
        self._terminal = sys.stderr.isatty()
        self._bar = tqdm(
            initial=start, total=steps, unit="step", disable=not self._terminal, dynamic_ncols=True
        )
        self._batch, self._start, self._steps = batch, start, steps
        self._began = self._told = time.monotonic()
        self._now = start

    def advance(self, step: int) -> None:
        """Tells that `step` was dispatched."""
        self._bar.update(step - self._now)
        self._now = step

    def show(self, step: int, loss: float) -> None:
        """Tells the loss of `step`."""
        seconds = time.monotonic() - self._began
        rate = max(self._now - self._start, 1) / max(seconds, 1e-9)
        self._bar.set_postfix_str(f"loss {loss:.4f}, {rate * self._batch:.2f} images/s")
        if not self._terminal and (
            time.monotonic() - self._told > LINE_SECONDS or step == self._steps
        ):
            self._told = time.monotonic()
            left = (self._steps - step) / rate
            print(
                f"step {step}/{self._steps}  loss {loss:.4f}  {rate * self._batch:.2f} images/s  "
                f"{int(left) // 60}:{int(left) % 60:02d} left",
                flush=True,
            )

    def close(self) -> None:
        """Ends the bar's line."""
        self._bar.close()


def _log(writer: Writer, progress: Progress, step: int, metrics: train_step.Metrics) -> None:
    values = {name: float(value) for name, value in jax.device_get(metrics).items()}
    writer.scalars(step, values)
    progress.show(step, values["loss"])


def _first(batch: Batch) -> list[np.ndarray]:
    return [np.asarray(image)[0] for image in batch]
