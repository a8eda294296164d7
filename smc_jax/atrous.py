"""The à trous wavelet: an image as bands of detail that have as many pixels as it has.

Being undecimated it has no blocks and no phase, so that weights that change from pixel to pixel
leave no pattern.
"""

import jax.numpy as jnp
from jax import lax

from smc_jax.types import Image

LEVELS = 3
"""Bands of detail: the finest is about 2 pixels wide, each further one twice as wide."""
SPLINE = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)
"""The cubic B-spline, the filter that smooths."""


def bands(image: Image) -> list[Image]:
    """Returns bands of detail, finest first, and the smooth rest; they add up to the image."""
    parts = []
    for level in range(LEVELS):
        smooth = _smooth(image, 2**level)
        parts.append(image - smooth)
        image = smooth
    return [*parts, image]


def smoothed(image: Image, first: int, end: int) -> Image:
    """Smooths an image at the levels from `first` to before `end`; the taps are 1 pixel apart at
    level 0, and twice as far at each further one.
    """
    for level in range(first, end):
        image = _smooth(image, 2**level)
    return image


def _smooth(image: Image, step: int) -> Image:
    """Smooths with taps that are `step` pixels apart; border pixels are repeated outwards."""
    for axis in (1, 2):
        size = image.shape[axis]
        margin = [(0, 0)] * 4
        margin[axis] = (2 * step, 2 * step)
        # Otherwise XLA fuses each smoothing into the next and recomputes its pixels many times.
        wide = lax.optimization_barrier(jnp.pad(image, margin, mode="edge"))
        taps = [lax.slice_in_dim(wide, k * step, k * step + size, axis=axis) for k in range(5)]
        image = sum((w * t for w, t in zip(SPLINE, taps, strict=True)), jnp.zeros((), image.dtype))
        image = lax.optimization_barrier(image)
    return image
