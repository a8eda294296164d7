"""The selective scan for a GPU without a kernel: all chunks side by side.

A loop over the tokens of a chunk, for all chunks at once, gives what each would hand on had it
started at zero; `lax.associative_scan` over these summaries gives the true start of each; and a
second loop from there, the outputs. The gradient is made in the same way, backwards.

Shapes inside: k chunks of t tokens; states are "n k b g d".
"""

import jax.numpy as jnp
from einops import rearrange
from jax import export, lax

from smc_jax.selective_scan import tokens
from smc_jax.selective_scan.associative import combine
from smc_jax.selective_scan.tokens import Tokens

# Numbers of state that the gradient recomputes and holds at once, for as many chunks as fit.
HELD_STATE = 2**26


def forward(x, dt, A, B, C, start, *, reverse: bool, chunk: int):
    """See `analytic.Method`."""
    A = rearrange(A, "n g d -> n 1 1 g d")
    parts = _parts(x, dt, B, C, chunk)
    decay = jnp.exp(A * parts.dt.sum(0))
    handed = tokens.ends(jnp.zeros_like(decay), A, _merge(parts), reverse=reverse)
    starts, end = carry(decay, handed, start, reverse=reverse)
    _, y = tokens.outputs(starts, A, _merge(parts), reverse=reverse)
    y = rearrange(y.reshape(parts.x.shape), "t k b g d -> (k t) b g d")[: x.shape[0]]
    return y, end, rearrange(starts, "n k b g d -> k n b g d")


def backward(x, dt, A, B, C, starts, dy, dend, *, reverse: bool, chunk: int):
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

    # Exported for any batch (`jax.export`), all take one turn.
    held = parts.x.size * A.shape[0]
    turns = 1 if export.is_symbolic_dim(held) else -(-held // HELD_STATE)
    states = (_deal(v, 1, turns) for v in (rearrange(starts, "k n b g d -> n k b g d"), q))
    dealt = Tokens(*(_deal(v, axis, turns) for v, axis in zip(parts, (1, 1, 2, 2), strict=True)))
    dA, found = tokens.in_turn(turn, (*states, _deal(dy, 1, turns), dealt))
    dx, ddt = (rearrange(v, "m t k b g d -> (m k t) b g d") for v in (found.x, found.dt))
    dB, dC = (rearrange(v, "m t n k b g -> (m k t) n b g") for v in (found.B, found.C))
    dx, ddt, dB, dC = (v[: x.shape[0]] for v in (dx, ddt, dB, dC))
    return dx, ddt, dA.sum(0), dB, dC, dstart


def carry(decay, handed, start, *, reverse: bool):
    """The true state before each chunk, and after the last.

    Args:
      decay: what a chunk leaves of the state before it, "n k b g d".
      handed: the state after a chunk that started at zero, likewise.
      start: the state before the first chunk, "n b g d".
    """
    first = handed.shape[1] - 1 if reverse else 0
    handed = handed.at[:, first].add(decay[:, first] * start)
    _, after = lax.associative_scan(combine, (decay, handed), reverse=reverse, axis=1)
    if reverse:
        return jnp.concatenate([after[:, 1:], start[:, None]], 1), after[:, 0]
    return jnp.concatenate([start[:, None], after[:, :-1]], 1), after[:, -1]


def _parts(x, dt, B, C, chunk: int) -> Tokens:
    """ "l b g d" as "t k b g d", "l n b g" as "t n k b g"."""
    return Tokens(_lanes(x, chunk), _lanes(dt, chunk), *(_inner(v, chunk) for v in (B, C)))


def _lanes(v, chunk: int):
    return rearrange(_fill(v, chunk), "(k t) b g d -> t k b g d", t=chunk)


def _inner(v, chunk: int):
    return rearrange(_fill(v, chunk), "(k t) n b g -> t n k b g", t=chunk)


def _fill(v, chunk: int):
    """Zeros fill the last chunk: they leave the state as it is."""
    return jnp.pad(v, [(0, -v.shape[0] % chunk if axis == 0 else 0) for axis in range(4)])


def _merge(parts: Tokens) -> Tokens:
    """As the loops over tokens take them."""
    return Tokens(*(v.reshape(v.shape[0], -1) for v in parts))


def _deal(v, axis: int, turns: int):
    """An axis of chunks divided into turns, the last filled with zeros; the turns come first."""
    size = -(-v.shape[axis] // turns)
    missing = size * turns - v.shape[axis]
    v = jnp.pad(v, [(0, missing if i == axis else 0) for i in range(v.ndim)])
    v = v.reshape(*v.shape[:axis], turns, size, *v.shape[axis + 1 :])
    return jnp.moveaxis(v, axis, 0)
