"""Losses on the experts of MCCM (Eq. 20-24), which should share the work, differ early in training
and agree at its end.
"""

import jax.numpy as jnp
from einops import rearrange
from jax import lax
from jaxtyping import Array, Float

from smc_jax.types import Features, Scalar

Outputs = Float[Array, "e b h w c"]


def lambda_t(progress: Scalar | float) -> Scalar:
    """lambda(t) = cos(t/T pi/2) (Eq. 24), for a progress t/T in [0, 1]: from 1 down to 0."""
    return jnp.cos(progress * jnp.pi / 2)


def balance(weights: Float[Array, "b e"]) -> Scalar:
    """L_wb (Eq. 20): squared ratio of the standard deviation (of the population, ours) to the mean.

    With two of four experts chosen for an image it cannot fall below 1.
    """
    return (weights.var(-1) / (weights.mean(-1) ** 2 + 1e-8)).mean()


def running_balance(importance: Float[Array, "b e"], running: Float[Array, "e"]) -> Scalar:
    """L_wb over many images (ours), so that experts share work over a data set, not in an image.

    The value is L_wb of the `running` mean of the importance; the gradient flows through this
    batch's mean.
    """
    now = importance.mean(0)
    return balance((now + lax.stop_gradient(running - now))[None])


def diversity(experts: Outputs, clamp: bool = False) -> Scalar:
    """L_div (Eq. 21): mean cosine similarity between the experts' outputs for an image.

    Args:
      experts: the output of every expert.
      clamp: count negative similarities of a pair as 0, so that anti-parallel experts gain nothing
        (and do not make up for others that are alike).
    """
    count = len(experts)
    if count == 1:
        return jnp.zeros(())
    flat = rearrange(experts, "e b h w c -> e b (h w c)")
    # The gradient of a cosine grows as an output shrinks; the 1e-8 bounds it once the root mean
    # square is below 1e-4.
    flat = flat * lax.rsqrt((flat**2).mean(-1, keepdims=True) + 1e-8)
    cosine = jnp.einsum("i b p, j b p -> b i j", flat, flat) / flat.shape[-1]
    if clamp:
        cosine = cosine.clip(0.0)
    return (cosine * (1 - jnp.eye(count))).sum((1, 2)).mean() / (count * (count - 1))


def consensus(experts: Outputs, fused: Features, weights: Float[Array, "b e"]) -> Scalar:
    """L_cons (Eq. 22-23): weighted mean squared distance of the experts from their weighted sum."""
    apart = ((experts - fused) ** 2).mean((2, 3, 4))
    return jnp.einsum("e b, b e -> b", apart, weights).mean()
