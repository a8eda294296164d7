"""The selective scan for a GPU without a kernel: all chunks side by side.

A loop over the tokens of a chunk, for all chunks at once, gives the state that each chunk would
hand on had it started at zero; `lax.associative_scan` over these summaries gives the true start of
each chunk; a second loop from there gives the outputs. The gradient works the same way, backwards.

Shapes inside: k chunks of t tokens; states are "n k b g d".
"""

import jax.numpy as jnp
from einops import rearrange
from jax import export, lax
from jaxtyping import Array, Float

from smc_jax.selective_scan import tokens
from smc_jax.selective_scan.associative import combine
from smc_jax.selective_scan.shapes import Matrix, Rates, Sequence, State, States
from smc_jax.selective_scan.tokens import Tokens

# State elements that the gradient recomputes and holds at once; a turn takes as many chunks as fit.
HELD_STATE = 2**26


def forward(
    x: Sequence,
    dt: Sequence,
    A: Rates,
    B: Matrix,
    C: Matrix,
    start: State,
    *,
    reverse: bool,
    chunk: int,
) -> tuple[Sequence, State, States]:
    """See `analytic.Method`."""
    A = rearrange(A, "n g d -> n 1 1 g d")
    parts = _parts(x, dt, B, C, chunk)
    decay = jnp.exp(A * parts.dt.sum(0))
    handed = tokens.ends(jnp.zeros_like(decay), A, _merge(parts), reverse=reverse)
    starts, end = carry(decay, handed, start, reverse=reverse)
    _, y = tokens.outputs(starts, A, _merge(parts), reverse=reverse)
    y = rearrange(y.reshape(parts.x.shape), "t k b g d -> (k t) b g d")[: x.shape[0]]
    return y, end, rearrange(starts, "n k b g d -> k n b g d")


def backward(
    x: Sequence,
    dt: Sequence,
    A: Rates,
    B: Matrix,
    C: Matrix,
    starts: States,
    dy: Sequence,
    dend: State,
    *,
    reverse: bool,
    chunk: int,
) -> tuple[Sequence, Sequence, Rates, Matrix, Matrix, State]:
    """See `analytic.Method`."""
    A = rearrange(A, "n g d -> n 1 1 g d")
    parts, dy = _parts(x, dt, B, C, chunk), _lanes(dy, chunk)
    decay = jnp.exp(A * parts.dt.sum(0))
    handed = tokens.adjoint_ends(
        jnp.zeros_like(decay), A, _merge(parts), dy.reshape(chunk, -1), reverse=reverse
    )
    q, dstart = carry(decay, handed, dend, reverse=not reverse)

    def turn(inputs):
        start, q, dy, parts = inputs
        (_, dA), found = tokens.gradients(
            (q, jnp.zeros_like(q)), start, A, _merge(parts), dy.reshape(chunk, -1), reverse=reverse
        )
        shaped = (v.reshape(part.shape) for v, part in zip(found, parts, strict=True))
        return dA.sum((1, 2)), Tokens(*shaped)

    # When exported for any batch (`jax.export`), all chunks take one turn.
    held = parts.x.size * A.shape[0]
    turns = 1 if export.is_symbolic_dim(held) else -(-held // HELD_STATE)
    states = (_deal(v, 1, turns) for v in (rearrange(starts, "k n b g d -> n k b g d"), q))
    dealt = Tokens(*(_deal(v, axis, turns) for v, axis in zip(parts, (1, 1, 2, 2), strict=True)))
    dA, found = tokens.in_turn(turn, (*states, _deal(dy, 1, turns), dealt))
    dx, ddt = (rearrange(v, "m t k b g d -> (m k t) b g d") for v in (found.x, found.dt))
    dB, dC = (rearrange(v, "m t n k b g -> (m k t) n b g") for v in (found.B, found.C))
    dx, ddt, dB, dC = (v[: x.shape[0]] for v in (dx, ddt, dB, dC))
    return dx, ddt, dA.sum(0), dB, dC, dstart


def carry(
    decay: Float[Array, "n k b g d"],
    handed: Float[Array, "n k b g d"],
    start: State,
    *,
    reverse: bool,
) -> tuple[Float[Array, "n k b g d"], State]:
    """Returns the true state before each chunk, and the one after the last.

    Args:
      decay: the factor by which each chunk scales the state before it.
      handed: the state after each chunk, had it started at zero.
      start: the state before the first chunk.
    """
    first = handed.shape[1] - 1 if reverse else 0
    handed = handed.at[:, first].add(decay[:, first] * start)
    _, after = lax.associative_scan(combine, (decay, handed), reverse=reverse, axis=1)
    if reverse:
        return jnp.concatenate([after[:, 1:], start[:, None]], 1), after[:, 0]
    return jnp.concatenate([start[:, None], after[:, :-1]], 1), after[:, -1]


def _parts(x: Sequence, dt: Sequence, B: Matrix, C: Matrix, chunk: int) -> Tokens:
    """Rearranges "l b g d" to "t k b g d" and "l n b g" to "t n k b g"."""
    return Tokens(_lanes(x, chunk), _lanes(dt, chunk), *(_inner(v, chunk) for v in (B, C)))


def _lanes(v: Sequence, chunk: int) -> Float[Array, "t k b g d"]:
    return rearrange(_fill(v, chunk), "(k t) b g d -> t k b g d", t=chunk)


def _inner(v: Matrix, chunk: int) -> Float[Array, "t n k b g"]:
    return rearrange(_fill(v, chunk), "(k t) n b g -> t n k b g", t=chunk)


def _fill(v: Float[Array, "l *_"], chunk: int) -> Float[Array, "kt *_"]:
    """Pads the last chunk with zeros, which leave the state unchanged."""
    return jnp.pad(v, [(0, -v.shape[0] % chunk if axis == 0 else 0) for axis in range(4)])


def _merge(parts: Tokens) -> Tokens:
    """Merges all axes but the first, as the loops over tokens expect."""
    return Tokens(*(v.reshape(v.shape[0], -1) for v in parts))


def _deal(v: Array, axis: int, turns: int) -> Array:
    """Splits an axis of chunks into turns, the last padded with zeros; the turns come first."""
    size = -(-v.shape[axis] // turns)
    missing = size * turns - v.shape[axis]
    v = jnp.pad(v, [(0, missing if i == axis else 0) for i in range(v.ndim)])
    v = v.reshape(*v.shape[:axis], turns, size, *v.shape[axis + 1 :])
    return jnp.moveaxis(v, axis, 0)
