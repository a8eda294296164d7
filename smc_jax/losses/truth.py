"""Distance from the ground truth, for pairs that have one; not in the paper."""

import jax.numpy as jnp

from smc_jax.losses.edges import sobel
from smc_jax.types import Image, Scalar


def truth_loss(fused: Image, truth: Image) -> Scalar:
    """Mean absolute distance of F from the ground truth T, and of its derivatives from those of T.

    Simulated pairs and some data sets come with the image that the sources were made from. No rule
    on the sources says which one to follow at an edge of focus, or what an overexposed area hides.

    Args:
      fused: I_mf.
      truth: T; pixels below 0 are unknown and take the value of F.
    """
    truth = jnp.where(truth < 0, fused, truth)
    slopes = zip(sobel(fused), sobel(truth), strict=True)
    return jnp.abs(fused - truth).mean() + sum(jnp.abs(f - t).mean() for f, t in slopes)
