"""Weight files: the parameters of a network, its configuration and their origin in one safetensors
file. The files in this folder come with the package, each with a model card beside it.
"""

import json
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.flax
from flax import traverse_util
from jaxtyping import PyTree

from smc_jax import files, image_files, model
from smc_jax.config import Config
from smc_jax.errors import ConfigError, ImageError

FOLDER = Path(__file__).parent
SUFFIX = ".safetensors"
CONFIG = "config.json"
FORMAT = "smc_jax 1"
TYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
"""Types that parameters may be stored in; they are always read back as float32."""


class Weights(NamedTuple):
    """What a weight file holds."""

    config: Config
    params: PyTree
    about: dict[str, Any]
    """Facts for the model card: data, steps, seed, command, metrics, ..."""


def packaged() -> list[str]:
    """Returns the names of the weights that come with the package."""
    return sorted(path.stem for path in FOLDER.glob(f"*{SUFFIX}"))


def for_task(task: str) -> str:
    """Returns the name of the packaged weights for a task: its own or, if it has none, `general`.

    Raises:
      ConfigError: neither is packaged.
    """
    names = packaged()
    for name in (task, "general"):
        if name in names:
            return name
    raise ConfigError(
        f"no weights for {task} come with this version ({_choices()}); train some, and give their "
        "workdir or .safetensors file as weights"
    )


def load(name_or_path: str | Path) -> tuple[Config, PyTree]:
    """Loads the configuration and the parameters of packaged weights, of a .safetensors file, of a
    folder that `smc_jax.export` made, or of a training workdir, as `checkpoint.load` takes it.

    Raises:
      ConfigError: there are no weights of that name, or they are damaged.
    """
    path = located(name_or_path)
    if path.suffix == SUFFIX:
        return read(path)[:2]
    if is_folder(path):
        # Slow to import, and not needed for a weight file.
        from smc_jax.weights import folder

        return folder.read(path)[:2]
    if path.is_dir() or (path.parent / "checkpoints").is_dir():
        from smc_jax import checkpoint

        return checkpoint.load(path)[:2]
    raise ConfigError(
        f"there are no weights {name_or_path}; give a packaged name ({_choices()}), a .safetensors "
        "file, an exported folder, or a training workdir"
    )


def located(name_or_path: str | Path) -> Path:
    """Returns the file of the packaged weights of that name, or else the path as it is. A folder
    that has the name of packaged weights is given as `./NAME`.
    """
    name = str(name_or_path)
    return FOLDER / f"{name}{SUFFIX}" if name in packaged() else Path(name)


def version(name_or_path: str | Path) -> Hashable:
    """Returns a cache key that changes with the weights of that name: paths and times of files."""
    path = located(name_or_path).absolute()
    found = [path, *path.glob("*"), *path.glob("checkpoints/*"), *path.parent.glob("checkpoints/*")]
    return tuple((file, file.stat().st_mtime_ns) for file in found if file.exists())


def read(path: str | Path) -> Weights:
    """Reads a weight file; its parameters are returned in float32.

    Raises:
      ConfigError: it is missing, damaged, of another version, or does not fit its own config.
    """
    try:
        image_files.content(path)  # Gives a clear message if it is missing, a folder, a pipe, ...
    except ImageError as error:
        raise ConfigError(str(error)) from None
    try:
        with safetensors.safe_open(path, framework="flax") as file:
            header = file.metadata() or {}
            flat = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, safetensors.SafetensorError, KeyError) as error:
        raise ConfigError(f"{path} is damaged or no safetensors file ({error})") from None
    if header.get("format") != FORMAT:
        raise ConfigError(
            f"{path} is no weight file of this version; make one: "
            "python -m smc_jax.export WORKDIR --out=FILE.safetensors"
        )
    try:
        config, about = Config.from_json(header["config"]), json.loads(header["about"])
        if not isinstance(about, dict):
            raise ConfigError(f"about is {about!r:.40}; it must hold fields")
    except (ConfigError, KeyError, ValueError) as error:
        raise ConfigError(f"the header of {path}: {error}") from None
    return Weights(config, fitted(config, flat, path), about)


def write(path: str | Path, weights: Weights, dtype: str = "float32") -> None:
    """Writes a weight file, whole or not at all.

    Args:
      path: the file to write.
      weights: what to write; `about` must fit into JSON.
      dtype: one of `TYPES`.

    Raises:
      ConfigError: a parameter is not finite.
      InputError: the file cannot be written.
    """
    files.write(path, encoded(weights, dtype))


def encoded(weights: Weights, dtype: str = "float32") -> bytes:
    """Returns the bytes of a weight file, as `write` writes them.

    Raises:
      ConfigError: a parameter is not finite.
    """
    stored = flat_as(weights.params, dtype)
    header = {
        "format": FORMAT,
        "config": weights.config.to_json(),
        "about": json.dumps(weights.about),
    }
    return safetensors.flax.save(stored, header)


def is_folder(path: str | Path) -> bool:
    """Whether it is a folder that `smc_jax.export` made, of weights or of programs."""
    return (Path(path) / CONFIG).is_file()


def flat_as(params: PyTree, dtype: str) -> dict[str, jax.Array]:
    """Returns parameters by flat names in one of `TYPES`.

    Raises:
      ConfigError: one of them is not finite.
    """
    flat = flatten(params)
    for name, value in flat.items():
        if not np.isfinite(np.asarray(value)).all():
            raise ConfigError(f"the parameter {name} is not finite; take an earlier checkpoint")
    return {name: value.astype(TYPES[dtype]) for name, value in flat.items()}


def flatten(params: Mapping[str, Any]) -> dict[str, jax.Array]:
    """Returns parameters by flat names, e.g. `source_a/shallow/Conv_0/kernel`."""
    flat = traverse_util.flatten_dict(params, sep="/")
    return {str(name): jnp.asarray(value) for name, value in flat.items()}


def fitted(config: Config, flat: Mapping[str, jax.Array], path: str | Path) -> PyTree:
    """Returns the parameters as a tree in float32, if they fit the config's network.

    Raises:
      ConfigError: they do not fit.
    """
    network = model.build(config.model)
    image = jax.ShapeDtypeStruct((1, 16, 16, 1), jnp.float32)
    expected = jax.eval_shape(lambda a: network.init(jax.random.key(0), a, a), image)["params"]
    wanted: dict[str, Any] = traverse_util.flatten_dict(expected, sep="/")
    for name in sorted(wanted.keys() | flat.keys()):
        there, ours = (tree[name].shape if name in tree else None for tree in (flat, wanted))
        if there != ours:
            there, ours = there or "missing", ours or "unknown"
            raise ConfigError(
                f"{path} does not fit its config: {name} is {there} there, {ours} in the network"
            )
    params = {name: value.astype(jnp.float32) for name, value in flat.items()}
    return traverse_util.unflatten_dict(params, sep="/")


def _choices() -> str:
    return ", ".join(packaged()) or "none is packaged yet"
