"""Similarity metrics: how similar the fused image is to its sources or to a ground truth."""

import jax
import jax.numpy as jnp
from einops import reduce
from jaxtyping import Array, Float, Int

from smc_jax.metrics.levels import Grey, Score, batched, centred, levels, mean, ratio
from smc_jax.metrics.window import covariances, gaussian, means
from smc_jax.types import Scalar

WINDOW = 7
"""Side of the uniform SSIM window."""
GAUSSIAN = 11
"""Side of the Gaussian SSIM window; its deviation is 1.5."""
MS_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Weights of the scales of MS-SSIM, finest first."""
MS_SMALLEST = (GAUSSIAN - 1) * 2 ** (len(MS_WEIGHTS) - 1) + 1
"""The least height and width that five scales need: 161."""


@batched
def correlation(a: Grey, b: Grey, fused: Grey) -> Score:
    """CC: (r(A,F) + r(B,F)) / 2 with Pearson's r, -1 to 1. Higher is better.

    Undefined where one of the images is flat. All evaluators agree.
    """
    a, b, f = levels(a), levels(b), levels(fused)
    return (_pearson(a, f) + _pearson(b, f)) / 2


@batched
def correlation_of_differences(a: Grey, b: Grey, fused: Grey) -> Score:
    """SCD: r(F - B, A) + r(F - A, B), -2 to 2. Higher is better.

    Undefined where a source or a difference is flat, as for F = B. Aslantas and Bendes, AEU 2015.
    All evaluators agree.
    """
    a, b, f = levels(a), levels(b), levels(fused)
    return _pearson(f - b, a) + _pearson(f - a, b)


@batched
def ssim_sum(a: Grey, b: Grey, fused: Grey) -> Score:
    """SSIM: SSIM(F,A) + SSIM(F,B) with data range 2, -2 to 2. Higher is better.

    The data range behind published numbers comes from passing float images to an old scikit-image;
    it makes the stabilisers tiny (C1 4e-4, C2 3.6e-3), so one level of difference on a flat
    background costs much. Wang et al., IEEE TIP 2004. VIFB (`ssim_sum_vifb`) and Tang's toolbox
    (`ssim_mean_tang`) use Gaussian windows; IVIF_ZOO scales levels by 255 first, which is
    `gaussian_ssim` with a data range of 1.
    """
    return ssim(a, fused, data_range=2.0) + ssim(b, fused, data_range=2.0)


@batched
def ssim_sum_vifb(a: Grey, b: Grey, fused: Grey) -> Score:
    """SSIM(F,A) + SSIM(F,B) as Wang et al. defined it: Gaussian window, data range 255."""
    return gaussian_ssim(a, fused) + gaussian_ssim(b, fused)


@batched
def ssim_mean_tang(a: Grey, b: Grey, fused: Grey) -> Score:
    """(SSIM(F,A) + SSIM(F,B)) / 2 by MATLAB's `ssim` on doubles, whose data range is 1.

    Gaussian window over the whole image, whose border pixels are repeated.
    """
    a, b, fused = (jnp.pad(levels(x), GAUSSIAN // 2, mode="edge") for x in (a, b, fused))
    return (gaussian_ssim(a, fused, data_range=1.0) + gaussian_ssim(b, fused, data_range=1.0)) / 2


@batched
def ms_ssim_sum(a: Grey, b: Grey, fused: Grey, *, data_range: float = 255.0) -> Score:
    """MS-SSIM(F,A) + MS-SSIM(F,B), five scales, 0 to 2. Higher is better.

    Each is the product over the scales of mean contrast times structure (and luminance at the
    coarsest scale), raised to `MS_WEIGHTS`; negative means count as 0. Wang et al., Asilomar
    2003, in the code of pytorch-msssim: Gaussian window, scales halved by means of 2 x 2 with
    zeros before the first of an odd number of rows or columns. IVIF_ZOO has in effect a data
    range of 1, which gives about 0.2 less. Undefined below 161 pixels a side.
    """
    if min(fused.shape) < MS_SMALLEST:
        return jnp.float32(jnp.nan)
    a, b, f = (levels(x).astype(jnp.float32) for x in (a, b, fused))
    return _ms_ssim(jnp.stack([a, f]), data_range) + _ms_ssim(jnp.stack([b, f]), data_range)


@batched
def ssim(x: Grey, y: Grey, *, data_range: float = 255.0) -> Score:
    """Mean SSIM under a 7x7 uniform window that lies inside the image, -1 to 1 (equal).

    Sample covariance, K1 0.01, K2 0.03: scikit-image's defaults. Both sides must be at least 7.
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
    return mean(luminance * structure)


@batched
def gaussian_ssim(x: Grey, y: Grey, *, data_range: float = 255.0) -> Score:
    """Mean SSIM under an 11x11 Gaussian window inside the image, -1 to 1 (equal).

    Weighted variances, K1 0.01, K2 0.03. Both sides must be at least 11.
    """
    xy = jnp.stack([levels(x), levels(y)]).astype(jnp.float32)
    luminance, structure = _ssim_maps(xy, data_range)
    return mean(luminance * structure)


Maps = tuple[Float[Array, "i j"], Float[Array, "i j"]]


def _ssim_maps(xy: Float[Array, "2 h w"], data_range: float) -> Maps:
    """Luminance, and contrast times structure, of two images."""
    window = gaussian(GAUSSIAN, 1.5)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    mean_x, mean_y = means(xy, window)
    xx, yy, both = covariances(xy, ((0, 0), (1, 1), (0, 1)), window)
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return luminance, (2 * both + c2) / (xx + yy + c2)


def _ms_ssim(xy: Float[Array, "2 h w"], data_range: float) -> Scalar:
    score = jnp.float32(1)
    for weight in MS_WEIGHTS[:-1]:
        _, structure = _ssim_maps(xy, data_range)
        score *= jnp.maximum(mean(structure), 0) ** weight
        # Odd sides get one row of zeros in front, even sides none.
        xy = jnp.pad(xy, ((0, 0), *((side % 2, 0) for side in xy.shape[1:])))
        xy = reduce(xy, "k (h p) (w q) -> k h w", "mean", p=2, q=2)
    luminance, structure = _ssim_maps(xy, data_range)
    return score * jnp.maximum(mean(luminance * structure), 0) ** MS_WEIGHTS[-1]


def _pearson(x: Int[Array, "h w"], y: Int[Array, "h w"]) -> Scalar:
    x, y = centred(x), centred(y)
    return ratio(mean(x * y), jnp.sqrt(mean(x * x) * mean(y * y)))


def _window_sum(x: Int[Array, "h w"]) -> Int[Array, "i j"]:
    for axis in (0, 1):
        n = x.shape[axis] - WINDOW + 1
        shifts = (jax.lax.slice_in_dim(x, k, k + n, axis=axis) for k in range(WINDOW))
        x = sum(shifts, start=jnp.int32(0))
    return x
