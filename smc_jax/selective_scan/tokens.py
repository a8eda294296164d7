"""Loops over the tokens of a chunk, for any number of scans side by side.

The state h is an array "n *s d": n numbers for each of d channels of s scans. The arrays that a
loop reads and writes for a token have a single axis, "(*s d)" for x and dt and "(n *s)" for B and
C, because an axis of length one (a single scan) would make the compiler copy the whole array. A may
have axes of length one where scans share it.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PyTree

State = Float[Array, "n *s d"]


class Tokens(NamedTuple):
    """The t tokens of a chunk."""

    x: Float[Array, "t sd"]
    dt: Float[Array, "t sd"]
    B: Float[Array, "t ns"]
    C: Float[Array, "t ns"]


def outputs(
    start: State, A: Float[Array, "n *#s d"], tokens: Tokens, *, reverse: bool
) -> tuple[State, Float[Array, "t sd"]]:
    """Returns the state after a chunk, and y of its tokens."""

    def step(h, token):
        x, dt, B, C = split(h.shape, *token)
        h = jnp.exp(dt * A) * h + (dt * x) * B
        return h, (h * C).sum(0).reshape(-1)

    return lax.scan(step, start, tokens, reverse=reverse)


def ends(start: State, A: Float[Array, "n *#s d"], tokens: Tokens, *, reverse: bool) -> State:
    """Returns only the state after a chunk."""

    def step(h, token):
        x, dt, B, _ = split(h.shape, *token)
        return jnp.exp(dt * A) * h + (dt * x) * B, None

    return lax.scan(step, start, tokens, reverse=reverse)[0]


def adjoint_ends(
    q: State, A: Float[Array, "n *#s d"], tokens: Tokens, dy: Float[Array, "t sd"], *, reverse: bool
) -> State:
    """Returns the gradient of the state before a chunk, given that of the state after it, `q`."""

    def step(q, token):
        *token, dy = token
        _, dt, _, C = split(q.shape, *token)
        return jnp.exp(dt * A) * (q + C * dy.reshape(dt.shape)), None

    return lax.scan(step, q, (*tokens, dy), reverse=not reverse)[0]


def gradients(
    carry: tuple[State, State],
    start: State,
    A: Float[Array, "n *#s d"],
    tokens: Tokens,
    dy: Float[Array, "t sd"],
    *,
    reverse: bool,
) -> tuple[tuple[State, State], Tokens]:
    """Recomputes the states of a chunk from its `start`, and runs back through them.

    Args:
      carry: the gradient of the state after the chunk, and the sum of dA so far.

    Returns:
      The carry before the chunk, and the gradients of the tokens.
    """

    def recompute(h, token):
        x, dt, B, _ = split(h.shape, *token)
        return jnp.exp(dt * A) * h + (dt * x) * B, h

    def step(carry, token):
        q, dA = carry
        *token, dy, before = token
        a = decay(q.shape, token[1], A)
        x, dt, B, C = split(q.shape, *token)
        dy = dy.reshape(dt.shape)
        g = q + C * dy
        found, slope = slopes(g, a * before, A, x, dt, B, dy)
        return (g * a, dA + slope), found

    _, before = lax.scan(recompute, start, tokens, reverse=reverse)
    return lax.scan(step, carry, (*tokens, dy, before), reverse=not reverse)


def slopes(
    g: State,
    kept: State,
    A: Float[Array, "n *#s d"],
    x: Float[Array, "*s d"],
    dt: Float[Array, "*s d"],
    B: Float[Array, "n *#s 1"],
    dy: Float[Array, "*s d"],
) -> tuple[Tokens, State]:
    """Returns the gradients of one token, in the loops' layout, and its contribution to dA.

    Args:
      g: the gradient of the state h after the token: q, which reaches h from later tokens, plus
        C dy. It passes exp(dt A) g on to the state before.
      kept: the part of h that stems from the state before: exp(dt A) times that state.
    """
    shared = tuple(axis for axis in range(1, B.ndim) if B.shape[axis] == 1)
    entering = dt * x
    slope = g * kept
    through_B = (g * B).sum(0)
    found = Tokens(
        x=through_B * dt,
        dt=(slope * A).sum(0) + through_B * x,
        B=(g * entering).sum(shared),
        C=((kept + entering * B) * dy).sum(shared),
    )
    return Tokens(*(v.reshape(-1) for v in found)), slope * dt


def split(
    shape: tuple[int, ...],
    x: Float[Array, "sd"],
    dt: Float[Array, "sd"],
    B: Float[Array, "ns"],
    C: Float[Array, "ns"],
) -> tuple[Array, ...]:
    """Reshapes one token's x and dt to "*s d", and its B and C to "n *s 1", for states of `shape`.

    Where the last axis of "*s" holds parts of one scan, B and C have length one along it.
    """
    states, *scans, width = shape
    rows = scans if B.size == states * math.prod(scans) else [*scans[:-1], 1]
    return (
        *(v.reshape(*scans, width) for v in (x, dt)),
        *(v.reshape(states, *rows, 1) for v in (B, C)),
    )


def decay(shape: tuple[int, ...], dt: Float[Array, "sd"], A: Float[Array, "n *#s d"]) -> State:
    """Returns exp(dt A) of one token, for states of `shape`."""
    if A.shape != shape:
        return jnp.exp(dt.reshape(shape[1:]) * A)
    # One long axis: XLA's CPU compiler unrolls a loop over a short one and fails to vectorise it.
    return jnp.exp(dt * A.reshape(shape[0], -1)).reshape(shape)


def in_turn(function: Callable, inputs: PyTree) -> PyTree:
    """Applies `lax.map`, without the copies that a loop of a single turn would make."""
    if jax.tree.leaves(inputs)[0].shape[0] > 1:
        return lax.map(function, inputs)
    return jax.tree.map(lambda v: v[None], function(jax.tree.map(lambda v: v[0], inputs)))
