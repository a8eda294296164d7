"""One step of training: a pure function, jitted in one place."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from smc_jax import config, losses, optim, sharding
from smc_jax.model import SMCMamba
from smc_jax.train_state import TrainState
from smc_jax.types import Batch, Image, Scalar

IMPORTANCE_MEMORY = 0.99
"""Share that the running mean of the experts' importance keeps of itself in a step."""

Metrics = dict[str, Scalar]
Step = Callable[[TrainState, Batch], tuple[TrainState, Metrics, Image]]


def jit_step(cfg: config.Config, model: SMCMamba, mesh: Mesh) -> Step:
    """The compiled step: a batch split over the devices, a state on each of them, reused in place.

    Returns:
      A function of state and batch; it gives the next state, metrics by name and fused images.
    """
    transform = optim.optimizer(cfg.optim, cfg.train.steps)
    rate = optim.learning_rate(cfg.optim, cfg.train.steps)
    here, split = sharding.replicated(mesh), sharding.split(mesh)

    def step(state, batch):
        return _step(cfg, model, transform, rate, state, batch)

    return jax.jit(
        step, in_shardings=(here, split), out_shardings=(here, here, split), donate_argnums=0
    )


def _step(cfg, model, transform, rate, state: TrainState, batch: Batch):
    noise = jax.random.fold_in(jax.random.key(cfg.train.seed), state.step)
    progress = state.step / cfg.train.steps

    def objective(params):
        fused, aux = model.apply(
            {"params": params}, batch.a, batch.b, train=True, rngs={"gate": noise}
        )
        importance = _remember(state.importance, aux)
        loss, terms = losses.total(cfg.loss, fused, aux, batch, progress, importance)
        return loss, (terms, fused, aux, importance)

    grad = jax.value_and_grad(objective, has_aux=True)
    (loss, (terms, fused, aux, importance)), gradient = grad(state.params)
    updates, opt_state = transform.update(gradient, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    metrics = {
        "loss": loss,
        **terms,
        "lambda": losses.experts.progress_weight(progress),
        "lr": rate(state.step),
        "grad_norm": optax.tree.norm(gradient),
        "param_norm": optax.tree.norm(params),
        "amplitude": aux.amplitude,
        **_constancy(aux),
    }
    if aux.weights is not None:
        chosen = (aux.weights > 0).mean(0)
        metrics |= {f"chosen_{i}": chosen[i] for i in range(len(chosen))}
        metrics |= {f"importance_{i}": importance[i] for i in range(len(importance))}
    state = TrainState(
        step=state.step + 1,
        params=params,
        opt_state=opt_state,
        importance=jax.lax.stop_gradient(importance),
    )
    return state, metrics, fused


def _remember(running, aux):
    if aux.importance is None:
        return running
    now = jax.lax.stop_gradient(aux.importance.mean(0))
    return IMPORTANCE_MEMORY * running + (1 - IMPORTANCE_MEMORY) * now


def _constancy(aux) -> Metrics:
    """Share of the fused features' energy that is one constant a channel: near 1, they say little
    of the image.
    """
    features = aux.features_fused
    constant = (features.mean((1, 2)) ** 2).sum()
    return {"constant_share": constant / (jnp.mean(features**2, (1, 2)).sum() + 1e-12)}
