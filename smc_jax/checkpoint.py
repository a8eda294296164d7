"""Checkpoints: state, data iterator and configuration of a run, by orbax."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import grain
import jax
import orbax.checkpoint as ocp
import tensorstore
from absl import logging
from etils import epath
from jaxtyping import PyTree

from smc_jax import model, sharding, train_state
from smc_jax.config import Config
from smc_jax.errors import ConfigError
from smc_jax.train_state import TrainState

FOLDER = "checkpoints"


def manager(workdir: str | Path, keep: int = 1) -> ocp.CheckpointManager:
    """The checkpoints of a run; it writes in the background and keeps the newest `keep`."""
    logging.set_verbosity(logging.WARNING)
    return ocp.CheckpointManager(
        epath.Path(Path(workdir).absolute()) / FOLDER,
        options=ocp.CheckpointManagerOptions(max_to_keep=keep, enable_async_checkpointing=True),
        item_names=("state", "data", "config"),
    )


def save(checkpoints: ocp.CheckpointManager, state: TrainState, data, cfg: Config) -> None:
    """Starts to save the run as it is now; the newest checkpoint is never saved twice."""
    step = int(state.step)
    if checkpoints.latest_step() == step:
        return
    checkpoints.save(
        step,
        args=ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            data=grain.checkpoint.CheckpointSave(data),
            config=ocp.args.JsonSave(json.loads(cfg.to_json())),
        ),
    )


def restore(checkpoints: ocp.CheckpointManager, empty: TrainState, data, cfg: Config) -> TrainState:
    """The newest state, laid out like the abstract state `empty`; `data` goes on from there too.

    Raises:
      ConfigError: the checkpoint's network is not that of `cfg`, or the checkpoint is damaged.
    """
    step = _latest(checkpoints)
    _check_fit(_config(checkpoints, step), cfg, checkpoints.directory)
    iterator = grain.checkpoint.CheckpointRestore(data)
    return _read(checkpoints, step, state=ocp.args.StandardRestore(empty), data=iterator)["state"]


def load(workdir: str | Path) -> tuple[Config, PyTree]:
    """The configuration and the parameters of a run's newest checkpoint.

    Raises:
      ConfigError: there is no checkpoint in `workdir`, or it is damaged.
    """
    if not (Path(workdir) / FOLDER).is_dir():
        raise ConfigError(
            f"{workdir} holds no checkpoint; train first: python train.py --workdir=…"
        )
    with manager(workdir) as checkpoints:
        step = _latest(checkpoints)
        cfg = _config(checkpoints, step)
        empty = train_state.abstract(cfg, model.build(cfg.model), sharding.make_mesh())
        state = _read(checkpoints, step, state=ocp.args.StandardRestore(empty))["state"]
    return cfg, jax.device_put(state.params, jax.local_devices()[0])


def _latest(checkpoints: ocp.CheckpointManager) -> int:
    step = checkpoints.latest_step()
    if step is None:
        raise ConfigError(f"{checkpoints.directory} holds no checkpoint yet")
    return step


def _config(checkpoints: ocp.CheckpointManager, step: int) -> Config:
    values = _read(checkpoints, step, config=ocp.args.JsonRestore())["config"]
    try:
        return Config.from_json(json.dumps(values))
    except ConfigError as error:
        raise ConfigError(f"the config in {checkpoints.directory / str(step)}: {error}") from None


def _read(checkpoints: ocp.CheckpointManager, step: int, **items: Any) -> Any:
    try:
        if "state" in items:
            _read_through(checkpoints.directory / str(step) / "state")
        return checkpoints.restore(step, args=ocp.args.Composite(**items))
    except Exception as error:
        # What lacks or does not match is told by errors of many types, a plain Exception too.
        raise ConfigError(
            f"the checkpoint {checkpoints.directory / str(step)} cannot be read: it is damaged or "
            "was written by another version; without that folder, the one before it is taken "
            f"({type(error).__name__}: {' '.join(str(error).split()):.200})"
        ) from error


def _read_through(folder: epath.Path) -> None:
    # orbax reads all arrays at once, and what is still under way when one of them fails complains
    # on stderr from threads of its own. Here the first damaged one is all there is to say.
    arrays = tensorstore.KvStore.open({"driver": "ocdbt", "base": f"file://{folder}/"}).result()
    for name in arrays.list().result():
        arrays.read(name).result()


def _check_fit(saved: Config, cfg: Config, folder) -> None:
    ours, theirs = (
        {"setting": c.setting, "task": c.task, "data.name": c.data.name}
        | {f"model.{name}": value for name, value in dataclasses.asdict(c.model).items()}
        for c in (cfg, saved)
    )
    differ = [
        f"{name} is {theirs[name]} there, {ours[name]} here"
        for name in ours
        if ours[name] != theirs[name] and name != "model.scan_method"
    ]
    if differ:
        raise ConfigError(
            f"the checkpoint in {folder} does not fit the config: {'; '.join(differ)}; "
            "take another --workdir or the config that it was trained with"
        )
