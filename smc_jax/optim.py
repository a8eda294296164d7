"""The optimiser: Adam and the learning rate over the steps."""

import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

from smc_jax import config


def learning_rate(optim: config.Optim, steps: int) -> optax.Schedule:
    """The learning rate as a function of the step, never below `optim.floor`.

    * `halving_cosine`: within each period of P steps, a cosine from the rate to its half,
      lr(i) = lr 2^-floor(i/P) (3/4 + 1/4 cos(pi (i mod P)/P)); our reading of "halved every 1000
      iterations via cosine annealing".
    * `sgdr`: within each period a cosine falls to 0, and the peaks halve.
    * `step`: halves after each period.
    * `cosine`: one cosine over all `steps`.
    * `constant`.
    """
    period = optim.period

    def halving_cosine(step):
        return _peak(step) * (0.75 + 0.25 * jnp.cos(jnp.pi * (step % period) / period))

    def sgdr(step):
        return _peak(step) * (0.5 + 0.5 * jnp.cos(jnp.pi * (step % period) / period))

    def _peak(step):
        return optim.lr * 0.5 ** (step // period)

    schedules = {
        "halving_cosine": halving_cosine,
        "sgdr": sgdr,
        "step": _peak,
        "cosine": optax.cosine_decay_schedule(optim.lr, steps),
        "constant": optax.constant_schedule(optim.lr),
    }
    schedule = schedules[optim.schedule]
    return lambda step: jnp.maximum(schedule(step), min(optim.floor, optim.lr))


def advanced(opt_state: PyTree, step: Int[Array, ""]) -> PyTree:
    """The state of an `optimizer` after steps whose update was skipped: the schedule advances to
    `step`, Adam's moments stay.
    """

    def scheduled(path, _) -> bool:
        return path[-1].tuple_name == optax.ScaleByScheduleState.__name__

    return optax.tree.set(opt_state, scheduled, count=step)


def optimizer(optim: config.Optim, steps: int) -> optax.GradientTransformation:
    """Adam with `learning_rate`, after clipping of the global gradient norm if that is set.

    The state has the same structure with and without clipping.
    """
    limit = optax.clip_by_global_norm(optim.clip) if optim.clip else optax.identity()
    return optax.chain(limit, optax.adam(learning_rate(optim, steps), b1=optim.b1, b2=optim.b2))
