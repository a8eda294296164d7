"""Brings a source that has no black of its own, such as an infrared image, down to the black level
of the other one.

The grey levels of an infrared image say which of two things is warmer, not how bright either is. If
its darkest pixels are grey, they lie like a veil on what is dark in the other source (ours).
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from smc_jax.types import Image

BLACK, WHITE = 1.0, 99.9
"""Percentages of an image's pixels that are at or below its black and its white level."""
MIDDLE = 0.5
"""Luma below which the white level does not fall: targets would be lost in the dark."""
STEEPEST = 3.0
"""The largest gain, since noise is amplified too."""


class Stretch(NamedTuple):
    """For each pair, what its first source is multiplied by, and what is added then."""

    gain: Float[Array, "b"]
    offset: Float[Array, "b"]


def stretch(a: Image, b: Image) -> Stretch:
    """Returns how to bring each first source down to the black level of the second one.

    It is darkened as a whole as long as its white level stays above `MIDDLE`. From there on the
    white level stays, and the range below it is stretched, by `STEEPEST` at most: the black level
    of a flatter image does not come down all the way. Where the black level of the first source is
    not above that of the second, the gain is 1 and the offset 0.
    """
    axes = 1, 2, 3
    black, white = jnp.percentile(a, jnp.array([BLACK, WHITE]), axis=axes)
    above = jnp.maximum(black - jnp.percentile(b, BLACK, axis=axes), 0.0)
    fall = jnp.clip(white - MIDDLE, 0.0, above)
    gain = jnp.minimum(1 + (above - fall) / jnp.maximum(white - black, 1e-6), STEEPEST)
    return Stretch(gain, white - fall - gain * white)


def stretched(a: Image, by: Stretch) -> Image:
    """Applies a stretch; the result is clipped to [0, 1]."""
    gain, offset = (v[:, None, None, None] for v in by)
    return jnp.clip(gain * a + offset, 0.0, 1.0)
