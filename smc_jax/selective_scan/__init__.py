"""The selective scan of Mamba (S6): one function with several implementations."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import Array, Float

from smc_jax.selective_scan.recurrence import METHODS, check_method, recurrence
from smc_jax.selective_scan.softplus import softplus

__all__ = ["METHODS", "selective_scan"]

OPTIONAL = ("D", "z", "dt_bias", "initial_state")

Sequence = Float[Array, "b l d"]
State = Float[Array, "b d n"]


def selective_scan(
    x: Sequence,
    dt: Sequence,
    A: Float[Array, "d n"],
    B: Float[Array, "b l n"] | Float[Array, "b l g n"],
    C: Float[Array, "b l n"] | Float[Array, "b l g n"],
    D: Float[Array, "d"] | None = None,
    *,
    z: Sequence | None = None,
    dt_bias: Float[Array, "d"] | None = None,
    dt_softplus: bool = False,
    reverse: bool = False,
    initial_state: State | None = None,
    return_final_state: bool = False,
    method: str = "auto",
    chunk: int | None = None,
) -> Any:
    """Runs the selective state space model along `l` (Gu and Dao 2023, Algorithm 2).

    For each channel, with a state h of n numbers::

        h[t] = exp(dt[t] A) h[t-1] + dt[t] B[t] x[t]
        y[t] = (C[t] . h[t] + D x[t]) silu(z[t])

    The arguments are those of mamba-ssm's `selective_scan_fn`, with the length before the channels.
    The state is kept in float32 even if the inputs have a lower precision, and in float64 if `x`
    is float64. Under `jax.vmap` the mapped scans run side by side in one call. `reference` and
    `associative` can be differentiated any number of times and in either mode; the other methods
    define their own gradient, which supports reverse mode only, and only once.

    Args:
      x: the sequence.
      dt: step sizes, at least 0 (after `dt_bias` and `dt_softplus`).
      A: decay rates, at most 0.
      B: how a token enters the state. With a group axis `g`, which must divide `d`, channels
        `[i d/g, (i+1) d/g)` share `B[:, :, i]`: independent scans run side by side in one call.
      C: how the state is read, shaped like `B`.
      D: weight of the skip connection.
      z: gate.
      dt_bias: added to `dt`.
      dt_softplus: whether to apply softplus to `dt` after adding `dt_bias`.
      reverse: whether to scan from the last token to the first.
      initial_state: h before the first token that is scanned; zero if None.
      return_final_state: whether to return h after the last token that is scanned as well.
      method: `reference` (a loop over tokens), `associative` (`jax.lax.associative_scan`; needs
        memory for several (l, d, n) arrays), `chunked` (loops over tokens that keep only the states
        at chunk boundaries), `two_level` (all chunks side by side), `pallas` (`two_level` as
        kernels, in float32, for NVIDIA GPUs from Hopper on), or `auto`, which chooses when the
        program is compiled: `pallas` where its kernels run, up to 32 states, else `two_level` on
        GPUs and `chunked` elsewhere.
      chunk: number of tokens between two kept states (`reference` and `associative` ignore it);
        None lets the method choose.

    Returns:
      y, "b l d" of x's type; with `return_final_state` a pair of y and the final state, "b d n".

    Raises:
      ValueError: an unknown method, an empty axis, shapes that do not match, or a chunk below 1;
        `pallas` in float64, or when compiled for a platform other than CUDA.
      TypeError: an argument that is not a floating-point array, or a chunk that is not an int.
    """
    trimmings = {"D": D, "z": z, "dt_bias": dt_bias, "initial_state": initial_state}
    x, dt, A, B, C, D, z, dt_bias, initial_state = _checked(
        method, chunk, x=x, dt=dt, A=A, B=B, C=C, **trimmings
    )
    if B.ndim == 3:
        B, C = B[:, :, None], C[:, :, None]
    groups = B.shape[2]
    state = jnp.promote_types(x.dtype, jnp.float32)
    dt = dt.astype(state)
    if dt_bias is not None:
        dt = dt + dt_bias.astype(state)
    if dt_softplus:
        dt = softplus(dt)
    if initial_state is not None:
        initial_state = initial_state.astype(state)
        initial_state = rearrange(initial_state, "b (g d) n -> n b g d", g=groups)
    y, end = recurrence(
        rearrange(x.astype(state), "b l (g d) -> l b g d", g=groups),
        rearrange(dt, "b l (g d) -> l b g d", g=groups),
        rearrange(A.astype(state), "(g d) n -> n g d", g=groups),
        rearrange(B.astype(state), "b l g n -> l n b g"),
        rearrange(C.astype(state), "b l g n -> l n b g"),
        initial_state,
        reverse=reverse,
        method=method,
        chunk=chunk,
    )
    y = rearrange(y, "l b g d -> b l (g d)")
    if D is not None:
        y = y + D.astype(state) * x.astype(state)
    if z is not None:
        y = y * jax.nn.silu(z.astype(state))
    y = y.astype(x.dtype)
    return (y, rearrange(end, "n b g d -> b (g d) n")) if return_final_state else y


def _checked(method: str, chunk: Any, **given: Any) -> list[Any]:
    """Checks that the arguments fit together and returns them as JAX arrays, or None if omitted."""
    check_method(method)
    if chunk is not None and not isinstance(chunk, int | np.integer):
        raise TypeError(f"selective_scan: chunk is {chunk!r}; expected an int")
    if chunk is not None and chunk < 1:
        raise ValueError(f"selective_scan: chunk is {chunk}; it must be at least 1")
    for name, value in given.items():
        if value is None and name in OPTIONAL:
            continue
        if not hasattr(value, "shape"):
            kind = type(value).__name__
            raise TypeError(f"selective_scan: {name} is of type {kind}; expected an array")
        if not jnp.issubdtype(value.dtype, jnp.floating):
            raise TypeError(f"selective_scan: {name} is {value.dtype}; expected floating point")
    x, B = given["x"], given["B"]
    if x.ndim != 3:
        raise ValueError(f"selective_scan: x has shape {x.shape}; expected (b, l, d)")
    if not x.size * B.size:
        raise ValueError(
            f"selective_scan: x has shape {x.shape} and B {B.shape}; no axis may be empty"
        )
    batch, length, width = x.shape
    if B.ndim not in (3, 4) or (B.ndim == 4 and width % B.shape[2]):
        raise ValueError(
            f"selective_scan: B has shape {B.shape}; expected (b, l, n) or (b, l, g, n) with g "
            f"that divides the {width} channels of x"
        )
    states = B.shape[-1]
    expected = {
        "x": (batch, length, width),
        "dt": (batch, length, width),
        "A": (width, states),
        "B": (batch, length, *B.shape[2:]),
        "C": B.shape,
        "D": (width,),
        "z": (batch, length, width),
        "dt_bias": (width,),
        "initial_state": (batch, width, states),
    }
    for name in ("B", *given):  # B comes first: the shapes of A and others follow from it.
        value = given[name]
        if value is not None and value.shape != expected[name]:
            raise ValueError(
                f"selective_scan: {name} has shape {value.shape}; expected {expected[name]}"
            )
    return [value if value is None else jnp.asarray(value) for value in given.values()]
