"""Handles checkpoints that cannot be read: warns in one line, and deletes nothing."""

import os
import sys
from pathlib import Path

import jax
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from smc_jax.checkpoint import folder

FOLDER = "damaged_checkpoints"


def warn_or_raise(
    checkpoints: ocp.CheckpointManager, step: int, error: folder.DamagedError
) -> None:
    """Raises the error if no checkpoint is older than that of `step`; otherwise warns."""
    if step == min(checkpoints.all_steps()):
        raise error
    _warn(f"{error}; taking the one before it")


def set_aside(checkpoints: ocp.CheckpointManager, steps: list[int]) -> None:
    """Moves the checkpoints of these steps away, so that the steps can be saved again."""
    for step in steps if jax.process_index() == 0 else ():
        _move(Path(checkpoints.directory / str(step)), str(step))
    if steps:
        _wait("set aside")
        checkpoints.reload()


def set_scores_aside(workdir: Path) -> None:
    """Moves damaged validations of a run away; their checkpoints are as good without them.

    Call this before the checkpoints are opened, because opening them reads all scores.
    """
    for step in folder.unreadable_scores(workdir) if jax.process_index() == 0 else ():
        _move(workdir / folder.FOLDER / str(step) / folder.SCORES, f"{step}.{folder.SCORES}")
        _warn(
            f"the validation of checkpoint {step} in {workdir} is damaged; it is no longer among "
            "the best"
        )
    _wait("scores set aside")


def _move(path: Path, name: str) -> None:
    """Moves a file or folder of a run's checkpoints to a free name in `damaged_checkpoints`."""
    workdir = next(p.parent for p in path.parents if p.name == folder.FOLDER)
    there = workdir / FOLDER
    there.mkdir(exist_ok=True)
    free = next(f"{name}.{i}" for i in range(10**6) if not (there / f"{name}.{i}").exists())
    os.replace(path, there / free)


def _warn(text: str) -> None:
    if jax.process_index() == 0:
        print(f"warning: {text}", file=sys.stderr)


def _wait(name: str) -> None:
    """Waits until all processes get here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)
