"""Brightness and edges that the fused image should take over from its sources."""

import jax.numpy as jnp

from smc_jax.types import Image, Scalar

RULES = {"max": jnp.maximum, "mean": lambda a, b: (a + b) / 2}


def intensity_loss(fused: Image, a: Image, b: Image, rule: str = "max") -> Scalar:
    """L_int: mean absolute distance to the `max` or the `mean` of the sources (rules are ours)."""
    return jnp.abs(fused - RULES[rule](a, b)).mean()


def gradient_loss(fused: Image, a: Image, b: Image) -> Scalar:
    """Mean absolute distance between the gradient of the fused image and, pixel by pixel, that of
    the source where it is larger (as in SeAFusion and SwinFusion; not in the paper).

    Directions count: the gradients are compared as vectors, so that an edge cannot turn round.
    """
    pairs = zip(_sobel(fused), _sobel(a), _sobel(b), strict=True)
    return sum(jnp.abs(f - jnp.where(jnp.abs(x) > jnp.abs(y), x, y)).mean() for f, x, y in pairs)


def _sobel(x: Image) -> tuple[Image, Image]:
    """Horizontal and vertical Sobel derivatives inside the border, in units of a step a pixel."""
    smooth_rows = (x[:, :-2] + 2 * x[:, 1:-1] + x[:, 2:]) / 4
    smooth_columns = (x[:, :, :-2] + 2 * x[:, :, 1:-1] + x[:, :, 2:]) / 4
    across = (smooth_rows[:, :, 2:] - smooth_rows[:, :, :-2]) / 2
    down = (smooth_columns[:, 2:] - smooth_columns[:, :-2]) / 2
    return across, down
