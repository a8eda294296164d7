"""The training loop."""

import contextlib
import resource
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import jax
import orbax.checkpoint as ocp

from smc_jax import (
    checkpoint,
    files,
    input_pipeline,
    model,
    panels,
    processes,
    sharding,
    train_state,
    train_step,
    weights,
    writers,
)
from smc_jax.config import Config
from smc_jax.errors import ConfigError, InputError
from smc_jax.progress import Progress
from smc_jax.stopping import requests
from smc_jax.trace import Trace
from smc_jax.train_state import TrainState
from smc_jax.types import Batch
from smc_jax.validation import Validator


class Log(NamedTuple):
    """Where a run reports its progress."""

    cfg: Config
    writer: writers.Writers
    progress: Progress
    checkpoints: ocp.CheckpointManager


class Turn(NamedTuple):
    """A step that was dispatched, and its metrics, which may not be computed yet."""

    step: int
    metrics: train_step.Metrics
    shown: tuple[Batch, train_step.Made] | None
    """Images to draw, if that is due."""


def train(cfg: Config, workdir: str | Path) -> int:
    """Trains until `train.steps`, from the newest checkpoint in `workdir` if there is one.

    SIGTERM and SIGINT end it after the running step, with a checkpoint.

    Each turn of the loop reads the next batch, dispatches the step without waiting for it, then
    waits for the step before and logs its metrics. When they are due, validation and checkpoint
    follow, for which this step is awaited too.

    Returns:
      The exit status: 0, or 130 if SIGINT ended it.

    Raises:
      ConfigError: the config, the data set, the devices and the workdir do not fit together.
      InputError: the workdir is in use or cannot be written to, or too many steps in
        a row had a loss, gradient or weights that are not finite.
    """
    workdir = Path(workdir)
    files.check_folder(workdir, "--workdir")
    mesh = sharding.make_mesh(cfg.train.fsdp)
    each = sharding.check_batch(cfg, mesh)
    if cfg.model.scan_method == "pallas" and jax.default_backend() != "gpu":
        raise ConfigError("config.model.scan_method is pallas, which needs a GPU; take auto")
    network = model.build(cfg.model)
    batches = input_pipeline.batches(cfg.data, cfg.task, cfg.train.seed, truth=cfg.loss.truth > 0)
    validator = Validator(cfg, network) if cfg.validation.every else None
    with (
        files.locked(workdir) if processes.first() else contextlib.nullcontext(),
        requests() as stop,
        checkpoint.manager(workdir, cfg) as checkpoints,
        jax.debug_nans(cfg.train.debug_nans),
    ):
        empty = train_state.abstract(cfg, network, mesh)
        state = checkpoint.restore(checkpoints, empty, batches, cfg)
        if state is None:
            state = _begin(cfg, network, mesh)
        start, last = int(state.step), cfg.train.steps
        changes = checkpoint.changes(checkpoints, start, cfg) if start else []
        if start >= last:
            processes.tell(f"{workdir} is trained: step {start}; config.train.steps is {last}")
        elif start:
            processes.tell(f"{workdir}: going on from step {start}")
        for change in changes:
            processes.tell(change)
        if start >= last:
            return 0
        if mesh.size > 1 or cfg.train.accumulate > 1:
            processes.tell(
                f"batch {cfg.data.batch}: {mesh.size} devices x {cfg.train.accumulate} parts x "
                f"{each} pairs"
            )
        if cfg.train.only:
            processes.tell(f"what learns is {cfg.train.only}; the other weights are kept")
        step = train_step.jit_step(cfg, network, mesh)
        processes.tell("compiling the step: up to a minute, the next time less")
        with (
            closing(Progress(start, last, cfg.data.batch)) as progress,
            closing(writers.of(cfg, workdir, start, progress)) as writer,
            closing(Trace(workdir / "trace", start, last, cfg.train.trace_steps)) as trace,
        ):
            log = Log(cfg, writer, progress, checkpoints)
            turn: Turn | None = None
            for now in range(start + 1, last + 1):
                batch = sharding.put(next(batches), mesh)
                trace.before(now, state)
                state, metrics, made = step(state, batch)
                trace.after(now, state)
                if turn is not None:
                    _finish(log, turn)
                turn = Turn(
                    now, metrics, (batch, made) if _due(now, cfg.train.image_every, last) else None
                )
                stopped = stop.due(now)
                validated = validator is not None and _due(now, cfg.validation.every, last)
                if stopped or validated or _due(now, cfg.train.save_every, last):
                    scores = {}
                    if validator is not None and validated:
                        scores = validator(sharding.gathered(train_state.evaluated(state)))
                    # A run that resumes from here finds its metrics complete.
                    _finish(log, turn, scores)
                    turn = None
                    writer.sync()
                    checkpoint.save(checkpoints, now, state, batches, cfg, scores)
                if stopped:
                    break
    if now < last:
        processes.tell(f"stopped after step {now} of {last}; the same command goes on from there")
        return stop.status
    processes.tell(f"trained {last} steps; {workdir} holds checkpoints/, metrics.jsonl and images/")
    return 0


def _begin(cfg: Config, network: model.SMCMamba, mesh: jax.sharding.Mesh) -> TrainState:
    state = train_state.create(cfg, network, mesh)
    if not cfg.train.init_from:
        return state
    _, params = weights.load(cfg.train.init_from)
    shapes, wanted = (
        {jax.tree_util.keystr(k): v.shape for k, v in jax.tree_util.tree_leaves_with_path(tree)}
        for tree in (params, state.params)
    )
    differ = sorted(k for k in shapes | wanted if shapes.get(k) != wanted.get(k))
    if differ:
        raise ConfigError(
            f"config.train.init_from: the network of {cfg.train.init_from} is another one than "
            f"config.model describes, by {len(differ)} weights ({differ[0]})"
        )
    processes.tell(f"begins with the weights of {cfg.train.init_from}")
    return train_state.begin_with(state, params)


def _finish(log: Log, turn: Turn, scores: Mapping[str, float] | None = None) -> None:
    """Waits for a step to end and logs its metrics, and the scores of its validation if any."""
    cfg, scores = log.cfg, scores or {}
    bad = int(jax.device_get(turn.metrics["bad"]))
    if bad > cfg.train.max_bad_steps:
        raise InputError(_blown_up(log, turn.step, bad))
    log.progress.advance(turn.step)
    if not (_due(turn.step, cfg.train.log_every, cfg.train.steps) or scores or turn.shown):
        return
    scalars = {name: float(value) for name, value in jax.device_get(turn.metrics).items()}
    scalars |= {f"val/{name}": value for name, value in scores.items()}
    rate = log.progress.pairs_per_second(turn.step)
    if rate is not None:
        scalars[f"{writers.HOST}pairs_per_second"] = rate
    scalars[f"{writers.HOST}memory_mb"] = _memory() / 1e6
    log.writer.write(turn.step, scalars, panels.of(*turn.shown) if turn.shown else {})


def _blown_up(log: Log, step: int, bad: int) -> str:
    names = input_pipeline.names(log.cfg.data, log.cfg.train.seed, step)
    good = log.checkpoints.latest_step()
    return (
        f"{bad} steps in a row, up to {step}, had a loss, a gradient or weights that are not "
        f"finite, more than config.train.max_bad_steps={log.cfg.train.max_bad_steps}; the last "
        f"batch was {', '.join(names)}. The newest checkpoint is "
        + (f"that of step {good}" if good is not None else "none")
        + ". Lower config.optim.lr or set config.optim.clip, or look at the pairs, and start again "
        "to go on from there; --config.train.debug_nans=true finds the operation"
    )


def _memory() -> float:
    """Peak memory in bytes: of the first device, or of this process on a CPU."""
    device = jax.local_devices()[0].memory_stats() or {}
    unit = 1 if sys.platform == "darwin" else 1024
    here = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return float(device.get("peak_bytes_in_use", here))


def _due(step: int, every: int, last: int) -> bool:
    return step % every == 0 or step == last
