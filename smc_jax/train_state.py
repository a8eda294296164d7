"""All that training carries from step to step, and how it begins."""

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import PyTree

from smc_jax import config, optim, sharding
from smc_jax.model import SMCMamba


@flax.struct.dataclass
class TrainState:
    """What a checkpoint holds; randomness and schedules follow from `step` alone.

    Tree transformations put shapes, shardings or nothing where these arrays are, so that the fields
    have no array types.
    """

    step: PyTree
    """int32, "": steps that were done."""
    params: PyTree
    opt_state: optax.OptState
    importance: PyTree
    """float32, "e": running mean of the experts' importance, for `loss.balance="running"`."""


def abstract(cfg: config.Config, model: SMCMamba, mesh: Mesh) -> TrainState:
    """Shapes, types and shardings of the state, without its values."""
    shapes = jax.eval_shape(lambda: _initial(cfg, model))
    here = sharding.replicated(mesh)
    return jax.tree.map(lambda v: jax.ShapeDtypeStruct(v.shape, v.dtype, sharding=here), shapes)


def create(cfg: config.Config, model: SMCMamba, mesh: Mesh) -> TrainState:
    """The state before the first step; `train.seed` decides the parameters."""
    # It runs once: compiling a hundred random draws well takes longer than any of them saves.
    quick = {"xla_backend_optimization_level": 0}
    here = sharding.replicated(mesh)
    return jax.jit(lambda: _initial(cfg, model), out_shardings=here, compiler_options=quick)()


def _initial(cfg: config.Config, model: SMCMamba) -> TrainState:
    image = jnp.zeros((1, 16, 16, 1))
    params = model.init(jax.random.key(cfg.train.seed), image, image, train=True)["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=optim.optimizer(cfg.optim, cfg.train.steps).init(params),
        importance=jnp.full((model.experts,), 1 / model.experts, jnp.float32),
    )
