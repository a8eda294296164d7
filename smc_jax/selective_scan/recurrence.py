"""The recurrence itself, by any method, on arrays that lie as the loops read them."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from smc_jax.selective_scan import analytic, associative, reference
from smc_jax.selective_scan.mapping import vary_alike

METHODS = ("auto", "reference", "associative", *analytic.METHODS)


def recurrence(
    x: Float[Array, "l b g d"],
    dt: Float[Array, "l b g d"],
    A: Float[Array, "n g d"],
    B: Float[Array, "l n b g"],
    C: Float[Array, "l n b g"],
    start: Float[Array, "n b g d"] | None = None,
    *,
    reverse: bool = False,
    method: str = "auto",
    chunk: int | None = None,
) -> tuple[Float[Array, "l b g d"], Float[Array, "n b g d"]]:
    """`selective_scan` without its trimmings, tokens first, states before groups.

    Who makes the arrays in this order spares a copy of each.

    Returns:
      y without the skip connection, and the final state.
    """
    check_method(method)
    if start is None:
        start = jnp.zeros((A.shape[0], *x.shape[1:]), x.dtype)
    x, dt, A, B, C, start = vary_alike(x, dt, A, B, C, start)
    if method == "reference":
        return reference.scan(x, dt, A, B, C, start, reverse=reverse)
    if method == "associative":
        return associative.scan(x, dt, A, B, C, start, reverse=reverse)
    chunk = min(chunk, x.shape[0]) if chunk else analytic.chunk_of(x.shape[0], method)
    return analytic.scan(x, dt, A, B, C, start, method, reverse, chunk)


def check_method(method: str) -> None:
    """Raises ValueError if there is no such method."""
    if method not in METHODS:
        known = ", ".join(METHODS)
        raise ValueError(f"selective_scan: unknown method {method!r}; it may be {known}")
