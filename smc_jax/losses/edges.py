"""Edges that the fused image should take over from its sources; none of it is in the paper."""

import jax.numpy as jnp
from jax.nn import sigmoid
from jaxtyping import Array, Float

from smc_jax.types import Image, Scalar

FAINT = 0.25 / 255
"""Slope far below which an edge has neither strength nor direction: a quarter of a grey level."""

Slopes = Float[Array, "b i j 1"]


def gradient_loss(fused: Image, a: Image, b: Image) -> Scalar:
    """Mean absolute distance between the derivatives of the fused image and, pixel by pixel, those
    of the source where they are larger (SeAFusion and SwinFusion have the like).

    Across and down are chosen and compared apart and with their sign, so that an edge cannot turn
    round.
    """
    across, down = (
        jnp.abs(f - jnp.where(jnp.abs(x) > jnp.abs(y), x, y)).mean()
        for f, x, y in zip(sobel(fused), sobel(a), sobel(b), strict=True)
    )
    return across + down


def edge_loss(fused: Image, a: Image, b: Image) -> Scalar:
    """1 - Qabf: the share of the sources' edges that F does not keep, in strength and direction.

    The measure of Xydeas and Petrovic (2000), between 0.01 and 1: where `gradient_loss` counts
    grey levels, this counts what share of each edge is there, strong or weak, weighted by its
    strength. Unlike `metrics.gradient.qabf`, an edge that is turned round is lost.
    """
    slopes = sobel(fused)
    kept, there = jnp.zeros(len(fused)), jnp.zeros(len(fused))
    for source in (a, b):
        kept_here, strength = _kept(sobel(source), slopes)
        kept += (kept_here * strength).sum((1, 2, 3))
        there += strength.sum((1, 2, 3))
    return 1 - (kept / there).mean()


def _kept(source: tuple[Slopes, Slopes], fused: tuple[Slopes, Slopes]) -> tuple[Slopes, Slopes]:
    """How much of each edge of a source is kept, and how strong it is."""
    (across, down), (across_f, down_f) = source, fused
    strength = jnp.sqrt(across**2 + down**2 + FAINT**2)
    strength_f = jnp.sqrt(across_f**2 + down_f**2 + FAINT**2)
    ratio = jnp.minimum(strength, strength_f) / jnp.maximum(strength, strength_f)
    cosine = (across * across_f + down * down_f + FAINT**2) / (strength * strength_f)
    # At 1 the arc cosine has no slope.
    turn = jnp.arccos(cosine.clip(-1 + 1e-4, 1 - 1e-4)) / (jnp.pi / 2)
    by_strength = 0.9994 * sigmoid(15 * (ratio - 0.5))
    by_direction = 0.9879 * sigmoid(22 * (0.2 - turn))
    return by_strength * by_direction, strength


def sobel(x: Image) -> tuple[Slopes, Slopes]:
    """Horizontal and vertical Sobel derivatives inside the border, in units of a step a pixel."""
    smooth_rows = (x[:, :-2] + 2 * x[:, 1:-1] + x[:, 2:]) / 4
    smooth_columns = (x[:, :, :-2] + 2 * x[:, :, 1:-1] + x[:, :, 2:]) / 4
    across = (smooth_rows[:, :, 2:] - smooth_rows[:, :, :-2]) / 2
    down = (smooth_columns[:, 2:] - smooth_columns[:, :-2]) / 2
    return across, down
