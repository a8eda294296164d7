"""Softplus, which makes step sizes of any numbers, by a series that a CPU has vectors of."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Numbers = Float[Array, "..."]


@jax.custom_jvp
def softplus(v: Numbers) -> Numbers:
    """log(1 + exp(v)), in float32 and float64 exact to the last digits however small it is."""
    return with_slope(v)[0]


@softplus.defjvp
def _forward_mode(primals, tangents):
    (v,), (dv,) = primals, tangents
    return softplus(v), with_slope(v)[1] * dv


def with_slope(v: Numbers, e: Numbers | None = None) -> tuple[Numbers, Numbers]:
    """softplus of v, and its derivative.

    Args:
      v: any numbers.
      e: exp(-|v|), from who makes it in another way.
    """
    if e is None:
        e = jnp.exp(-jnp.abs(v))
    # log(1 + e) = 2 artanh(e / (2 + e)), whose argument is at most 1/3: each term is a ninth of the
    # one before it, and those left out are less than a rounding.
    terms = 17 if v.dtype == jnp.float64 else 8
    part = 1 / (2 + e)
    square = (e * part) ** 2
    series = jnp.full_like(v, 1 / (2 * terms - 1))
    for power in range(2 * terms - 3, 0, -2):
        series = series * square + 1 / power
    # The least e are normal numbers, but not a third of them.
    value = jnp.maximum(v, 0) + e * (2 * part * series)
    return value, jnp.where(v >= 0, 1, e) / (1 + e)
