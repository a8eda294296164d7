"""Blends two sources with weights for each pixel and each band of detail (ours)."""

import itertools

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from smc_jax.atrous import LEVELS, bands, smoothed
from smc_jax.glare import behind_white
from smc_jax.types import Image

PARTS = {
    "share": 1,
    "residual": 1,
    "shift": LEVELS,
    "strength": LEVELS,
    "trust": 1,
    "detail_trust": 1,
}
"""The channels of the weights, in this order; `blend` explains them."""
CHANNELS = sum(PARTS.values())
WINDOWS = (1, 2, 3)
"""Levels of smoothing, from 0, over whose windows `contrast` is averaged."""
BLACK = 4 / 255
"""Luma below which less and less is added to the weighted mean: black stays black."""


def blend(
    a: Image,
    b: Image,
    weights: Float[Array, "b h w k"],
    trust: float = 0.0,
    detail_trust: float = 0.0,
    *,
    noise: float = 1.0,
    glare: float = 0.0,
    behind: Image | None = None,
    faint: float = 0.0,
    within: bool = False,
) -> Image:
    """Takes a weighted mean of the sources in each band, amplifies or weakens it, adds a residual.

    With weights of 0 and no trust this is the mean of the sources, since the bands of an image add
    up to it. What is black in both sources stays black, above all the surroundings of medical
    images.

    Args:
      a: the first sources.
      b: the second sources.
      weights: `CHANNELS` numbers per pixel, laid out as in `PARTS`:
        share: the logit of the first source's share.
        residual: added to the result, less and less below `BLACK`.
        shift: for each band of detail, finest first, the offset of its own logit from `share`.
        strength: for each band, the logit of half its gain, which lies between 0 and 2.
        trust: added to the argument `trust`.
        detail_trust: added to the argument `detail_trust`.
      trust: multiple of `contrast` that is added to the logits of all shares.
      detail_trust: further multiple of it that is added to those of the bands: the brighter source
        may be flat where the other one shows texture.
      noise: see `contrast`.
      glare: multiple of `behind_white` that is added to the logits of all shares: on white, what
        the other source shows could not be brighter than its surroundings.
      behind: for tiles, what `behind_white` gives there for the whole image.
      faint: grey levels of 255 below which the result approaches the brighter source, reached at
        black: shares would halve what is faint in one source and black in the other.
      within: keep each pixel between those of the sources.
    """
    ends = list(itertools.accumulate(PARTS.values()))[:-1]
    logit, rest, shift, strength, more_trust, more_detail_trust = jnp.split(weights, ends, -1)
    bands_a, bands_b = bands(a), bands(b)
    clearer = contrast(bands_a, bands_b, noise)
    logit += (trust + more_trust) * clearer
    if glare:
        logit += glare * (behind_white(bands_a, bands_b) if behind is None else behind)
    share = nn.sigmoid(logit)
    shift += (detail_trust + more_detail_trust) * clearer
    for i, (detail_a, detail_b) in enumerate(zip(bands_a[:-1], bands_b[:-1], strict=True)):
        own = detail_b + nn.sigmoid(logit + shift[..., i, None]) * (detail_a - detail_b)
        rest += 2 * nn.sigmoid(strength[..., i, None]) * own
        rest -= detail_b + share * (detail_a - detail_b)
    brighter = jnp.maximum(a, b)
    fused = b + share * (a - b) + rest * jnp.minimum(1.0, brighter / BLACK)
    if faint:
        fused = brighter + jnp.minimum(1.0, 255 / faint * brighter) * (fused - brighter)
    return fused.clip(jnp.minimum(a, b), brighter) if within else fused


def contrast(bands_a: list[Image], bands_b: list[Image], noise: float = 1.0) -> Image:
    """Log ratio of the local variances of the two sources in their two finest bands.

    It is averaged over `WINDOWS`: small ones locate edges, large ones decide for flat regions. A
    source in focus has more variance; the features contain this, but a network learns a quotient of
    squares slowly.

    Args:
      bands_a: `bands` of the first sources.
      bands_b: `bands` of the second sources.
      noise: standard deviation of noise, in grey levels of 255; details below it do not count.

    Returns:
      Positive where the first source has more contrast.
    """
    logs = []
    for fine, coarse, *_ in (bands_a, bands_b):
        variance, total = (fine + coarse) ** 2, jnp.zeros((), fine.dtype)
        for level in range(max(WINDOWS) + 1):
            variance = smoothed(variance, level, level + 1)
            if level in WINDOWS:
                total += jnp.log(variance + (noise / 255) ** 2)
        logs.append(total / len(WINDOWS))
    return logs[0] - logs[1]
