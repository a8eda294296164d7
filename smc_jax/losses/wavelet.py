"""Sub-bands by lifting (Algorithm 2): predict the fine part from the coarse one, then update.

A lifting scheme turns the even and odd samples of a signal into a low and a high band. All schemes
are scaled alike: the low band of a constant is that constant, the high band of -1, 1, -1, 1… is 2.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from smc_jax.types import Features, Image


def _haar(even, odd):
    high = odd - even
    return even + high / 2, high


def _cdf53(even, odd):
    high = odd - (even + _next(even)) / 2
    return even + (high + _previous(high)) / 4, high


def _cdf97(even, odd):
    alpha, beta, gamma, delta = -1.586134342, -0.052980118, 0.882911076, 0.443506852
    scale = 1.230174105
    odd = odd + alpha * (even + _next(even))
    even = even + beta * (odd + _previous(odd))
    odd = odd + gamma * (even + _next(even))
    even = even + delta * (odd + _previous(odd))
    return even / scale, odd * scale


def _next(even):
    """The even sample after each odd one; the signal is mirrored about its last sample."""
    return jnp.concatenate([even[1:], even[-1:]])


def _previous(odd):
    """The odd sample before each even one; the signal is mirrored about its first sample."""
    return jnp.concatenate([odd[:1], odd[:-1]])


SCHEMES = {"haar": _haar, "cdf53": _cdf53, "cdf97": _cdf97}


def lift(
    x: Float[Array, "..."], axis: int, scheme: str = "haar"
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """One level of a wavelet along one axis; an odd length is padded with the last sample.

    Args:
      x: the signal.
      axis: the axis to transform.
      scheme: `haar`, `cdf53` or `cdf97`.

    Returns:
      The low and the high band, each half as long.
    """
    x = jnp.moveaxis(x, axis, 0)
    if len(x) % 2:
        x = jnp.concatenate([x, x[-1:]])
    low, high = SCHEMES[scheme](x[::2], x[1::2])
    return jnp.moveaxis(low, 0, axis), jnp.moveaxis(high, 0, axis)


def lift_channels(
    x: Features, scheme: str = "haar"
) -> tuple[Float[Array, "b h w half"], Float[Array, "b h w half"]]:
    """The literal Algorithm 2: the first half of the channels predicts the second half."""
    first, second = jnp.split(jnp.moveaxis(x, -1, 0), 2)
    low, high = SCHEMES[scheme](first, second)
    return jnp.moveaxis(low, 0, -1), jnp.moveaxis(high, 0, -1)


def lift_image(
    x: Image | Features, scheme: str = "haar"
) -> tuple[Float[Array, "b h2 w2 c"], Float[Array, "b h2 w2 c3"]]:
    """The two-dimensional transform, rows then columns.

    Returns:
      The low band LL, and the three high bands side by side along the channels.
    """
    low, high = lift(x, 1, scheme)
    (ll, lh), (hl, hh) = lift(low, 2, scheme), lift(high, 2, scheme)
    return ll, jnp.concatenate([lh, hl, hh], -1)
