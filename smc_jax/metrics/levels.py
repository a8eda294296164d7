"""What all metrics share: grey 8-bit images as inputs, one score per image as output."""

import functools
import inspect
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Num, Real

Grey = Real[Array, "*b h w"]
"""Grey levels 0..255, of one image or of a batch."""
Score = Float[Array, "*b"]
"""One number per image; NaN where the metric is undefined."""


def batched(metric: Callable[..., Score]) -> Callable[..., Score]:
    """Compiles a metric of `h w` images so that it also takes `b h w` batches.

    A batch is scored image by image, so that a score does not depend on the rest of its batch and
    needs the memory of one image. It is undefined (NaN) where a pixel is not finite. Keyword-only
    arguments are static: they select a variant at compile time.
    """

    def scores(*images: Grey, **variant) -> Score:
        def one(images):
            score = metric(*images, **variant)
            for image in images:
                if jnp.issubdtype(image.dtype, jnp.floating):
                    score = jnp.where(jnp.isfinite(image).all(), score, jnp.nan)
            return score

        return one(images) if jnp.ndim(images[0]) == 2 else jax.lax.map(one, images)

    parameters = inspect.signature(metric).parameters.values()
    variants = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    return jax.jit(functools.wraps(metric)(scores), static_argnames=variants)


def levels(image: Real[Array, "h w"]) -> Int[Array, "h w"]:
    """Grey levels 0..255 as int32, so that sums and comparisons of pixels are exact.

    Values between two levels are rounded, values outside are clipped.
    """
    return jnp.clip(jnp.round(image), 0, 255).astype(jnp.int32)


def centred(image: Real[Array, "h w"]) -> Float[Array, "h w"]:
    """The image less its mean; exactly 0 everywhere for a flat one."""
    image = (image - image[0, 0]).astype(jnp.float32)
    return image - jnp.mean(image)


def total(x: Num[Array, "... h w"]) -> Float[Array, "..."]:
    """The sum of an image, row by row: one long float32 sum would lose digits."""
    return jnp.sum(jnp.sum(x.astype(jnp.float32), -1), -1)


def mean(x: Num[Array, "... h w"]) -> Float[Array, "..."]:
    """The mean of an image, row by row as in `total`."""
    return jnp.mean(jnp.mean(x.astype(jnp.float32), -1), -1)


def ratio(x: Float[Array, "*s"], y: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """x / y; NaN (undefined) where y is 0."""
    return jnp.where(y != 0, x / jnp.where(y != 0, y, 1.0), jnp.nan)


def is_flat(x: Real[Array, "h w"]) -> Bool[Array, ""]:
    """Whether all pixels of an image are equal."""
    return jnp.all(x == x[0, 0])


def stretched(x: Real[Array, "h w"]) -> Int[Array, "h w"]:
    """Grey levels from 0 to 255: 255 (x - min) / (max - min), rounded; 0 for a flat image."""
    x = levels(x)
    return jnp.asarray(_STRETCH)[jnp.max(x) - jnp.min(x), x - jnp.min(x)]


def _stretches() -> Int[np.ndarray, "256 256"]:
    """The stretched level, by width of the range (row) and step above the least level (column).

    Computed in float64, as in the published code: some halves fall just short and are rounded down.
    """
    steps, widths = np.arange(256.0), np.arange(256.0)[:, None]
    exact = steps / np.maximum(widths, 1) * 255
    return (np.floor(exact) + (exact % 1 >= 0.5)).astype(np.int32)


_STRETCH = _stretches()
