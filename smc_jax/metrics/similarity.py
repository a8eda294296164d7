"""Similarity metrics: how alike the fused image and the sources, or a ground truth, are.

`h w` images hold grey levels 0..255. Definitions of CC, SCD and SSIM are those of CDDFuse's
evaluator. The correlation with a flat image is taken as 0.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Real

from smc_jax.metrics.levels import centred, levels
from smc_jax.types import Scalar

WINDOW = 7
"""Side of the uniform SSIM window: the least height and width of an image."""


@jax.jit
def correlation(a: Real[Array, "h w"], b: Real[Array, "h w"], fused: Real[Array, "h w"]) -> Scalar:
    """CC: mean of Pearson's r between F and each source, -1 to 1. Higher is better."""
    a, b, f = levels(a), levels(b), levels(fused)
    return (_pearson(a, f) + _pearson(b, f)) / 2


@jax.jit
def correlation_of_differences(
    a: Real[Array, "h w"], b: Real[Array, "h w"], fused: Real[Array, "h w"]
) -> Scalar:
    """SCD: r(F - B, A) + r(F - A, B), -2 to 2. Higher is better.

    Aslantas and Bendes, AEU 2015.
    """
    a, b, f = levels(a), levels(b), levels(fused)
    return _pearson(f - b, a) + _pearson(f - a, b)


@jax.jit
def ssim_sum(a: Real[Array, "h w"], b: Real[Array, "h w"], fused: Real[Array, "h w"]) -> Scalar:
    """SSIM: SSIM(F,A) + SSIM(F,B) with data range 2, -2 to 2. Higher is better.

    The range that papers print comes from float images given to an old scikit-image; it leaves
    next to no stabiliser (C1 4e-4, C2 3.6e-3), so one level of difference on a flat background
    costs much. Wang et al., IEEE TIP 2004.
    """
    return ssim(a, fused, 2.0) + ssim(b, fused, 2.0)


@functools.partial(jax.jit, static_argnames="data_range")
def ssim(x: Real[Array, "h w"], y: Real[Array, "h w"], data_range: float = 255.0) -> Scalar:
    """Mean SSIM under a 7x7 uniform window that lies inside the image, -1 to 1 (equal).

    Sample covariance, K1 0.01, K2 0.03, as scikit-image's default. Both sides must be at least 7.
    """
    x, y = levels(x), levels(y)
    pixels = WINDOW**2
    sum_x, sum_y = _window_sum(x), _window_sum(y)
    # Integers up to 49 * 49 * 255^2 < 2^31: the variances are exact before the one division.
    variances = pixels * (_window_sum(x * x) + _window_sum(y * y)) - sum_x * sum_x - sum_y * sum_y
    covariance = pixels * _window_sum(x * y) - sum_x * sum_y
    mean_x, mean_y = sum_x.astype(jnp.float32) / pixels, sum_y.astype(jnp.float32) / pixels
    scale = 1.0 / (pixels * (pixels - 1))
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x * mean_x + mean_y * mean_y + c1)
    structure = (2 * scale * covariance + c2) / (scale * variances + c2)
    return jnp.mean(jnp.mean(luminance * structure, 1))


@jax.jit
def psnr(x: Real[Array, "h w"], y: Real[Array, "h w"]) -> Scalar:
    """Peak signal-to-noise ratio with peak 255, in dB. Higher is better.

    Equal images give 100, not infinity, so that a mean over images stays a number.
    """
    error = jnp.mean(jnp.square(levels(x) - levels(y)).astype(jnp.float32))
    return jnp.minimum(10 * jnp.log10(255.0**2 / jnp.maximum(error, 1e-9)), 100.0)


def _pearson(x: Int[Array, "h w"], y: Int[Array, "h w"]) -> Scalar:
    x, y = centred(x), centred(y)
    norm = jnp.sqrt(jnp.mean(x * x) * jnp.mean(y * y))
    return jnp.where(norm > 0, jnp.mean(x * y) / jnp.where(norm > 0, norm, 1.0), 0.0)


def _window_sum(x: Int[Array, "h w"]) -> Int[Array, "i j"]:
    for axis in (0, 1):
        n = x.shape[axis] - WINDOW + 1
        shifts = (jax.lax.slice_in_dim(x, k, k + n, axis=axis) for k in range(WINDOW))
        x = sum(shifts, start=jnp.int32(0))
    return x
