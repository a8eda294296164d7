"""The second half of a training step: from the gradient to the next state."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, PyTree

from smc_jax import config, optim
from smc_jax.train_state import TrainState
from smc_jax.types import Scalar

IMPORTANCE_MEMORY = 0.99
"""Share of itself that the running mean of the experts' importance keeps in each step."""

Metrics = dict[str, Scalar]


def updated(
    cfg: config.Config,
    transform: optax.GradientTransformation,
    importance: Array,
    loss: Scalar,
    state: TrainState,
    grads: PyTree,
    *,
    joined: bool,
) -> tuple[TrainState, Metrics]:
    """Returns the state after the step, and how large the step was.

    If the loss, the gradient or the new weights are not finite, the step is counted but skipped.

    Args:
      cfg: the configuration of the run.
      transform: the optimiser.
      importance: that of the experts in this batch.
      loss: that of this batch.
      state: the state before the step.
      grads: the gradient.
      joined: update all weights as one vector, with the same result. They must all learn, and no
        device may hold a part of them.
    """
    state, separate = _joined(state) if joined else (state, lambda new: new)
    grads = ravel_pytree(grads)[0] if joined else grads
    updates, opt_state = transform.update(grads, state.opt_state, state.params)
    if cfg.train.only:
        # Adam's moments would still move parts that learned in an earlier run.
        updates = map_frozen(cfg, updates, lambda part: jax.tree.map(jnp.zeros_like, part))
    params = optax.apply_updates(state.params, updates)
    metrics = {
        "grad_norm": optax.tree.norm(grads),
        "param_norm": optax.tree.norm(params),
        "update_ratio": optax.tree.norm(updates) / optax.tree.norm(state.params),
    }
    new = TrainState(
        step=state.step + 1,
        params=params,
        opt_state=opt_state,
        importance=moved(state.importance, importance),
        ema=_averaged(cfg.train.ema, state, params),
        skipped=state.skipped,
        bad=jnp.zeros_like(state.bad),
    )
    # The norms overflow before the weights themselves do.
    watched = jnp.stack([loss, metrics["grad_norm"], metrics["param_norm"]])
    new = _accepted(state, new, jnp.isfinite(watched).all())
    return separate(new), metrics | {"skipped": new.skipped, "bad": new.bad}


def _joined(state: TrainState) -> tuple[TrainState, Callable[[TrainState], TrainState]]:
    """Returns the state with one vector in place of each tree of arrays: the weights, their moving
    average and Adam's moments. Of a hundred small arrays each, a thousand loops would have to be
    compiled. The second result is the inverse.
    """
    weights = jax.tree.structure(state.params)

    def is_tree(v: Any) -> bool:
        return jax.tree.structure(v) == weights

    found, form = jax.tree.flatten(state, is_leaf=is_tree)
    pairs = [ravel_pytree(v) if is_tree(v) else (v, lambda v: v) for v in found]
    vectors, inverses = zip(*pairs, strict=True)

    def separate(joined: TrainState) -> TrainState:
        each = zip(inverses, form.flatten_up_to(joined), strict=True)
        return form.unflatten(inverse(v) for inverse, v in each)

    return form.unflatten(vectors), separate


def _accepted(old: TrainState, new: TrainState, good: Bool[Array, ""]) -> TrainState:
    """The new state if the step was good; else the old one, with the step counted as skipped."""
    skip = dataclasses.replace(
        old,
        step=new.step,
        opt_state=optim.advanced(old.opt_state, new.step),
        skipped=old.skipped + 1,
        bad=old.bad + 1,
    )
    return jax.tree.map(lambda new, skip: jnp.where(good, new, skip), new, skip)


def map_frozen(cfg: config.Config, tree: PyTree, change: Callable[[PyTree], PyTree]) -> PyTree:
    """Applies `change` to the parts of the network that `train.only` keeps from learning."""
    parts = cfg.train.parts() or tree
    return {name: part if name in parts else change(part) for name, part in tree.items()}


def _averaged(decay: float, state: TrainState, params: PyTree) -> PyTree:
    """The moving average of the weights; faster at first, while they move far."""
    if state.ema is None:
        return None
    memory = jnp.minimum(decay, (1 + state.step) / (10 + state.step))
    return jax.tree.map(lambda old, new: moved(old, new, memory), state.ema, params)


def moved(average: Array, new: Array, memory: Scalar | float = IMPORTANCE_MEMORY) -> Array:
    """A moving average that keeps the share `memory` of itself."""
    return memory * average + (1 - memory) * new
