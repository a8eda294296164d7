"""Brightness and edges that the fused image should take over from its sources."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from smc_jax.types import Image, Scalar

RULES = {"max": jnp.maximum, "mean": lambda a, b: (a + b) / 2}


def intensity_loss(fused: Image, a: Image, b: Image, rule: str = "max") -> Scalar:
    """L_int: mean absolute distance to the `max` or the `mean` of the sources (rules are ours)."""
    return jnp.abs(fused - RULES[rule](a, b)).mean()


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
