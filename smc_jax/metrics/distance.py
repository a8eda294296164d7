"""Distances: mean squared errors of the fused image, in grey levels and in dB.

A fused image cannot equal both sources, so these metrics reward the average of both.
"""

import jax.numpy as jnp

from smc_jax.metrics.levels import Grey, Score, batched, levels, mean, ratio

PEAK = 255.0


@batched
def mse(a: Grey, b: Grey, fused: Grey) -> Score:
    """MSE: (mean (A-F)^2 + mean (B-F)^2) / 2, 0 to 65025. Lower is better.

    Tang's toolbox and IVIF_ZOO scale the images to 0..1 (`mse_tang`); the RMSE of VIFB is the
    mean of sqrt(sum (A-F)^2) / (h w) over both sources.
    """
    return (_squared_error(a, fused) + _squared_error(b, fused)) / 2


@batched
def mse_tang(a: Grey, b: Grey, fused: Grey) -> Score:
    """MSE of images that are scaled to 0..1, 0 to 1."""
    return mse(a, b, fused) / PEAK**2


@batched
def psnr_of_sources(a: Grey, b: Grey, fused: Grey) -> Score:
    """PSNR: 10 log10(max(F)^2 / MSE), in dB, typically about 15. Higher is better.

    As in CDDFuse, the peak is the brightest level of F. Undefined where F is black or equals both
    sources. Other evaluators print about 60: `psnr_tang`, also IVIF_ZOO's, and `psnr_vifb`.
    """
    # Where PSNR is undefined the ratio is NaN or 0; the logarithm of 0 would be -inf, not NaN.
    power = ratio(jnp.square(jnp.max(levels(fused)).astype(jnp.float32)), mse(a, b, fused))
    return 10 * jnp.log10(jnp.where(power > 0, power, jnp.nan))


@batched
def psnr_tang(a: Grey, b: Grey, fused: Grey) -> Score:
    """PSNR with peak 255 and the MSE of images in 0..1: 48.13 dB too high. Higher is better.

    Undefined where F equals both sources.
    """
    return 10 * jnp.log10(ratio(jnp.float32(PEAK**2), mse_tang(a, b, fused)))


@batched
def psnr_vifb(a: Grey, b: Grey, fused: Grey) -> Score:
    """PSNR of VIFB and MEFB: 10 log10(255^2 / e), e the mean of sqrt(sum (A-F)^2) / (h w).

    e shrinks as images grow. Higher is better. Undefined where F equals both sources.
    """
    roots = sum(jnp.sqrt(_squared_error(source, fused)) for source in (a, b))
    return 10 * jnp.log10(ratio(jnp.float32(PEAK**2), roots / (2 * fused.size**0.5)))


@batched
def psnr(truth: Grey, fused: Grey) -> Score:
    """PSNR against a ground truth: 10 log10(255^2 / mean (truth - F)^2). Higher is better.

    Equal images give 100, not infinity, so that a mean over images stays a number.
    """
    error = jnp.maximum(_squared_error(truth, fused), 1e-9)
    return jnp.minimum(10 * jnp.log10(PEAK**2 / error), 100.0)


def _squared_error(x: Grey, y: Grey) -> Score:
    return mean(jnp.square(levels(x) - levels(y)))
