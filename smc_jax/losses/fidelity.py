"""Visual information fidelity: how much of what is visible in the sources is visible in F."""

from functools import partial

import jax.numpy as jnp
from jaxtyping import Array, Float

from smc_jax.losses import window
from smc_jax.types import Image, Scalar

NOISE = 2 / 255**2
"""Variance of the visual noise: 2 squared grey levels of 255."""
FLAT = 0.1
"""Information per pixel, in nats, far below which a source has no visible content: that of a
variance of 0.2 squared grey levels."""
TINY = 1e-8

Sources = Float[Array, "2 b"]
"""One number per source and image."""


def fidelity_loss(fused: Image, a: Image, b: Image) -> Scalar:
    """2 - VIF(F, A) - VIF(F, B), at most 2; below 0 if F has more contrast; not in the paper.

    VIF is the share of the information of a source, seen through noise, that F lets through
    (Sheikh and Bovik 2006), at four scales, each half as wide as the one before. While a mean
    absolute distance counts every pixel alike, this counts the places with visible content.

    Args:
      fused: I_mf.
      a: the first sources, at least 17x17; scales whose window does not fit are left out.
      b: the second sources.
    """
    kept, there = (jnp.zeros((2, len(fused))) for _ in range(2))
    images = tuple(x - x.mean((1, 2, 3), keepdims=True) for x in (fused, a, b))
    for scale in range(4):
        size = 2 ** (4 - scale) + 1
        if scale:
            images = tuple(window.means(x, size, size / 5, stride=2) for x in images)
        if min(images[0].shape[1:3]) < size:
            break
        kept_here, there_here = _information(images[0], images[1], images[2], size)
        kept, there = kept + kept_here, there + there_here
    floor = FLAT * fused[0].size
    return 2 - ((kept + floor) / (there + floor)).sum(0).mean()


def _information(fused: Image, a: Image, b: Image, size: int) -> tuple[Sources, Sources]:
    """Information of each source, the part that F keeps and all of it, summed in nats."""
    means = partial(window.means, size=size, sigma=size / 5)
    mean = means(fused)
    variance = means(fused**2) - mean**2
    kept, there = [], []
    for source in (a, b):
        mean_source = means(source)
        spread = jnp.maximum(means(source**2) - mean_source**2, 0)
        shared = jnp.maximum(means(fused * source) - mean * mean_source, 0) ** 2 / (spread + TINY)
        rest = jnp.maximum(variance - shared, 0)
        kept.append(jnp.log1p(shared / (rest + NOISE)).sum((1, 2, 3)))
        there.append(jnp.log1p(spread / NOISE).sum((1, 2, 3)))
    return jnp.stack(kept), jnp.stack(there)
