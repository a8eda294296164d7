"""Weights as a folder: the parameters as written by orbax, the configuration and facts about the
weights as JSON, a model card, and a program that loads them.
"""

import json
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp
from flax import traverse_util

from smc_jax import files
from smc_jax.checkpoint.folder import brief, quiet, read_through
from smc_jax.config import Config
from smc_jax.errors import ConfigError, InputError
from smc_jax.weights import CONFIG, Weights, fitted, flat_as, flatten

PARAMS, ABOUT, EXAMPLE = "params", "about.json", "load.py"
LOADING = '''\
"""Loads the weights of this folder and fuses a pair: python load.py"""
import pathlib, jax, jax.numpy as jnp, orbax.checkpoint as ocp
from smc_jax import config, model

folder = pathlib.Path(__file__).absolute().parent
cfg = config.Config.from_json((folder / "config.json").read_text())
params = ocp.StandardCheckpointer().restore(folder / "params")
params = jax.tree.map(lambda v: jnp.asarray(v, jnp.float32), params)
a, b = jax.random.uniform(jax.random.key(0), (2, 1, 64, 64, 1))
fused, aux = jax.jit(model.build(cfg.model).apply)({"params": params}, a, b)
print(fused.shape, float(fused.mean()))
'''


def write(path: str | Path, weights: Weights, card: str, dtype: str = "float32") -> None:
    """Writes a folder of weights, whole or not at all.

    Args:
      path: a name that is free.
      weights: what to write; `about` must fit into JSON.
      card: the model card, in Markdown.
      dtype: one of `weights.TYPES`.

    Raises:
      ConfigError: a parameter is not finite.
      InputError: the name is taken, or the folder cannot be written.
    """
    # Arrays of the host can be read on any devices.
    flat = {name: np.asarray(v) for name, v in flat_as(weights.params, dtype).items()}
    with files.making(path) as folder:
        try:
            with ocp.StandardCheckpointer() as checkpointer:
                checkpointer.save(folder / PARAMS, traverse_util.unflatten_dict(flat, sep="/"))
        except Exception as error:
            # A full disk raises errors of many types.
            raise InputError(f"{path} cannot be written: {brief(error)}") from None
        (folder / CONFIG).write_text(weights.config.to_json() + "\n")
        (folder / ABOUT).write_text(json.dumps(weights.about, indent=2) + "\n")
        (folder / "README.md").write_text(card)
        (folder / EXAMPLE).write_text(LOADING)


def read(path: str | Path) -> Weights:
    """Reads a folder of weights; its parameters are returned in float32.

    Raises:
      ConfigError: one of its files is missing or damaged, they do not fit each other, or it is a
        folder of programs.
    """
    path = Path(path).absolute()
    if any(path.glob("*.stablehlo")):
        raise ConfigError(
            f"{path} holds programs, whose weights cannot be taken out; run them by its run.py, or "
            "give what they were exported from"
        )
    try:
        config = Config.from_json((path / CONFIG).read_text())
        about = json.loads((path / ABOUT).read_text())
        with quiet():
            read_through(path / PARAMS)
            params = ocp.StandardCheckpointer().restore(path / PARAMS)
    except ConfigError as error:
        raise ConfigError(f"{path / CONFIG}: {error}") from None
    except Exception as error:
        # Missing or mismatched items raise errors of many types.
        raise ConfigError(f"{path} is damaged or no folder of weights ({brief(error)})") from None
    return Weights(config, fitted(config, flatten(params), path), about)
