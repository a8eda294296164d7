"""The input of every metric: one grey 8-bit image."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Real


def levels(image: Real[Array, "h w"]) -> Int[Array, "h w"]:
    """Grey levels 0..255 as int32, so that sums and comparisons of pixels are exact.

    Values between two levels are rounded, those outside are clipped.
    """
    return jnp.clip(jnp.round(image), 0, 255).astype(jnp.int32)


def centred(image: Real[Array, "h w"]) -> Float[Array, "h w"]:
    """The image less its mean; exactly 0 everywhere for a flat one."""
    image = (image - image[0, 0]).astype(jnp.float32)
    return image - jnp.mean(image)
