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
"""What orbax calls a validation, the folder of a checkpoint and the file in it."""


class DamagedError(ConfigError):
    """A checkpoint that cannot be read."""


def opened(workdir: str | Path, options: Any) -> ocp.CheckpointManager:
    """The folder of a run's checkpoints."""
    # Its errors reach us as exceptions; as log lines they would be told twice.
    logging.set_verbosity(logging.FATAL)
    folder = epath.Path(Path(workdir).absolute()) / FOLDER
    return ocp.CheckpointManager(folder, options=options, item_names=("state", "data", "config"))


def newest_first(checkpoints: ocp.CheckpointManager) -> Iterator[tuple[int, list[int]]]:
    """Each step, and those newer than it."""
    steps = sorted(checkpoints.all_steps(), reverse=True)
    return ((step, steps[:index]) for index, step in enumerate(steps))


def best(checkpoints: ocp.CheckpointManager) -> int:
    """The step that `validation.best` was best at.

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
    """The steps whose checkpoints hold a validation that is damaged."""
    steps = []
    for path in sorted((workdir / FOLDER).glob(f"*/{SCORES}/{SCORES}")):
        try:
            {name: float(value) for name, value in json.loads(path.read_bytes()).items()}
        except (OSError, ValueError, TypeError, AttributeError):
            steps.append(path.parts[-3])
    return [int(step) for step in steps if step.isdigit()]


def rank(cfg: Config) -> Callable[[Mapping[str, float]], float]:
    """Scores as one number: higher is better; the lowest where they lack `validation.best`."""
    name = cfg.validation.best
    sign = 1 if metrics.METRICS[name].higher_is_better else -1
    return lambda scores: sign * scores[name] if name in scores else -math.inf


def configuration(checkpoints: ocp.CheckpointManager, step: int) -> Config:
    """What the checkpoint's run was configured as.

    Raises:
      ConfigError: it cannot be read, or has fields that are unknown here.
    """
    values = read(checkpoints, step, config=ocp.args.JsonRestore())["config"]
    try:
        return Config.from_json(json.dumps(values))
    except ConfigError as error:
        raise ConfigError(f"the config in {checkpoints.directory / str(step)}: {error}") from None


def fields(checkpoints: ocp.CheckpointManager, step: int) -> set[str]:
    """The fields of the state that the checkpoint has."""
    with _reading(checkpoints, step):
        folder = checkpoints.directory / str(step) / "state"
        tree: Any = ocp.PyTreeCheckpointHandler().metadata(folder).tree
        return {name for name, value in tree.items() if value is not None}


def restoring(tree: PyTree) -> Any:
    """How to read a part of the state: what `tree`, which may be abstract, has."""
    places = ocp.checkpoint_utils.construct_restore_args(tree)
    return ocp.args.PyTreeRestore(item=tree, restore_args=places, partial_restore=True)


def read(checkpoints: ocp.CheckpointManager, step: int, **items: Any) -> Any:
    """Items of a checkpoint by name.

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
        # What lacks or does not match is told by errors of many types, a plain Exception too.
        raise DamagedError(
            f"the checkpoint {checkpoints.directory / str(step)} cannot be read: it is damaged or "
            f"was written by another version ({brief(error)})"
        ) from error


def brief(error: Exception) -> str:
    """The error in one short line."""
    return f"{type(error).__name__}: {' '.join(str(error).split()):.200}"


def read_through(folder: Path | epath.Path) -> None:
    """Reads all that arrays were stored as; raises an error of any type where it is damaged."""
    # orbax reads all arrays at once, and what is still under way when one of them fails complains
    # on stderr from threads of its own. Here the first damaged one is all there is to say.
    arrays = tensorstore.KvStore.open({"driver": "ocdbt", "base": f"file://{folder}/"}).result()
    for name in arrays.list().result():
        arrays.read(name).result()
