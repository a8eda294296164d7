"""One step of training: a pure function, jitted in one place."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from einops import rearrange
from jax.sharding import Mesh
from jaxtyping import Array, Float, PyTree

from smc_jax import config, losses, optim, sharding, train_state
from smc_jax.model import SMCMamba
from smc_jax.ssm import SSM
from smc_jax.train_state import TrainState
from smc_jax.types import Aux, Batch, Image, Noise, Scalar

IMPORTANCE_MEMORY = 0.99
"""Share that the running mean of the experts' importance keeps of itself in a step."""

Metrics = dict[str, Scalar]


class Made(NamedTuple):
    """What the network made of a batch, to look at."""

    fused: Image
    weights: Float[Array, "b e"] | None
    """Of the experts, if there are any."""


Network = Callable[[PyTree, Image, Image, Noise], tuple[Image, Aux]]
Step = Callable[[TrainState, Batch], tuple[TrainState, Metrics, Made]]


def jit_step(cfg: config.Config, model: SMCMamba, mesh: Mesh) -> Step:
    """The compiled step: a batch split over the devices, a state on each of them, reused in place.

    Returns:
      A function of state and batch; it gives the next state, metrics by name, and what it made.
    """
    transform = optim.optimizer(cfg.optim, cfg.train.steps)
    rate = optim.learning_rate(cfg.optim, cfg.train.steps)
    here, split = sharding.replicated(mesh), sharding.split(mesh)
    network = _network(cfg, model, mesh)
    state = train_state.abstract(cfg, model, mesh)
    places = jax.tree.map(lambda v: v.sharding, state)

    def step(state, batch):
        return _step(cfg, network, transform, rate, state, batch)

    return jax.jit(
        step,
        in_shardings=(places, split),
        out_shardings=(places, here, split),
        # An operation that made a NaN is run again, from arrays that must still be there.
        donate_argnums=() if cfg.train.debug_nans else 0,
    )


def _step(cfg, network, transform, rate, state: TrainState, batch: Batch):
    key = jax.random.fold_in(jax.random.key(cfg.train.seed), state.step)
    progress = state.step / cfg.train.steps

    def objective(params, batch, key):
        params = _others(cfg, params, jax.lax.stop_gradient)
        noise = jax.random.normal(key, (len(batch.a), cfg.model.experts))
        fused, aux = network(params, batch.a, batch.b, noise)
        now = state.importance if aux.importance is None else aux.importance.mean(0)
        importance = _mean(state.importance, jax.lax.stop_gradient(now), IMPORTANCE_MEMORY)
        loss, terms = losses.total(cfg.loss, fused, aux, batch, progress, importance)
        metrics = {"loss": loss, **terms, **_health(aux)}
        return loss, (metrics, now, Made(fused, aux.weights))

    gradient = jax.grad(objective, has_aux=True)
    if cfg.train.accumulate == 1:
        grads, (metrics, now, made) = gradient(state.params, batch, key)
    else:
        grads, (metrics, now, made) = _accumulated(
            gradient, state.params, batch, key, cfg.train.accumulate
        )
    updates, opt_state = transform.update(grads, state.opt_state, state.params)
    # Of parts that learned before, Adam remembers gradients.
    updates = _others(cfg, updates, lambda part: jax.tree.map(jnp.zeros_like, part))
    params = optax.apply_updates(state.params, updates)
    norms = {
        "grad_norm": optax.tree.norm(grads),
        "param_norm": optax.tree.norm(params),
        "update_ratio": optax.tree.norm(updates) / optax.tree.norm(state.params),
    }
    new = TrainState(
        step=state.step + 1,
        params=params,
        opt_state=opt_state,
        importance=_mean(state.importance, jax.lax.stop_gradient(now), IMPORTANCE_MEMORY),
        ema=_follow(cfg.train.ema, state, params),
        skipped=state.skipped,
        bad=jnp.zeros_like(state.bad),
    )
    # Of weights that blow up, the norm overflows before they do.
    good = jnp.isfinite(jnp.stack([metrics["loss"], norms["grad_norm"], norms["param_norm"]])).all()
    skip = dataclasses.replace(
        state,
        step=new.step,
        opt_state=optim.advanced(state.opt_state, new.step),
        skipped=state.skipped + 1,
        bad=state.bad + 1,
    )
    new = jax.tree.map(lambda new, old: jnp.where(good, new, old), new, skip)
    metrics |= {
        "lambda": losses.experts.progress_weight(progress),
        "lr": rate(state.step),
        **norms,
        "skipped": new.skipped,
        "bad": new.bad,
    }
    if made.weights is not None:
        metrics |= {f"importance_{i}": new.importance[i] for i in range(len(new.importance))}
    return new, metrics, made


def _others(cfg: config.Config, tree: PyTree, change: Callable[[PyTree], PyTree]) -> PyTree:
    """The tree, of which `change` was made to the parts that `train.only` leaves out."""
    parts = cfg.train.parts() or tree
    return {name: part if name in parts else change(part) for name, part in tree.items()}


def _network(cfg: config.Config, model: SMCMamba, mesh: Mesh) -> Network:
    """The network in `train.dtype`, but for its scans; what it returns is float32 again.

    Each of several devices has its own pairs, which know nothing of each other. Left to itself the
    compiler gathers them for what it cannot divide: Fourier transforms, and our kernels.
    """
    narrow = cfg.train.dtype != "float32"
    if narrow:
        model = model.clone(dtype=cfg.train.dtype)

    def run(params, a, b, noise):
        if narrow:
            params = jax.tree_util.tree_map_with_path(
                lambda path, v: v if path[-1].key in SSM._fields else v.astype(cfg.train.dtype),
                params,
            )
        made: Any = model.apply({"params": params}, a, b, noise=noise, train=True)
        return jax.tree.map(lambda v: v.astype(jnp.float32), made)

    # What made a NaN is run again operation by operation, which jax.shard_map does not survive.
    if mesh.size == 1 or cfg.train.debug_nans:
        return run

    def each(params, a, b, noise):
        fused, aux = run(params, a, b, noise)
        amplitude = jax.lax.stop_gradient(aux.amplitude)
        return fused, aux._replace(amplitude=jax.lax.pmax(amplitude, sharding.AXES))

    pairs, whole = jax.P(sharding.AXES), jax.P()
    others = {"experts": jax.P(None, sharding.AXES), "amplitude": whole}
    results = pairs, Aux._make(others.get(name, pairs) for name in Aux._fields)
    inputs = whole, pairs, pairs, pairs
    # jax 0.12.0 has no types of what varies over a mesh for all that it runs, erfc among it.
    return jax.shard_map(each, mesh=mesh, in_specs=inputs, out_specs=results, check_vma=False)


def _accumulated(gradient, params: PyTree, batch: Batch, key: Array, parts: int):
    """The gradient, metrics and results of a batch that is computed in parts, one by one."""
    # Each device keeps what it has: of its pairs, every part takes some.
    batch = jax.tree.map(lambda v: rearrange(v, "(b k) ... -> k b ...", k=parts), batch)

    def part(total, inputs):
        grads, rest = gradient(params, *inputs)
        return jax.tree.map(jnp.add, total, grads), rest

    zeros = jax.tree.map(jnp.zeros_like, params)
    total, (metrics, now, made) = jax.lax.scan(part, zeros, (batch, jax.random.split(key, parts)))
    made = jax.tree.map(lambda v: rearrange(v, "k b ... -> (b k) ..."), made)
    grads = jax.tree.map(lambda v: v / parts, total)
    return grads, (jax.tree.map(lambda v: v.mean(0), metrics), now.mean(0), made)


def _follow(decay: float, state: TrainState, params: PyTree) -> PyTree:
    """The running mean of the weights; it is quicker at first, while they move far."""
    if state.ema is None:
        return None
    memory = jnp.minimum(decay, (1 + state.step) / (10 + state.step))
    return jax.tree.map(lambda old, new: _mean(old, new, memory), state.ema, params)


def _mean(old, new, memory):
    return memory * old + (1 - memory) * new


def _health(aux: Any) -> Metrics:
    """What shows illness early.

    `amplitude` is the largest that leaves FR-Scan. `constant_share` is the share of the fused
    features' energy that is one constant a channel: near 1, they say little of the image.
    `gate_entropy` is that of the experts' importance in nats: near 0, one of them does everything.
    `chosen_i` is the share of the images that expert i was chosen for.
    """
    features = aux.features_fused
    constant = (features.mean((1, 2)) ** 2).sum()
    energy = jnp.mean(features**2, (1, 2)).sum()
    metrics = {"amplitude": aux.amplitude, "constant_share": constant / (energy + 1e-12)}
    if aux.weights is not None:
        entropy = jax.scipy.special.entr(aux.importance).sum(-1).mean()
        chosen = (aux.weights > 0).mean(0)
        metrics["gate_entropy"] = entropy
        metrics |= {f"chosen_{i}": chosen[i] for i in range(len(chosen))}
    return metrics
