"""Structural similarity (Wang et al. 2004) as a loss."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from smc_jax.types import Image, Scalar

SIZE, SIGMA = 11, 1.5
C1, C2 = 0.01**2, 0.03**2


def ssim_loss(fused: Image, a: Image, b: Image) -> Scalar:
    """L_ssim = 1 - (SSIM(F, A) + SSIM(F, B)) / 2, between 0 and 2; images of at least 11x11."""
    return 1 - (ssim(fused, a) + ssim(fused, b)) / 2


def ssim(x: Image, y: Image) -> Scalar:
    """Mean SSIM of images in [0, 1]: Gaussian window 11x11 of sigma 1.5, where it fits whole."""
    # Moments are taken around one value an image, which leaves the variances and their
    # gradients what they are and saves them from cancellation.
    x0, y0 = (v.mean((1, 2, 3), keepdims=True) for v in (x, y))
    u, v = x - x0, y - y0
    mean_u, mean_v = _blur(u), _blur(v)
    var_x = _blur(u * u) - mean_u**2
    var_y = _blur(v * v) - mean_v**2
    covariance = _blur(u * v) - mean_u * mean_v
    mean_x, mean_y = mean_u + x0, mean_v + y0
    luminance = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    return (luminance * (2 * covariance + C2) / (var_x + var_y + C2)).mean()


def _blur(x: Image) -> Float[Array, "b i j 1"]:
    """The window's means. As matrix products: on a CPU many times faster than a convolution."""
    rows, columns = (_windows(n) for n in x.shape[1:3])
    # Variances are small differences: reduced precision (TF32, bfloat16) would drown them.
    return jnp.einsum("ih, bhwc, jw -> bijc", rows, x, columns, precision="highest")


def _windows(length: int) -> Float[np.ndarray, "i length"]:
    """The window at each place of an axis where it fits whole, one place a row."""
    taps = np.exp(-0.5 * ((np.arange(SIZE) - SIZE // 2) / SIGMA) ** 2)
    rows = np.zeros((length - SIZE + 1, length), np.float32)
    for i, row in enumerate(rows):
        row[i : i + SIZE] = taps / taps.sum()
    return rows
