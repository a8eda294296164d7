"""The selective scan for a GPU without a kernel: all chunks side by side.

A loop over the tokens of a chunk, for all chunks at once, gives what each would hand on had it
started at zero; `lax.associative_scan` over these summaries gives the true start of each; and a
second loop from there, the outputs. The gradient is made in the same way, backwards.

Shapes inside: k chunks of t tokens; states are "n b k g d".
"""

import jax
import jax.numpy as jnp
from einops import rearrange
from jax import lax

from smc_jax.selective_scan import tokens
from smc_jax.selective_scan.associative import combine
from smc_jax.selective_scan.tokens import Tokens

# Numbers of state that the gradient recomputes and holds at once, for as many chunks as fit.
HELD_STATE = 2**26


def forward(x, dt, A, B, C, start, *, reverse: bool, chunk: int):
    """See `analytic.Method`."""
    A = rearrange(A, "g d n -> n 1 1 g d")
    parts = Tokens(*(_chunks(v, chunk) for v in (x, dt, B, C)))
    decay = jnp.exp(A * parts.dt.sum(0))
    handed = tokens.ends(jnp.zeros_like(decay), A, _merge(parts), reverse=reverse)
    starts, end = _carry(decay, handed, start, reverse=reverse)
    _, y = tokens.outputs(starts, A, _merge(parts), reverse=reverse)
    return _join(y.reshape(parts.x.shape), x), end, rearrange(starts, "n b k g d -> b k g d n")


def backward(x, dt, A, B, C, starts, dy, dend, *, reverse: bool, chunk: int):
    """See `analytic.Method`."""
    A = rearrange(A, "g d n -> n 1 1 g d")
    parts = Tokens(*(_chunks(v, chunk) for v in (x, dt, B, C)))
    dy = _chunks(dy, chunk)
    decay = jnp.exp(A * parts.dt.sum(0))
    handed = tokens.adjoint_ends(
        jnp.zeros_like(decay), A, _merge(parts), dy.reshape(chunk, -1), reverse=reverse
    )
    q, dstart = _carry(decay, handed, dend, reverse=not reverse)

    def turn(inputs):
        start, q, parts, dy = inputs
        (_, dA), found = tokens.gradients(
            (q, jnp.zeros_like(q)), start, A, _merge(parts), dy.reshape(chunk, -1), reverse=reverse
        )
        return dA.sum((1, 2)), _split(found, parts)

    starts = rearrange(starts, "b k g d n -> n b k g d")
    turns = -(-parts.x.size * A.shape[0] // HELD_STATE)
    dA, found = tokens.in_turn(
        turn, jax.tree.map(lambda v: _deal(v, turns), (starts, q, parts, dy))
    )
    found = (rearrange(v, "m t b k g c -> t b (m k) g c") for v in found)
    gradients = (_join(v, like) for v, like in zip(found, (x, dt, B, C), strict=True))
    dx, ddt, dB, dC = gradients
    return dx, ddt, rearrange(dA.sum(0), "n g d -> g d n"), dB, dC, dstart


def _carry(decay, handed, start, *, reverse: bool):
    """The true state before each chunk, and after the last.

    Args:
      decay: what a chunk leaves of the state before it, "n b k g d".
      handed: the state after a chunk that started at zero, likewise.
      start: the state before the first chunk, "b g d n".
    """
    start = rearrange(start, "b g d n -> n b 1 g d")
    k = handed.shape[2]
    first = k - 1 if reverse else 0
    handed = handed.at[:, :, first].add(decay[:, :, first] * start[:, :, 0])
    _, after = lax.associative_scan(combine, (decay, handed), reverse=reverse, axis=2)
    if reverse:
        before, end = jnp.concatenate([after[:, :, 1:], start], 2), after[:, :, 0]
    else:
        before, end = jnp.concatenate([start, after[:, :, :-1]], 2), after[:, :, -1]
    return before, rearrange(end, "n b g d -> b g d n")


def _chunks(v, chunk: int):
    """ "b l g c" as "t b k g c". Zeros fill the last chunk: they leave the state as it is."""
    v = jnp.pad(v, ((0, 0), (0, -v.shape[1] % chunk), (0, 0), (0, 0)))
    return rearrange(v, "b (k t) g c -> t b k g c", t=chunk)


def _join(v, like):
    """The inverse, of the length of `like`."""
    return rearrange(v, "t b k g c -> b (k t) g c")[:, : like.shape[1]]


def _merge(parts: Tokens) -> Tokens:
    """As the loops over tokens take them."""
    x, dt = (v.reshape(v.shape[0], -1) for v in (parts.x, parts.dt))
    B, C = (rearrange(v, "t b k g n -> t (n b k g)") for v in (parts.B, parts.C))
    return Tokens(x, dt, B, C)


def _split(merged: Tokens, parts: Tokens) -> Tokens:
    """The inverse, in the shapes of `parts`."""
    x, dt = (v.reshape(parts.x.shape) for v in (merged.x, merged.dt))
    _, b, k, _, n = parts.B.shape
    B, C = (rearrange(v, "t (n b k g) -> t b k g n", n=n, b=b, k=k) for v in (merged.B, merged.C))
    return Tokens(x, dt, B, C)


def _deal(v, turns: int):
    """The chunks of "t b k g c" (or of states) divided into turns, the last filled with zeros."""
    size = -(-v.shape[2] // turns)
    v = jnp.pad(v, [(0, -n % size if i == 2 else 0) for i, n in enumerate(v.shape)])
    return rearrange(v, "t b (m k) g c -> m t b k g c", k=size)
