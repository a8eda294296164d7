"""Brightness that the fused image should take over from its sources."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from smc_jax.config import TASKS
from smc_jax.types import Image, Scalar

DETAIL, SURROUND = 1.5, 5.0
"""Standard deviations in pixels: of what counts as fine, and of where it is summed up."""


def intensity_loss(
    fused: Image, a: Image, b: Image, rule: str = "max", task: Int[Array, "b"] | None = None
) -> Scalar:
    """L_int: mean absolute distance to what one of `RULES`, which are ours, makes of the sources.

    Args:
      fused: I_mf.
      a: the first sources.
      b: the second sources.
      rule: one of `RULES`, or `task`: for each pair that of its task (`RULE_OF_TASK`).
      task: places in `config.TASKS`.
    """
    if rule != "task":
        return jnp.abs(fused - RULES[rule](a, b)).mean()
    assert task is not None
    targets = {name: RULES[name](a, b) for name in RULES}
    by_task = jnp.stack([targets[RULE_OF_TASK[name]] for name in TASKS])
    return jnp.abs(fused - by_task[task, jnp.arange(len(task))]).mean()


def sharper(a: Image, b: Image) -> Image:
    """At each pixel the source that has more fine detail around it."""
    return jnp.where(_detail(a) > _detail(b), a, b)


RULES = {"max": jnp.maximum, "mean": lambda a, b: (a + b) / 2, "sharper": sharper}
RULE_OF_TASK = {"ivif": "max", "mdif": "max", "mfif": "sharper", "meif": "mean"}


def _detail(x: Image) -> Image:
    return _smooth((x - _smooth(x, DETAIL)) ** 2, SURROUND)


def _smooth(x: Image, sigma: float) -> Image:
    """Gaussian means, over what lies inside the image."""
    rows, columns = (_weights(n, sigma) for n in x.shape[1:3])
    return jnp.einsum("ih, bhwc, jw -> bijc", rows, x, columns, precision="highest")


def _weights(length: int, sigma: float) -> Float[np.ndarray, "length length"]:
    places = np.arange(length)
    weights = np.exp(-0.5 * (np.subtract.outer(places, places) / sigma) ** 2)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)
