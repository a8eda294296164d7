"""The checkpoints in a folder, and what each of them holds."""

import contextlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp
import tensorstore
from absl import logging
from etils import epath
from jaxtyping import PyTree

from smc_jax import metrics
from smc_jax.config import Config
from smc_jax.errors import ConfigError

FOLDER = "checkpoints"
SCORES = "metrics"
"""Orbax's name for validation scores: the folder in a checkpoint, and the file in that folder."""


class DamagedError(ConfigError):
    """A checkpoint that cannot be read."""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences the log of orbax, which raises its errors too: they would be reported twice."""
    # Not by `set_verbosity`: it changes levels of the standard library that it cannot restore.
    logger = logging.get_absl_logger()
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def opened(workdir: str | Path, options: Any) -> ocp.CheckpointManager:
    """Opens the checkpoints of a run."""
    folder = epath.Path(Path(workdir).absolute()) / FOLDER
    return ocp.CheckpointManager(folder, options=options, item_names=("state", "data", "config"))


def newest_first(checkpoints: ocp.CheckpointManager) -> Iterator[tuple[int, list[int]]]:
    """Iterates over the steps, newest first, each with the list of those newer than it."""
    steps = sorted(checkpoints.all_steps(), reverse=True)
    return ((step, steps[:index]) for index, step in enumerate(steps))


def best(checkpoints: ocp.CheckpointManager) -> int:
    """Returns the step with the best `validation.best` score.

    Raises:
      ConfigError: the run was not validated.
    """
    unreadable = unreadable_scores(Path(checkpoints.directory.parent))
    steps = [step for step in checkpoints.all_steps() if step not in unreadable]
    scores = {step: checkpoints.metrics(step) for step in steps}
    scores = {step: values for step, values in scores.items() if values}
    if not scores:
        raise ConfigError(
            f"{checkpoints.directory.parent} was not validated; set config.validation.every"
        )
    of = rank(configuration(checkpoints, max(scores)))
    return max(scores, key=lambda step: of(scores[step]))


def unreadable_scores(workdir: Path) -> list[int]:
    """Returns the steps whose checkpoints hold a damaged validation."""
    steps = []
    for path in sorted((workdir / FOLDER).glob(f"*/{SCORES}/{SCORES}")):
        try:
            {name: float(value) for name, value in json.loads(path.read_bytes()).items()}
        except (OSError, ValueError, TypeError, AttributeError):
            steps.append(path.parts[-3])
    return [int(step) for step in steps if step.isdigit()]


def rank(cfg: Config) -> Callable[[Mapping[str, float]], float]:
    """Returns a function that turns scores into one number by `validation.best`: higher is better,
    and -inf means that the scores do not include it.
    """
    name = cfg.validation.best
    sign = 1 if metrics.METRICS[name].higher_is_better else -1
    return lambda scores: sign * scores[name] if name in scores else -math.inf


def configuration(checkpoints: ocp.CheckpointManager, step: int) -> Config:
    """Returns the configuration of the checkpoint's run.

    Raises:
      ConfigError: it cannot be read, or has fields that this version does not know.
    """
    values = read(checkpoints, step, config=ocp.args.JsonRestore())["config"]
    try:
        return Config.from_json(json.dumps(values))
    except ConfigError as error:
        raise ConfigError(f"the config in {checkpoints.directory / str(step)}: {error}") from None


def fields(checkpoints: ocp.CheckpointManager, step: int) -> set[str]:
    """Returns the names of the state's fields that the checkpoint holds."""
    with _reading(checkpoints, step):
        folder = checkpoints.directory / str(step) / "state"
        tree: Any = ocp.PyTreeCheckpointHandler().metadata(folder).tree
        return {name for name, value in tree.items() if value is not None}


def restoring(tree: PyTree) -> Any:
    """Returns orbax's arguments for reading the part of the state that `tree` has; its leaves may
    be abstract.
    """
    places = ocp.checkpoint_utils.construct_restore_args(tree)
    return ocp.args.PyTreeRestore(item=tree, restore_args=places, partial_restore=True)


def read(checkpoints: ocp.CheckpointManager, step: int, **items: Any) -> Any:
    """Reads items of a checkpoint by name.

    Raises:
      DamagedError: one of them cannot be read.
    """
    with _reading(checkpoints, step):
        if "state" in items:
            read_through(checkpoints.directory / str(step) / "state")
        return checkpoints.restore(step, args=ocp.args.Composite(**items))


@contextlib.contextmanager
def _reading(checkpoints: ocp.CheckpointManager, step: int) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # Missing or mismatched items raise errors of many types, even plain Exception.
        raise DamagedError(
            f"the checkpoint {checkpoints.directory / str(step)} cannot be read: it is damaged or "
            f"was written by another version ({brief(error)})"
        ) from error


def brief(error: Exception) -> str:
    """Returns the error in one short line."""
    return f"{type(error).__name__}: {' '.join(str(error).split()):.200}"


def read_through(folder: Path | epath.Path) -> None:
    """Reads everything that arrays are stored in; raises an error of any type if it is damaged."""
    # Orbax reads all arrays at once, and when one of them fails, the others that are still being
    # read complain on stderr from their own threads. Here only the first damaged one is reported.
    arrays = tensorstore.KvStore.open({"driver": "ocdbt", "base": f"file://{folder}/"}).result()
    for name in arrays.list().result():
        arrays.read(name).result()
