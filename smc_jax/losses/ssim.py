"""Structural similarity (Wang et al. 2004) as a loss."""

from functools import partial

from smc_jax.losses import window
from smc_jax.types import Image, Scalar

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
    means = partial(window.means, size=11, sigma=1.5)
    mean_u, mean_v = means(u), means(v)
    var_x = means(u * u) - mean_u**2
    var_y = means(v * v) - mean_v**2
    covariance = means(u * v) - mean_u * mean_v
    mean_x, mean_y = mean_u + x0, mean_v + y0
    luminance = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    return (luminance * (2 * covariance + C2) / (var_x + var_y + C2)).mean()
