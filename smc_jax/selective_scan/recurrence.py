"""The recurrence alone, by any method, on arrays in the layout that the loops read."""

import jax.numpy as jnp

from smc_jax.selective_scan import analytic, associative, reference
from smc_jax.selective_scan.mapping import vary_alike
from smc_jax.selective_scan.shapes import Matrix, Rates, Sequence, State

METHODS = ("auto", "reference", "associative", *analytic.METHODS)


def recurrence(
    x: Sequence,
    dt: Sequence,
    A: Rates,
    B: Matrix,
    C: Matrix,
    start: State | None = None,
    *,
    reverse: bool = False,
    method: str = "auto",
    chunk: int | None = None,
) -> tuple[Sequence, State]:
    """Runs the scan without D, z and the transforms of dt; see `selective_scan`.

    Arrays have the tokens first and the states before the groups. Callers that already have this
    layout save a copy of each array.

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
