"""Structural similarity (Wang et al. 2004) as a loss."""

from functools import partial

from smc_jax.losses import window
from smc_jax.types import Image, Scalar


def ssim_loss(fused: Image, a: Image, b: Image, span: float = 1.0) -> Scalar:
    """L_ssim = 1 - (SSIM(F, A) + SSIM(F, B)) / 2, between 0 and 2; images of at least 11x11."""
    return 1 - (ssim(fused, a, span) + ssim(fused, b, span)) / 2


def ssim(x: Image, y: Image, span: float = 1.0) -> Scalar:
    """Mean SSIM under an 11x11 Gaussian window of sigma 1.5 that lies inside the image.

    Args:
      x: images.
      y: other images.
      span: the range of brightness that sets the stabilisers (0.01 span)^2 and (0.03 span)^2:
        differences far below them do not count.
    """
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    # Moments are taken about each image's mean: this changes neither the variances nor their
    # gradients, and avoids cancellation.
    x0, y0 = (v.mean((1, 2, 3), keepdims=True) for v in (x, y))
    u, v = x - x0, y - y0
    means = partial(window.means, size=11, sigma=1.5)
    mean_u, mean_v = means(u), means(v)
    var_x = means(u * u) - mean_u**2
    var_y = means(v * v) - mean_v**2
    covariance = means(u * v) - mean_u * mean_v
    mean_x, mean_y = mean_u + x0, mean_v + y0
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return (luminance * (2 * covariance + c2) / (var_x + var_y + c2)).mean()
