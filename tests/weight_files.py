"""A small network for tests: a weight file with untrained parameters."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from smc_jax import config, model, weights
from smc_jax.config import override

SMALL = {
    "model.width": 8,
    "model.state": 4,
    "model.channel_state": 2,
    "model.output": "blend",
    "task": "meif",
}


def make(path, seed=0, dtype="float32", **values):
    """Writes a weight file and returns its config and parameters."""
    cfg, params = _network(seed, **values)
    about = {"data": "none", "steps": 0, "seed": seed}
    weights.write(path, weights.Weights(cfg, params, about), dtype)
    return cfg, jax.tree.map(lambda v: v, params)


@functools.cache
def _network(seed, **values):
    cfg = override(config.Config(), SMALL | {f"model.{k}": v for k, v in values.items()})
    network, image = model.build(cfg.model), jnp.zeros((1, 16, 16, 1))
    shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), image, image))["params"]
    draw = functools.partial(_draw, np.random.default_rng(seed))
    return cfg, jax.tree_util.tree_map_with_path(draw, shapes)


def _draw(rng, path, array):
    """Parameters much like those that a training begins with; but there the gate is 0, and all
    experts tie. Drawing them in JAX takes longer to compile than the network itself.
    """
    name = path[-1].key
    if name in ("scale", "D"):
        values = np.ones(array.shape)
    elif name == "A_log":
        values = np.broadcast_to(np.log(np.arange(1, array.shape[-1] + 1)), array.shape)
    elif name == "dt_bias":
        values = rng.uniform(-6.5, -2.5, array.shape)
    elif any(key.key == "gate" for key in path):
        values = rng.normal(size=array.shape)
    else:
        values = rng.uniform(-0.35, 0.35, array.shape)
    return jnp.asarray(values, jnp.float32)
