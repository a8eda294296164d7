"""Structural similarity (Wang et al. 2004) as a loss."""

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


def _window() -> Float[np.ndarray, "k"]:
    w = np.exp(-0.5 * ((np.arange(SIZE) - SIZE // 2) / SIGMA) ** 2)
    return (w / w.sum()).astype(np.float32)


def _blur(x: Float[Array, "b h w 1"]) -> Float[Array, "b i j 1"]:
    for axis in (1, 2):
        length = x.shape[axis] - SIZE + 1
        x = sum(w * _slice(x, i, i + length, axis) for i, w in enumerate(_window()))
    return x


def _slice(x, start, stop, axis):
    return x[:, start:stop] if axis == 1 else x[:, :, start:stop]
