"""The training loop."""

import sys
import time
from contextlib import closing
from pathlib import Path

import jax
import numpy as np
from tqdm import tqdm

from smc_jax import checkpoint, data, files, model, sharding, train_state, train_step
from smc_jax.config import Config, Train
from smc_jax.errors import ConfigError, InputError
from smc_jax.types import Batch
from smc_jax.writers import Writer

LINE_SECONDS = 10
"""Without a terminal, a line of progress at most this often."""


def train(cfg: Config, workdir: str | Path) -> None:
    """Trains until `train.steps`, from the newest checkpoint in `workdir` if there is one.

    In each turn of the loop, in this order: the next batch; the step, dispatched and not awaited;
    the end of the step before it, and what that one measured; then, when due, a panel, and a
    checkpoint.

    Raises:
      ConfigError: the config, the data set and the workdir do not fit together.
    """
    files.check_folder(workdir, "--workdir")
    mesh = sharding.make_mesh()
    if cfg.data.batch % mesh.size:
        raise ConfigError(
            f"config.data.batch is {cfg.data.batch}; {mesh.size} devices must divide it"
        )
    if cfg.model.scan_method == "pallas" and jax.default_backend() != "gpu":
        raise ConfigError("config.model.scan_method is pallas, which needs a GPU; take auto")
    network = model.build(cfg.model)
    batches = data.batches(cfg.data, cfg.task, cfg.train.seed)
    with checkpoint.manager(workdir, cfg.train.keep) as checkpoints:
        if checkpoints.latest_step() is None:
            state = train_state.create(cfg, network, mesh)
        else:
            empty = train_state.abstract(cfg, network, mesh)
            state = checkpoint.restore(checkpoints, empty, batches, cfg)
        start, last = int(state.step), cfg.train.steps
        if start >= last:
            print(f"{workdir} is trained: step {start} of {last}")
            return
        if start:
            print(f"{workdir}: going on from step {start}")
        step = train_step.jit_step(cfg, network, mesh)
        with (
            closing(Writer(workdir, start)) as writer,
            closing(Progress(start, last, cfg.data.batch)) as progress,
        ):
            running: tuple[int, train_step.Metrics] | None = None
            for now in range(start + 1, last + 1):
                batch = sharding.put(next(batches), mesh)
                state, metrics, fused = step(state, batch)
                if running is not None:
                    _finish(cfg.train, writer, progress, *running)
                running = now, metrics
                if _due(now, cfg.train.image_every, last):
                    writer.panel(now, *_first(batch), np.asarray(fused)[0])
                if _due(now, cfg.train.save_every, last):
                    # A run that resumes from here finds its metrics complete.
                    _finish(cfg.train, writer, progress, *running)
                    running = None
                    checkpoint.save(checkpoints, state, batches, cfg)
    print(f"trained {last} steps; {workdir} holds checkpoints/, metrics.jsonl and images/")


class Progress:
    """A progress bar on a terminal, a plain line now and then elsewhere."""

    def __init__(self, start: int, steps: int, batch: int):
        self._terminal = sys.stderr.isatty()
        self._bar = tqdm(
            initial=start, total=steps, unit="step", disable=not self._terminal, dynamic_ncols=True
        )
        self._steps, self._batch = steps, batch
        self._told = time.monotonic()
        self._first: tuple[int, float] | None = None

    def advance(self, step: int) -> None:
        """Tells that `step` is done."""
        self._bar.update()
        if self._first is None:
            # The speed leaves this step out: it was compiled first.
            self._first = step, time.monotonic()

    def show(self, step: int, loss: float) -> None:
        """Tells the loss of `step`, which is done."""
        now, (first, began) = time.monotonic(), self._first or (step, 0.0)
        text, left = f"loss {loss:.4f}", ""
        if step > first:
            rate = (step - first) / max(now - began, 1e-9)
            text += f"  {rate * self._batch:.2f} images/s"
            minutes, seconds = divmod(int((self._steps - step) / rate), 60)
            left = f"  {minutes}:{seconds:02d} left"
        self._bar.set_postfix_str(text)
        if not self._terminal and (now - self._told > LINE_SECONDS or step == self._steps):
            self._told = now
            print(f"step {step}/{self._steps}  {text}{left}", flush=True)

    def close(self) -> None:
        """Ends the bar's line."""
        self._bar.close()


def _finish(
    cfg: Train, writer: Writer, progress: Progress, step: int, metrics: train_step.Metrics
) -> None:
    """Waits for the end of a step and tells what it measured."""
    jax.block_until_ready(metrics)
    # The loss is that of the weights before the step.
    if not np.isfinite([metrics["loss"], metrics["param_norm"]]).all():
        raise InputError(
            f"the loss or the weights of step {step} are not finite; the checkpoints are from "
            "before it. Lower config.optim.lr or set config.optim.clip, and start again to go on "
            "from there"
        )
    progress.advance(step)
    if _due(step, cfg.log_every, cfg.steps):
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        writer.scalars(step, values)
        progress.show(step, values["loss"])


def _due(step: int, every: int, last: int) -> bool:
    return step % every == 0 or step == last


def _first(batch: Batch) -> list[np.ndarray]:
    return [np.asarray(image)[0] for image in (batch.a, batch.b)]
