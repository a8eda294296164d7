"""Lowers a source that has no black of its own, such as an infrared image, to that of the other.

The grey levels of an infrared image say which of two things is warmer, not how bright either is. If
its darkest pixels are grey, they lie like a veil on what is dark in the other source (ours).
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from smc_jax.types import Image

PERCENT = 1.0
"""The percentage of an image's pixels that are at or below its black level."""


def above(a: Image, b: Image) -> Float[Array, "b"]:
    """Returns by how much the black level of each first source lies above that of the second, or 0
    where it does not.
    """
    first, second = (jnp.percentile(image, PERCENT, axis=(1, 2, 3)) for image in (a, b))
    return jnp.maximum(first - second, 0.0)


def lowered(a: Image, by: Float[Array, "b"]) -> Image:
    """Darkens each image by so much; what would be darker than black is black."""
    return jnp.maximum(a - by[:, None, None, None], 0.0)
