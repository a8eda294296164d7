"""A small network for tests: a weight file with untrained parameters."""

import functools

import jax
import jax.numpy as jnp

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
    # With the seed as an argument it is compiled once for all of them.
    params = jax.jit(lambda key: network.init(key, image, image))(jax.random.key(seed))["params"]
    if cfg.model.mccm:
        # The gate starts at zero, where all experts tie.
        gate = params["mccm"]["Gate_0"]["gate"]
        gate["kernel"] = jax.random.normal(jax.random.key(seed + 1), gate["kernel"].shape)
    return cfg, params
