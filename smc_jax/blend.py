"""How two sources become one image by weights for each pixel and each band of detail (ours)."""

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from smc_jax.types import Image

LEVELS = 3
"""Bands of detail; the finest is about 2 pixels wide, each next one twice as wide."""
CHANNELS = 4 + 2 * LEVELS
"""What `blend` needs for a pixel."""
WINDOWS = (1, 2, 3)
"""Where contrast is measured: windows of the width of the bands of these numbers, from 0."""
BLACK = 4 / 255
"""Luma above which all is added to the mean that there is to add."""
SPLINE = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)
"""The cubic B-spline, with which the à trous wavelet smooths."""


def blend(
    a: Image,
    b: Image,
    weights: Float[Array, "b h w k"],
    trust: float = 0.0,
    detail_trust: float = 0.0,
    *,
    noise: float = 1.0,
    faint: float = 0.0,
    within: bool = False,
) -> Image:
    """A weighted mean of the sources, band by band, each stronger or weaker, and a residual.

    With weights of 0 and no trust this is the mean of the sources: bands of an image add up to it.
    What is black in both sources stays black: the flat surroundings of medical images, above all.

    Args:
      a: the first sources.
      b: the second sources.
      weights: `CHANNELS` numbers a pixel: the logit of the first source's share; the residual; for
        each band of detail, finest first, what its logit differs by; again for each, the logit of
        half its strength, which is between 0 and 2; how far all logits follow `contrast`, beyond
        `trust`; and how much further those of the bands do, beyond `detail_trust`.
      trust: how far all logits follow it where the weights are 0.
      detail_trust: how much further those of the bands do: what is brighter may be flat where the
        other source shows texture.
      noise: see `contrast`.
      faint: grey levels of 255 below which all goes over to the brighter source, the more so the
        nearer to black: shares would halve what is faint in one and black in the other.
      within: no pixel is darker or brighter than in both sources.
    """
    ends = 1, 2, 2 + LEVELS, 2 + 2 * LEVELS, 3 + 2 * LEVELS
    logit, rest, shift, strength, further, finer = jnp.split(weights, ends, -1)
    bands_a, bands_b = bands(a), bands(b)
    clearer = contrast(bands_a, bands_b, noise)
    logit += (trust + further) * clearer
    share = nn.sigmoid(logit)
    shift += (detail_trust + finer) * clearer
    for i, (detail_a, detail_b) in enumerate(zip(bands_a[:-1], bands_b[:-1], strict=True)):
        own = detail_b + nn.sigmoid(logit + shift[..., i, None]) * (detail_a - detail_b)
        rest += 2 * nn.sigmoid(strength[..., i, None]) * own
        rest -= detail_b + share * (detail_a - detail_b)
    brighter = jnp.maximum(a, b)
    fused = b + share * (a - b) + rest * jnp.minimum(1.0, brighter / BLACK)
    if faint:
        fused = brighter + jnp.minimum(1.0, 255 / faint * brighter) * (fused - brighter)
    return fused.clip(jnp.minimum(a, b), brighter) if within else fused


def bands(image: Image) -> list[Image]:
    """The à trous wavelet: bands of detail, finest first, and what is left; their sum is the image.

    It knows no blocks and no phase, as sub-bands of half the size do, so that weights that change
    from pixel to pixel leave no pattern.
    """
    parts = []
    for level in range(LEVELS):
        smooth = _smooth(image, 2**level)
        parts.append(image - smooth)
        image = smooth
    return [*parts, image]


def contrast(bands_a: list[Image], bands_b: list[Image], noise: float = 1.0) -> Image:
    """Log of how much more variance the first source's two finest bands have, around each pixel,
    as the mean over `WINDOWS`: small ones see where edges are, large ones what flat places are of.

    What is in focus has more of it: features hold this, but as a quotient of squares they give it
    away slowly.

    Args:
      bands_a: of the first sources.
      bands_b: of the second sources.
      noise: standard deviation of details that say nothing, in grey levels of 255.
    """
    logs = []
    for fine, coarse, *_ in (bands_a, bands_b):
        variance, total = (fine + coarse) ** 2, jnp.zeros((), fine.dtype)
        for level in range(max(WINDOWS) + 1):
            variance = _smooth(variance, 2**level)
            if level in WINDOWS:
                total += jnp.log(variance + (noise / 255) ** 2)
        logs.append(total / len(WINDOWS))
    return logs[0] - logs[1]


def _smooth(image: Image, step: int) -> Image:
    """Smoothing with holes: taps are `step` pixels apart; border pixels go on beyond the border."""
    for axis in (1, 2):
        size = image.shape[axis]
        margin = [(0, 0)] * 4
        margin[axis] = (2 * step, 2 * step)
        # XLA would fuse one smoothing into the next, and compute each pixel of it many times over.
        wide = lax.optimization_barrier(jnp.pad(image, margin, mode="edge"))
        taps = [lax.slice_in_dim(wide, k * step, k * step + size, axis=axis) for k in range(5)]
        image = sum((w * t for w, t in zip(SPLINE, taps, strict=True)), jnp.zeros((), image.dtype))
        image = lax.optimization_barrier(image)
    return image
