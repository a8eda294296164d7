"""MEF-SSIM: agreement of structure with the desired mixture of both sources.

Ma, Zeng and Wang, IEEE TIP 2015. Made for multi-exposure fusion, used for all tasks; one score for
both sources together, not one for each.
"""

import jax.numpy as jnp
import numpy as np
from einops import reduce
from jaxtyping import Array, Float

from smc_jax.metrics.levels import Grey, Score, batched, centred, levels, mean
from smc_jax.metrics.window import covariances, gaussian
from smc_jax.types import Scalar

SIDE = 11
WEIGHTS = (0.0448, 0.2856, 0.3001)
"""Weights of the scales, finest first; used after division by their sum."""
C = (0.03 * 255) ** 2
SOURCES = ((0, 0), (1, 1), (0, 1))
WITH_FUSED = (*SOURCES, (2, 2), (0, 2), (1, 2))
"""The (co)variances that `agreement` needs, as pairs of indices into (a, b, fused)."""


@batched
def mef_ssim(a: Grey, b: Grey, fused: Grey) -> Score:
    """MEF_SSIM: agreement of F's structure with the stronger structure of A and B, at most 1.

    Mean of (2 s_WF + C) / (s_WW + s_FF + C) under an 11x11 Gaussian window, where the desired patch
    W is a sum of both sources' patches, weighted by their strength and scaled to the strength of
    the stronger one; no luminance term. Higher is better. Flat images give 1.

    Raises:
      ValueError: a side is shorter than 11 pixels.
    """
    return _structure(_stack(a, b, fused))


@batched
def mef_ms_ssim(a: Grey, b: Grey, fused: Grey) -> Score:
    """Product of MEF-SSIM at three scales, each raised to its weight. Higher is better.

    This is the MS_SSIM of Tang's toolbox and the MEF_SSIM of MEFB; `similarity.ms_ssim_sum` is the
    MS-SSIM of F and each source. At most 1; flat images give 1. Scales whose window does not fit
    are left out (below 41 pixels a side; the reference gives no score); a scale of negative
    agreement counts as 0.

    Raises:
      ValueError: a side is shorter than 11 pixels: no scale fits.
    """
    x = _stack(a, b, fused)
    scores = []
    while len(scores) < len(WEIGHTS) and min(x.shape[1:]) >= SIDE:
        scores.append(_structure(x))
        x = _half(x)
    weights = np.array(WEIGHTS[: len(scores)]) / sum(WEIGHTS[: len(scores)])
    return jnp.prod(jnp.maximum(jnp.stack(scores), 0) ** jnp.asarray(weights, jnp.float32))


def _stack(a: Grey, b: Grey, fused: Grey) -> Float[Array, "3 h w"]:
    if min(fused.shape) < SIDE:
        raise ValueError(f"MEF-SSIM needs at least {SIDE} pixels a side, not {fused.shape}")
    # Structure ignores a constant offset, and rounding is least around 0.
    return jnp.stack([centred(levels(image)) for image in (a, b, fused)])


def _structure(x: Float[Array, "3 h w"]) -> Scalar:
    """Mean agreement of F with the desired patch."""
    square = covariances(x[:2], SOURCES, (1 / SIDE,) * SIDE)
    return mean(agreement(square, covariances(x, WITH_FUSED, gaussian(SIDE, 1.5))))


def agreement(square: Float[Array, "3 *i"], weighted: Float[Array, "6 *i"]) -> Float[Array, "*i"]:
    """Agreement of F with the desired patch, a weighted sum of both sources' patches.

    Args:
      square: covariances of `SOURCES` at each place under the 11x11 mean, in squared grey levels.
      weighted: those of `WITH_FUSED` under the 11x11 Gaussian of sigma 1.5.
    """
    # Sums over the square window: squared lengths of the centred patches and their product.
    aa, bb, ab = SIDE**2 * square
    aa, bb = jnp.maximum(aa, 0), jnp.maximum(bb, 0)
    length_a, length_b = jnp.sqrt(aa), jnp.sqrt(bb)
    both = length_a + length_b
    alike = jnp.sqrt(jnp.maximum(aa + bb + 2 * ab, 0)) / jnp.where(both > 0, both, 1.0)
    alike = jnp.where(both > 0, alike, 1.0)
    power = jnp.tan(jnp.pi / 2 * jnp.minimum(alike, 2 / np.pi * np.arctan(10)))
    length_a, length_b = length_a + 0.001, length_b + 0.001
    weight_a, weight_b = ((x / SIDE) ** power + 2.0**-52 for x in (length_a, length_b))
    gain_a = weight_a / (weight_a + weight_b) / length_a
    gain_b = weight_b / (weight_a + weight_b) / length_b
    length = jnp.sqrt(jnp.maximum(gain_a**2 * aa + gain_b**2 * bb + 2 * gain_a * gain_b * ab, 0))
    scale = jnp.maximum(length_a, length_b) / jnp.where(length > 0, length, 1.0)
    gain_a, gain_b = scale * gain_a, scale * gain_b
    aa, bb, ab, ff, af, bf = weighted
    wished = gain_a**2 * aa + gain_b**2 * bb + 2 * gain_a * gain_b * ab
    shared = gain_a * af + gain_b * bf
    return (2 * shared + C) / (wished + ff + C)


def _half(x: Float[Array, "3 h w"]) -> Float[Array, "3 i j"]:
    """Means of 2 x 2 pixels; an odd last row or column is repeated."""
    x = jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2)), mode="edge")
    return reduce(x, "k (h p) (w q) -> k h w", "mean", p=2, q=2)
