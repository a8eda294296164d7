"""Checkpoints of a run, by orbax: state, data iterator, configuration and validation scores."""

import contextlib
import dataclasses
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import grain
import orbax.checkpoint as ocp
from jaxtyping import PyTree
from orbax.checkpoint.checkpoint_managers import preservation_policy

from smc_jax import model, sharding, train_state
from smc_jax.checkpoint import damage, folder
from smc_jax.config import Config
from smc_jax.errors import ConfigError, InputError
from smc_jax.fields import flatten
from smc_jax.train_state import TrainState

BEST = "best"
"""Stands for the step whose validation was best."""


@contextlib.contextmanager
def manager(workdir: str | Path, cfg: Config) -> Iterator[ocp.CheckpointManager]:
    """The checkpoints of a run that trains.

    It writes in the background, keeps the newest `train.keep` and the best, and removes what a
    killed run left half-written.

    Raises:
      InputError: at the end, if the last checkpoint could not be written.
    """
    keep: list[Any] = [preservation_policy.LatestN(cfg.train.keep)]
    if cfg.validation.every:
        best = preservation_policy.BestN(
            get_metric_fn=folder.rank(cfg), n=1, keep_checkpoints_without_metrics=False
        )
        keep.append(best)
    options = ocp.CheckpointManagerOptions(
        preservation_policy=preservation_policy.AnyPreservationPolicy(keep),
        best_fn=folder.rank(cfg) if cfg.validation.every else None,
        cleanup_tmp_directories=True,
        enable_async_checkpointing=True,
    )
    damage.set_scores_aside(Path(workdir))
    with folder.quiet(), _quiet_threads():
        checkpoints = folder.opened(workdir, options)
        try:
            yield checkpoints
        except BaseException:
            # The first error is the one to report.
            with contextlib.suppress(Exception):
                checkpoints.close()
            raise
        with _writing(checkpoints):
            checkpoints.close()


def save(
    checkpoints: ocp.CheckpointManager,
    step: int,
    state: TrainState,
    data: grain.DatasetIterator,
    cfg: Config,
    scores: Mapping[str, float] | None = None,
) -> None:
    """Starts to save the run as it is after `step`, unless that is the newest checkpoint already.

    Args:
      checkpoints: from `manager`.
      step: the number of steps done.
      state: the state after them.
      data: the iterator of batches.
      cfg: the configuration of the run.
      scores: those of this step's validation, if there was one.

    Raises:
      InputError: this checkpoint, or the one before it, cannot be written.
    """
    if checkpoints.latest_step() == step:
        return
    with _writing(checkpoints):
        checkpoints.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.PyTreeSave(state),
                # It is the same in every process, and does not depend on their number.
                data=ocp.args.JsonSave(data.get_state()),
                config=ocp.args.JsonSave(json.loads(cfg.to_json())),
            ),
            metrics=dict(scores) if scores and cfg.validation.best in scores else None,
            force=True,
        )


def restore(
    checkpoints: ocp.CheckpointManager,
    empty: TrainState,
    data: grain.DatasetIterator,
    cfg: Config,
) -> TrainState | None:
    """Reads the newest checkpoint that can be read, and resumes `data` from there.

    Newer ones, which are damaged, are moved to `<workdir>/damaged_checkpoints`.

    Args:
      checkpoints: from `manager`.
      empty: the abstract state, for shapes and placement. Fields that the checkpoint does not have
        begin with zeros, the moving average of the weights with the weights.
      data: the iterator of batches.
      cfg: the configuration of the run.

    Returns:
      The state, or None if there is no checkpoint.

    Raises:
      ConfigError: setting, task, data sets or network of the checkpoint are not those of `cfg`, or
        all checkpoints are damaged.
    """
    for step, newer in folder.newest_first(checkpoints):
        try:
            _check_fit(folder.configuration(checkpoints, step), cfg, checkpoints.directory)
            there = folder.fields(checkpoints, step)
            lost: dict[str, Any] = {name: None for name in vars(empty) if name not in there}
            kept = dataclasses.replace(empty, **lost)
            read = folder.read(
                checkpoints, step, state=folder.restoring(kept), data=ocp.args.JsonRestore()
            )
        except folder.DamagedError as error:
            damage.warn_or_raise(checkpoints, step, error)
            continue
        data.set_state(read["data"])
        damage.set_aside(checkpoints, newer)
        return train_state.fill(read["state"], empty)
    return None


def changes(checkpoints: ocp.CheckpointManager, step: int, cfg: Config) -> list[str]:
    """Describes each field in which `cfg` differs from the configuration of the run at `step`."""
    changed = _differences(folder.configuration(checkpoints, step), cfg)
    return [f"config.{n} was {old!r} and is now {new!r}" for n, (old, new) in changed.items()]


class Saved(NamedTuple):
    """The network in a checkpoint, for evaluation."""

    config: Config
    params: PyTree
    """The weights, or their moving average if the run has one."""
    step: int


def load(path: str | Path) -> Saved:
    """Reads the network of a run.

    Args:
      path: a workdir, for its newest checkpoint that can be read; `<workdir>/best`, for the best by
        `validation.best`; or the folder of one checkpoint, `<workdir>/checkpoints/<step>`.

    Raises:
      ConfigError: there is no checkpoint, or it is damaged.
    """
    workdir, wanted = _locate(Path(path))
    options = ocp.CheckpointManagerOptions(
        read_only=True, create=False, save_interval_steps=0, lightweight_initialize=True
    )
    with folder.quiet(), contextlib.closing(folder.opened(workdir, options)) as checkpoints:
        wanted = folder.best(checkpoints) if wanted == BEST else wanted
        for step, _ in folder.newest_first(checkpoints):
            if wanted in (None, step):
                try:
                    return _load(checkpoints, step)
                except folder.DamagedError as error:
                    if wanted is not None:
                        raise
                    damage.warn_or_raise(checkpoints, step, error)
    raise ConfigError(f"{path} holds no such checkpoint")


def _load(checkpoints: ocp.CheckpointManager, step: int) -> Saved:
    cfg = folder.configuration(checkpoints, step)
    empty = train_state.abstract(cfg, model.build(cfg.model), sharding.one_device())
    name = "ema" if cfg.train.ema and "ema" in folder.fields(checkpoints, step) else "params"
    state = folder.read(checkpoints, step, state=folder.restoring({name: empty.params}))["state"]
    return Saved(cfg, state[name], step)


def _locate(path: Path) -> tuple[Path, int | str | None]:
    if path.parent.name == folder.FOLDER and path.name.isdigit() and path.is_dir():
        return path.parent.parent, int(path.name)
    if path.name == BEST and not path.exists():
        path, wanted = path.parent, BEST
    else:
        wanted = None
    if not (path / folder.FOLDER).is_dir():
        raise ConfigError(
            f"{path} holds no checkpoint; give the workdir of a training, or train there: "
            f"python train.py --workdir={path}"
        )
    return path, wanted


@contextlib.contextmanager
def _quiet_threads() -> Iterator[None]:
    # If one file of a save cannot be written, orbax's threads for the other files print a traceback
    # each, since nothing awaits them any more.
    before = sys.unraisablehook

    def hook(found: Any) -> None:
        if str(found.exc_value) != "Event loop is closed":
            before(found)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


@contextlib.contextmanager
def _writing(checkpoints: ocp.CheckpointManager) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise InputError(
            f"{checkpoints.directory}: a checkpoint cannot be written ({folder.brief(error)}); "
            "make room and start again: the older checkpoints are intact"
        ) from error


def _differences(saved: Config, cfg: Config) -> dict[str, tuple[Any, Any]]:
    """Both values of each field that has two, by its dotted name."""
    there, here = (flatten(dataclasses.asdict(c)) for c in (saved, cfg))
    return {name: (there[name], here[name]) for name in here if there[name] != here[name]}


def _check_fit(saved: Config, cfg: Config, where: Any) -> None:
    differ = [
        f"{name} is {there} there, {here} here"
        for name, (there, here) in _differences(saved, cfg).items()
        if name in ("setting", "task", "data.name")
        or (name.startswith("model.") and name not in ("model.scan_method", "model.remat"))
    ]
    if differ:
        raise ConfigError(
            f"the checkpoint in {where} does not fit the config: {'; '.join(differ)}; "
            "take another --workdir or the config that it was trained with"
        )
