"""Information metrics: the grey levels of the fused image and what they tell of the sources.

`h w` images hold grey levels 0..255. Definitions are those of CDDFuse's evaluator
(Zhao et al., CVPR 2023), whose numbers most fusion papers of today print.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Real

from smc_jax.metrics.levels import levels
from smc_jax.types import Scalar


@jax.jit
def entropy(fused: Real[Array, "h w"]) -> Scalar:
    """EN: -sum p log2 p of the 256-bin histogram, in bits. Higher is better.

    0 (flat) to 8. Roberts et al., J. Appl. Remote Sens. 2008.
    """
    p = _share(jnp.bincount(levels(fused).ravel(), length=256), fused.size)
    # Not -sum: a flat image would give -0.
    return jnp.sum(p * jnp.where(p > 0, -jnp.log2(jnp.where(p > 0, p, 1.0)), 0.0))


@jax.jit
def mutual_information(
    a: Real[Array, "h w"], b: Real[Array, "h w"], fused: Real[Array, "h w"]
) -> Scalar:
    """MI: I(F;A) + I(F;B) over 256 grey levels, in nats. Higher is better.

    0 (also when F or both sources are flat) to 2 ln 256 = 11.1. Qu et al., Electron. Lett. 2002;
    evaluators that count in bits print 1.4427 times as much.
    """
    return _shared(levels(fused), levels(a)) + _shared(levels(fused), levels(b))


def _shared(x: Int[Array, "h w"], y: Int[Array, "h w"]) -> Scalar:
    joint = jnp.bincount((256 * x + y).ravel(), length=256 * 256).reshape(256, 256)
    p = _share(joint, x.size)
    p_x = _share(jnp.sum(joint, 1, keepdims=True), x.size)
    p_y = _share(jnp.sum(joint, 0, keepdims=True), x.size)
    # One logarithm of the ratio: a difference of entropies would cancel in float32.
    ratio = jnp.where(joint > 0, p / jnp.where(joint > 0, p_x * p_y, 1.0), 1.0)
    return jnp.sum(jnp.sum(p * jnp.log(ratio), 1))


def _share(counts: Int[Array, "..."], total: int) -> Array:
    return counts.astype(jnp.float32) / total
