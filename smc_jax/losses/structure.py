"""Agreement of the fused image's structure with the stronger structure of its sources."""

import jax.numpy as jnp
import numpy as np
from einops import rearrange, reduce
from jax import lax
from jaxtyping import Array, Float

from smc_jax.losses import window
from smc_jax.metrics import mef
from smc_jax.types import Image, Scalar


def structure_loss(fused: Image, a: Image, b: Image) -> Scalar:
    """Weighted mean of 1 - MEF-SSIM over three scales, between 0 and 2; not in the paper.

    MEF-SSIM (Ma, Zeng and Wang 2015) compares each patch of F, less its mean, with a mixture of
    both sources' patches that is as strong as the stronger one. `metrics.mef` multiplies the
    scales; this averages them.

    Args:
      fused: I_mf.
      a: the first sources, at least 11x11; scales whose window does not fit are left out.
      b: the second sources.
    """
    x = 255 * jnp.stack([a, b, fused])
    x -= x.mean((2, 3, 4), keepdims=True)
    lost, weights = jnp.zeros(()), 0.0
    for weight in mef.WEIGHTS:
        # How A and B are mixed depends on the sources alone, and sqrt has no finite gradient on
        # flat patches: no gradient through it.
        square = _covariances(lax.stop_gradient(x), mef.SOURCES, sigma=np.inf)
        weighted = _covariances(x, mef.WITH_FUSED, sigma=1.5)
        lost += weight * (1 - mef.agreement(square, weighted).mean())
        weights += weight
        height, width = x.shape[2:4]
        x = x[:, :, : height - height % 2, : width - width % 2]
        x = reduce(x, "k b (h p) (w q) c -> k b h w c", "mean", p=2, q=2)
        if min(x.shape[2:4]) < mef.SIDE:
            break
    return lost / weights


def _covariances(
    x: Float[Array, "3 b h w 1"], pairs: tuple[tuple[int, int], ...], sigma: float
) -> Float[Array, "p b i j 1"]:
    """Covariances of pairs of A, B and F (0, 1 and 2) under an 11x11 Gaussian window."""
    first, second = (x[jnp.array(side)] for side in zip(*pairs, strict=True))
    # The batch axis comes first, so that devices that share the batch need not gather it.
    images = rearrange(jnp.stack([first * second, first, second]), "m p b h w c -> (b m p) h w c")
    means = window.means(images, mef.SIDE, sigma)
    products, first, second = rearrange(means, "(b m p) i j c -> m p b i j c", m=3, p=len(pairs))
    return products - first * second
