"""What white hides in one of two sources, such as people behind smoke or in glare (ours)."""

import math
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np

from smc_jax import tiles
from smc_jax.atrous import LEVELS, bands, smoothed
from smc_jax.color import Luma
from smc_jax.types import Image

WHITE = 0.8
"""Luma from which a source counts as white, ever more up to 1."""
WIDE = 6
"""Levels of smoothing of the windows over which textures are compared."""
GRAIN = 16 / 255
"""Standard deviation of the texture that is taken for grain."""
REACH = 4 * 2**WIDE
"""No pixel farther away counts: smoothing at all levels reaches half as far, and is done twice."""


def behind_white(bands_a: list[Image], bands_b: list[Image]) -> Image:
    """How much more texture one source has where the other is white.

    It is the log ratio of their local variances, where that of the white source is smaller. Only
    coarse texture counts, such as a person or a car, not the grain of a sensor.

    Args:
      bands_a: `atrous.bands` of the first sources.
      bands_b: `atrous.bands` of the second sources.

    Returns:
      Positive where the second source is white, negative where the first is, 0 elsewhere.
    """
    logs, white = [], []
    for _, *coarse, smooth in (bands_a, bands_b):
        texture = sum(coarse, smooth) - smoothed(smooth, LEVELS, WIDE)
        logs.append(jnp.log(smoothed(texture**2, 0, WIDE) + GRAIN**2))
        white.append(((smooth - WHITE) / (1 - WHITE)).clip(0.0, 1.0))
    more = logs[0] - logs[1]
    return white[1] * jnp.maximum(more, 0.0) + white[0] * jnp.minimum(more, 0.0)


def parts(shape: tuple[int, ...], pixels: int) -> list[tiles.Tile]:
    """Returns parts of an image, of at most `pixels` pixels or the fewest that one may have, that
    overlap by so much that `behind_white` in a part's core is that of the whole image.
    """
    height, width = shape
    side = max(math.isqrt(pixels), 3 * REACH)
    return tiles.cover(height, width, (side, side), 2 * REACH)


def whole(a: Luma, b: Luma, parts: Iterable[tiles.Tile]) -> Luma:
    """Returns `behind_white` of a large pair, found in `parts`."""
    found = np.zeros(a.shape, np.float32)
    for tile in parts:
        part = _of_pair(*(np.asarray(v[tile.place], np.float32)[None, ..., None] for v in (a, b)))
        found[tile.core] = np.asarray(part)[0, *tile.within, 0]
    return found


@jax.jit
def _of_pair(a: Image, b: Image) -> Image:
    return behind_white(bands(a), bands(b))
