"""Softplus, which turns any numbers into step sizes, by a series that vectorises on a CPU."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Numbers = Float[Array, "..."]


@jax.custom_jvp
def softplus(v: Numbers) -> Numbers:
    """Returns log(1 + exp(v)), accurate to the last digits in float32 and float64 however small."""
    return with_slope(v)[0]


@softplus.defjvp
def _forward_mode(primals, tangents):
    (v,), (dv,) = primals, tangents
    return softplus(v), with_slope(v)[1] * dv


def with_slope(v: Numbers, e: Numbers | None = None) -> tuple[Numbers, Numbers]:
    """Returns softplus of v and its derivative.

    Args:
      v: any numbers.
      e: exp(-|v|), from callers that compute it in another way.
    """
    if e is None:
        e = jnp.exp(-jnp.abs(v))
    # log(1 + e) = 2 artanh(e / (2 + e)), whose argument is at most 1/3: each term is at most a
    # ninth of the one before it, and the terms left out are below the rounding error.
    terms = 17 if v.dtype == jnp.float64 else 8
    part = 1 / (2 + e)
    square = (e * part) ** 2
    series = jnp.full_like(v, 1 / (2 * terms - 1))
    for power in range(2 * terms - 3, 0, -2):
        series = series * square + 1 / power
    # Multiplied by e last: the smallest e is a normal number, but e * part may not be.
    value = jnp.maximum(v, 0) + e * (2 * part * series)
    return value, jnp.where(v >= 0, 1, e) / (1 + e)
