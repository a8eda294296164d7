"""Loss on the brightness that the fused image should take from its sources."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from smc_jax.config import TASKS
from smc_jax.types import Image, Scalar

DETAIL, SURROUND = 1.5, 5.0
"""Standard deviations in pixels: of what counts as fine detail, and of the window that sums it."""


def intensity_loss(
    fused: Image, a: Image, b: Image, rule: str = "max", task: Int[Array, "b"] | None = None
) -> Scalar:
    """L_int: mean absolute distance from the sources as combined by one of `RULES` (ours).

    Args:
      fused: I_mf.
      a: the first sources.
      b: the second sources.
      rule: one of `RULES`, or one of `RULES_OF_TASKS`, which uses the rule of each pair's task.
      task: each pair's task, as an index into `config.TASKS`.
    """
    if rule in RULES:
        return jnp.abs(fused - RULES[rule](a, b)).mean()
    assert task is not None
    targets = {name: target(a, b) for name, target in RULES.items()}
    by_task = jnp.stack([targets[RULES_OF_TASKS[rule][name]] for name in TASKS])
    return jnp.abs(fused - by_task[task, jnp.arange(len(task))]).mean()


def sharper(a: Image, b: Image) -> Image:
    """Takes each pixel from the source with more fine detail around it."""
    return jnp.where(_detail(a) > _detail(b), a, b)


RULES = {"max": jnp.maximum, "mean": lambda a, b: (a + b) / 2, "sharper": sharper}
RULES_OF_TASKS = {
    "task": {"ivif": "max", "mdif": "max", "mfif": "sharper", "meif": "mean"},
    "task_mean": {"ivif": "max", "mdif": "max", "mfif": "mean", "meif": "mean"},
}
"""For mixed batches: the rule of each task, by the name of the choice."""


def _detail(x: Image) -> Image:
    return _smooth((x - _smooth(x, DETAIL)) ** 2, SURROUND)


def _smooth(x: Image, sigma: float) -> Image:
    """Gaussian means over the part of the window that lies inside the image."""
    rows, columns = (_weights(n, sigma) for n in x.shape[1:3])
    return jnp.einsum("ih, bhwc, jw -> bijc", rows, x, columns, precision="highest")


def _weights(length: int, sigma: float) -> Float[np.ndarray, "length length"]:
    places = np.arange(length)
    weights = np.exp(-0.5 * (np.subtract.outer(places, places) / sigma) ** 2)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)
