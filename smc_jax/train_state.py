"""The state that training carries from step to step, and how it begins."""

import dataclasses
import functools

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Key, PyTree

from smc_jax import config, optim, sharding
from smc_jax.model import SMCMamba


@flax.struct.dataclass
class TrainState:
    """The contents of a checkpoint; randomness and schedules follow from `step` alone.

    Tree transformations replace these arrays by shapes, shardings or None: hence no array types.
    """

    step: PyTree
    """int32, "": the number of steps done."""
    params: PyTree
    opt_state: optax.OptState
    importance: PyTree
    """float32, "e": running mean of the experts' importance, for `loss.balance="running"`."""
    ema: PyTree
    """Moving average of `params`; None for `train.ema=0`."""
    skipped: PyTree
    """int32, "": steps whose update was skipped because something was not finite."""
    bad: PyTree
    """int32, "": the number of them in a row, up to this step."""


def abstract(cfg: config.Config, model: SMCMamba, mesh: Mesh) -> TrainState:
    """Shapes, types and shardings of the state, without its values."""
    shapes = jax.eval_shape(lambda: _initial(cfg, model, jax.random.key(0)))
    return jax.tree.map(
        lambda v, place: jax.ShapeDtypeStruct(v.shape, v.dtype, sharding=place),
        shapes,
        sharding.weights(mesh, shapes),
    )


def create(cfg: config.Config, model: SMCMamba, mesh: Mesh) -> TrainState:
    """The state before the first step; `train.seed` decides the parameters."""
    # It runs once: optimising a hundred random draws takes longer to compile than it saves. The key
    # is an argument, so that the compiled program serves all seeds.
    quick = {"xla_backend_optimization_level": 0}
    places = jax.tree.map(lambda v: v.sharding, abstract(cfg, model, mesh))
    initial = functools.partial(_initial, cfg, model)
    create = jax.jit(initial, out_shardings=places, compiler_options=quick)
    return create(jax.random.key(cfg.train.seed))


def begin_with(state: TrainState, params: PyTree) -> TrainState:
    """The state with other parameters, for fine-tuning."""
    params = jax.tree.map(lambda new, old: jax.device_put(new, old.sharding), params, state.params)
    return dataclasses.replace(
        state, params=params, ema=None if state.ema is None else copied(params)
    )


def fill(state: TrainState, empty: TrainState) -> TrainState:
    """Fills in fields that a checkpoint did not have: the moving average of the weights begins with
    the weights, other fields with zeros.

    Args:
      state: the state, with None for those fields.
      empty: the abstract state, which has all fields.
    """
    lost = {k: v for k, v in vars(empty).items() if v is not None and getattr(state, k) is None}
    zeros = jax.tree.map(lambda v: jnp.zeros(v.shape, v.dtype, device=v.sharding), lost)
    if "ema" in lost:
        zeros["ema"] = copied(state.params)
    return dataclasses.replace(state, **zeros)


def evaluated(state: TrainState) -> PyTree:
    """The parameters for evaluation: their moving average, if there is one."""
    return state.params if state.ema is None else state.ema


def copied(tree: PyTree) -> PyTree:
    """Copies the arrays: the step overwrites the state that it is given."""
    return jax.tree.map(lambda v: v.copy(), tree)


def _initial(cfg: config.Config, model: SMCMamba, key: Key[Array, ""]) -> TrainState:
    image = jnp.zeros((1, 16, 16, 1))
    params = model.init(key, image, image, train=True)["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=optim.optimizer(cfg.optim, cfg.train.steps).init(params),
        importance=jnp.full((model.experts,), 1 / model.experts, jnp.float32),
        ema=jax.tree.map(jnp.copy, params) if cfg.train.ema else None,
        skipped=jnp.zeros((), jnp.int32),
        bad=jnp.zeros((), jnp.int32),
    )
