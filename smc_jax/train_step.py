"""One step of training: a pure function, jitted in one place."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from einops import rearrange
from jax.sharding import Mesh
from jaxtyping import Array, Float, PyTree

from smc_jax import config, losses, optim, sharding, train_state, update
from smc_jax.model import SMCMamba
from smc_jax.ssm import SSMParams
from smc_jax.train_state import TrainState
from smc_jax.types import Aux, Batch, Image, Noise
from smc_jax.update import Metrics


class Made(NamedTuple):
    """The results for a batch that are drawn."""

    fused: Image
    weights: Float[Array, "b e"] | None
    """W_exp, if there are experts."""


Network = Callable[[PyTree, Image, Image, Noise], tuple[Image, Aux]]
Gradient = Callable[[PyTree, Batch, Array], tuple[PyTree, tuple[Metrics, Array, Made]]]
"""Of parameters, a batch and a key: the gradient, metrics, the experts' importance and results."""
Step = Callable[[TrainState, Batch], tuple[TrainState, Metrics, Made]]


def jit_step(cfg: config.Config, model: SMCMamba, mesh: Mesh) -> Step:
    """Compiles the step. Batches are split over the devices; the state's memory is reused.

    Returns:
      A function of state and batch that returns the next state, metrics by name, and results.
    """
    transform = optim.optimizer(cfg.optim, cfg.train.steps)
    rate = optim.learning_rate(cfg.optim, cfg.train.steps)
    here, split = sharding.replicated(mesh), sharding.split(mesh)
    network = _network(cfg, model, mesh)
    state = train_state.abstract(cfg, model, mesh)
    places = jax.tree.map(lambda v: v.sharding, state)
    # Devices along `fsdp` hold parts of each array, and of frozen arrays nothing is computed.
    joined = mesh.shape["fsdp"] == 1 and not cfg.train.only

    def step(state, batch):
        return _step(cfg, network, transform, rate, joined, state, batch)

    return jax.jit(
        step,
        in_shardings=(places, split),
        out_shardings=(places, here, split),
        # jax.debug_nans runs the operation that made a NaN again, and needs its inputs.
        donate_argnums=() if cfg.train.debug_nans else 0,
    )


def _step(
    cfg: config.Config,
    network: Network,
    transform: optax.GradientTransformation,
    rate: optax.Schedule,
    joined: bool,
    state: TrainState,
    batch: Batch,
) -> tuple[TrainState, dict[str, Any], Made]:
    key = jax.random.fold_in(jax.random.key(cfg.train.seed), state.step)
    progress = state.step / cfg.train.steps

    def objective(params, batch, key):
        params = update.map_frozen(cfg, params, jax.lax.stop_gradient)
        noise = jax.random.normal(key, (len(batch.a), cfg.model.experts))
        fused, aux = network(params, batch.a, batch.b, noise)
        importance = state.importance if aux.importance is None else aux.importance.mean(0)
        importance = jax.lax.stop_gradient(importance)
        running = update.moved(state.importance, importance)
        loss, terms = losses.total(cfg.loss, fused, aux, batch, progress, running)
        metrics = {"loss": loss, **terms, **_health(aux)}
        return loss, (metrics, importance, Made(fused, aux.weights))

    gradient = jax.grad(objective, has_aux=True)
    if cfg.train.accumulate > 1:
        gradient = _accumulated(gradient, cfg.train.accumulate)
    grads, (metrics, importance, made) = gradient(state.params, batch, key)
    new, changes = update.updated(
        cfg, transform, importance, metrics["loss"], state, grads, joined=joined
    )
    metrics |= changes | {"lambda": losses.experts.lambda_t(progress), "lr": rate(state.step)}
    if made.weights is not None:
        metrics |= {f"importance_{i}": new.importance[i] for i in range(len(new.importance))}
    return new, metrics, made


def _network(cfg: config.Config, model: SMCMamba, mesh: Mesh) -> Network:
    """The network in `train.dtype`, except its scans; results are float32.

    On several devices each runs it on its own pairs, which do not depend on each other. Left to
    itself the compiler would gather them for operations that it cannot divide: Fourier transforms,
    and our kernels.
    """
    narrow = cfg.train.dtype != "float32"
    if narrow:
        model = model.clone(dtype=cfg.train.dtype)

    def cast(path, v):
        return v if path[-1].key in SSMParams._fields else v.astype(cfg.train.dtype)

    def run(params, a, b, noise):
        if narrow:
            params = jax.tree_util.tree_map_with_path(cast, params)
        made: Any = model.apply({"params": params}, a, b, noise=noise, train=True)
        return jax.tree.map(lambda v: v.astype(jnp.float32), made)

    # jax.debug_nans runs a program again operation by operation, in which jax.shard_map fails.
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
    # check_vma: jax 0.12.0 cannot type some operations that vary over the mesh, such as erfc.
    return jax.shard_map(each, mesh=mesh, in_specs=inputs, out_specs=results, check_vma=False)


def _accumulated(gradient: Gradient, parts: int) -> Gradient:
    """`gradient` of a batch that is computed in parts, one after the other."""

    def accumulated(params: PyTree, batch: Batch, key: Array):
        def add(total, inputs):
            grads, rest = gradient(params, *inputs)
            return jax.tree.map(jnp.add, total, grads), rest

        # Every part takes some of the pairs of each device, so that no pair changes its device.
        batch = jax.tree.map(lambda v: rearrange(v, "(b k) ... -> k b ...", k=parts), batch)
        zeros = jax.tree.map(jnp.zeros_like, params)
        inputs = batch, jax.random.split(key, parts)
        total, (metrics, importance, made) = jax.lax.scan(add, zeros, inputs)
        made = jax.tree.map(lambda v: rearrange(v, "k b ... -> (b k) ..."), made)
        grads = jax.tree.map(lambda v: v / parts, total)
        return grads, (jax.tree.map(lambda v: v.mean(0), metrics), importance.mean(0), made)

    return accumulated


def _health(aux: Any) -> Metrics:
    """Early signs of trouble.

    `amplitude` is the largest after FR-Scan. `constant_share` is the share of the fused features'
    energy in the mean of each channel: near 1, the features hardly depend on the image.
    `gate_entropy` is that of the experts' importance in nats: near 0, one expert does everything.
    `chosen_i` is the share of images for which expert i was chosen.
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
