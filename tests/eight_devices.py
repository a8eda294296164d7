"""Prints as JSON what a training step on eight devices exchanges, for tests/test_devices.py."""

import json

import jax
import jax.numpy as jnp
import tiny

from benchmarks import training
from configs import base
from smc_jax import model, sharding, train_state, train_step
from smc_jax.config import override
from smc_jax.types import Batch


def main():
    """Prints the exchanges of a compiled step, and the size of its gradients in bytes."""
    values = tiny.TINY | tiny.QUICK | {"model.mafe": True, "data.batch": 8}
    cfg = override(base.get_config("practical"), values)
    network, mesh = model.build(cfg.model), sharding.make_mesh()
    state = train_state.abstract(cfg, network, mesh)
    image = jax.ShapeDtypeStruct((8, 16, 16, 1), jnp.float32)
    batch = Batch(image, image, jax.ShapeDtypeStruct((8,), jnp.int32))
    step = train_step.jit_step(cfg, network, mesh).lower(state, batch).compile()
    size = sum(v.size for v in jax.tree.leaves(state.params))
    print(json.dumps([training.exchanges(step.as_text()), 4 * size]))


if __name__ == "__main__":
    main()
