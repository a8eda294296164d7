"""The selective scan of Mamba (S6): one function, several implementations of it."""

import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float

from smc_jax.selective_scan import associative, chunked, reference

METHODS = {
    "reference": reference.scan,
    "associative": associative.scan,
    "chunked": chunked.scan,
}


def selective_scan(
    x: Float[Array, "b l d"],
    dt: Float[Array, "b l d"],
    A: Float[Array, "d n"],
    B: Float[Array, "b l n"] | Float[Array, "b l g n"],
    C: Float[Array, "b l n"] | Float[Array, "b l g n"],
    D: Float[Array, "d"] | None = None,
    *,
    reverse: bool = False,
    method: str = "auto",
    chunk: int | None = None,
) -> Float[Array, "b l d"]:
    """Runs the selective state space model along `l` (Gu and Dao 2023, Algorithm 2).

    For each channel, with a state h of n numbers that starts at zero::

        h[t] = exp(dt[t] A) h[t-1] + dt[t] B[t] x[t]
        y[t] = C[t] . h[t] + D x[t]

    The state is kept in float32 (float64 for float64 inputs) whatever the inputs' type.

    Args:
      x: the sequence.
      dt: step sizes, at least 0; already through softplus.
      A: decay rates, at most 0.
      B: how a token enters the state. With a group axis `g` that divides `d`, channels
        `[i d/g, (i+1) d/g)` share `B[:, :, i]`: independent scans ride side by side in one call.
      C: how the state is read, shaped like `B`.
      D: weight of the skip connection.
      reverse: scan from the last token to the first.
      method: `reference` (a loop over tokens), `associative` (`jax.lax.associative_scan`; needs
        memory for several (l, d, n) arrays), `chunked` (loops over tokens, keeps chunk boundaries
        only, analytic gradient), or `auto`: `chunked` on a CPU, else `associative`.
      chunk: tokens between two kept states of `chunked`; None lets it choose.

    Returns:
      y, of x's type.

    Raises:
      ValueError: an unknown method, or shapes that do not belong together.
    """
    method = _method(method)
    if B.ndim == 3:
        B, C = B[:, :, None], C[:, :, None]
    groups = B.shape[2]
    if B.shape != C.shape or dt.shape != x.shape or x.shape[2] % groups:
        raise ValueError(
            f"selective_scan: x {x.shape} and dt {dt.shape} must agree, B {B.shape} and "
            f"C {C.shape} too, and their {groups} groups must divide the {x.shape[2]} channels"
        )
    state = jnp.promote_types(x.dtype, jnp.float32)
    y = METHODS[method](
        rearrange(x.astype(state), "b l (g d) -> b l g d", g=groups),
        rearrange(dt.astype(state), "b l (g d) -> b l g d", g=groups),
        rearrange(A.astype(state), "(g d) n -> g d n", g=groups),
        B.astype(state),
        C.astype(state),
        reverse=reverse,
        chunk=chunk,
    )
    y = rearrange(y, "b l g d -> b l (g d)")
    if D is not None:
        y = y + D.astype(state) * x.astype(state)
    return y.astype(x.dtype)


def _method(method: str) -> str:
    if method == "auto":
        return "chunked" if jax.default_backend() == "cpu" else "associative"
    if method not in METHODS:
        raise ValueError(f"unknown scan method {method!r}; it may be auto, {', '.join(METHODS)}")
    return method
