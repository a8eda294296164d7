"""Losses on the edges that the fused image should keep from its sources; not in the paper."""

import jax.numpy as jnp
from jax.nn import sigmoid
from jaxtyping import Array, Float

from smc_jax.types import Image, Scalar

FAINT = 0.25 / 255
"""Slope far below which an edge has neither strength nor direction: a quarter of a grey level."""

Slopes = Float[Array, "b i j 1"]


def gradient_loss(fused: Image, a: Image, b: Image) -> Scalar:
    """Mean absolute distance between the derivatives of the fused image and, at each pixel, those
    of the source with the larger ones (SeAFusion and SwinFusion have similar losses).

    The horizontal and vertical derivatives are chosen and compared separately and with their sign,
    so that an edge cannot be reversed.
    """
    across, down = (
        jnp.abs(f - jnp.where(jnp.abs(x) > jnp.abs(y), x, y)).mean()
        for f, x, y in zip(sobel(fused), sobel(a), sobel(b), strict=True)
    )
    return across + down


def edge_loss(fused: Image, a: Image, b: Image) -> Scalar:
    """1 - Qabf: the share of the sources' edges that F does not keep, in strength and direction.

    Based on the measure of Xydeas and Petrovic (2000); from about 0.028, the value when F equals
    both sources, to 1. Where `gradient_loss` counts grey levels, this counts the share that is
    kept of each edge, strong or weak, weighted by its strength. Unlike in `metrics.gradient.qabf`,
    a reversed edge counts as lost.
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
    # The gradient of arccos is infinite at -1 and 1.
    turn = jnp.arccos(cosine.clip(-1 + 1e-4, 1 - 1e-4)) / (jnp.pi / 2)
    by_strength = 0.9994 * sigmoid(15 * (ratio - 0.5))
    by_direction = 0.9879 * sigmoid(22 * (0.2 - turn))
    return by_strength * by_direction, strength


def sobel(x: Image) -> tuple[Slopes, Slopes]:
    """Horizontal and vertical Sobel derivatives inside the border, in brightness per pixel."""
    smooth_rows = (x[:, :-2] + 2 * x[:, 1:-1] + x[:, 2:]) / 4
    smooth_columns = (x[:, :, :-2] + 2 * x[:, :, 1:-1] + x[:, :, 2:]) / 4
    across = (smooth_rows[:, :, 2:] - smooth_rows[:, :, :-2]) / 2
    down = (smooth_columns[:, 2:] - smooth_columns[:, :-2]) / 2
    return across, down
