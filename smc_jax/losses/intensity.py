"""Brightness and edges that the fused image should take over from its sources."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from smc_jax.config import TASKS
from smc_jax.types import Image, Scalar

RULES = {"max": jnp.maximum, "mean": lambda a, b: (a + b) / 2}
OF_TASK = {"ivif": "max", "mdif": "max", "mfif": "mean", "meif": "mean"}


def intensity_loss(
    fused: Image, a: Image, b: Image, rule: str = "max", task: Int[Array, "b"] | None = None
) -> Scalar:
    """L_int: mean absolute distance to the `max` or the `mean` of the sources (rules are ours).

    With the rule `task`, which needs the `task` of each pair, it is the one of `OF_TASK`.
    """
    if rule == "task":
        assert task is not None
        brightest = jnp.array([OF_TASK[name] == "max" for name in TASKS])[task, None, None, None]
        target = jnp.where(brightest, RULES["max"](a, b), RULES["mean"](a, b))
    else:
        target = RULES[rule](a, b)
    return jnp.abs(fused - target).mean()


def gradient_loss(fused: Image, a: Image, b: Image) -> Scalar:
    """Mean absolute distance between the derivatives of the fused image and, pixel by pixel, those
    of the source where they are larger (not in the paper; SeAFusion and SwinFusion have the like).

    Across and down are chosen and compared apart and with their sign, so that an edge cannot turn
    round.
    """
    across, down = (
        jnp.abs(f - jnp.where(jnp.abs(x) > jnp.abs(y), x, y)).mean()
        for f, x, y in zip(_sobel(fused), _sobel(a), _sobel(b), strict=True)
    )
    return across + down


def _sobel(x: Image) -> tuple[Float[Array, "b i j 1"], Float[Array, "b i j 1"]]:
    """Horizontal and vertical Sobel derivatives inside the border, in units of a step a pixel."""
    smooth_rows = (x[:, :-2] + 2 * x[:, 1:-1] + x[:, 2:]) / 4
    smooth_columns = (x[:, :, :-2] + 2 * x[:, :, 1:-1] + x[:, :, 2:]) / 4
    across = (smooth_rows[:, :, 2:] - smooth_rows[:, :, :-2]) / 2
    down = (smooth_columns[:, 2:] - smooth_columns[:, :-2]) / 2
    return across, down
