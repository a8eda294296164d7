"""Loops over the tokens of a chunk, for any number of scans side by side.

The state h is an array "n *s d": n numbers for each of d channels of s scans. What a loop reads and
writes of a token has one axis, "(*s d)" for x and dt and "(n *s)" for B and C: an axis of length
one (a single scan) would make the compiler copy the whole array. A may have axes of length one
where scans share it.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

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
    """The state after a chunk, and y of its tokens."""

    def step(h, token):
        x, dt, B, C = split(h.shape, *token)
        h = jnp.exp(dt * A) * h + (dt * x) * B
        return h, (h * C).sum(0).reshape(-1)

    return lax.scan(step, start, tokens, reverse=reverse)


def ends(start: State, A: Float[Array, "n *#s d"], tokens: Tokens, *, reverse: bool) -> State:
    """The state after a chunk alone."""

    def step(h, token):
        x, dt, B, _ = split(h.shape, *token)
        return jnp.exp(dt * A) * h + (dt * x) * B, None

    return lax.scan(step, start, tokens, reverse=reverse)[0]


def adjoint_ends(
    q: State, A: Float[Array, "n *#s d"], tokens: Tokens, dy: Float[Array, "t sd"], *, reverse: bool
) -> State:
    """The gradient of the state before a chunk, given `q`, that of the state after it."""

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


def slopes(g: State, kept: State, A, x, dt, B, dy) -> tuple[Tokens, State]:
    """The gradients of one token, as loops write them, and what it adds to that of A.

    Args:
      g: the gradient of the state h after the token: q, which reaches h from later ones, and C dy.
        What it hands to the state before is exp(dt A) g.
      kept: of h, what was left of the state before, exp(dt A) times that.
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


def split(shape, x, dt, B, C):
    """One token's x and dt as "*s d", its B and C as "n *s 1", or, where the last of the scans are
    parts of one and share them, as "n *s 1 1".
    """
    states, *scans, width = shape
    rows = scans if B.size == states * math.prod(scans) else [*scans[:-1], 1]
    return (
        *(v.reshape(*scans, width) for v in (x, dt)),
        *(v.reshape(states, *rows, 1) for v in (B, C)),
    )


def decay(shape, dt, A):
    """exp(dt A) of one token as "n *s d"."""
    if A.shape != shape:
        return jnp.exp(dt.reshape(shape[1:]) * A)
    # One long axis: of a short one XLA's CPU compiler unrolls the loop, and finds no vectors in it.
    return jnp.exp(dt * A.reshape(shape[0], -1)).reshape(shape)


def in_turn(function, inputs):
    """`lax.map`, without the copies that a loop of one turn would cost."""
    if jax.tree.leaves(inputs)[0].shape[0] > 1:
        return lax.map(function, inputs)
    return jax.tree.map(lambda v: v[None], function(jax.tree.map(lambda v: v[0], inputs)))
