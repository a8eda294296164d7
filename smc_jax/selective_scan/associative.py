"""The selective scan as `jax.lax.associative_scan` over the tokens: the textbook parallel form."""

import jax.numpy as jnp
from jax import lax

from smc_jax.selective_scan.shapes import Matrix, Rates, Sequence, State


def scan(
    x: Sequence,
    dt: Sequence,
    A: Rates,
    B: Matrix,
    C: Matrix,
    start: State,
    *,
    reverse: bool,
) -> tuple[Sequence, State]:
    """Returns y and the final state, with all states computed at once; see `selective_scan`.

    This takes log2(l) rounds. Decays are at most 1 and are only ever multiplied, so nothing can
    overflow, unlike in the cumulative-sum form of the same scan.
    """
    decay = jnp.exp(dt[:, None] * A[:, None])
    entering = (dt * x)[:, None] * B[..., None]
    first, last = (-1, 0) if reverse else (0, -1)
    entering = entering.at[first].add(decay[first] * start)
    _, h = lax.associative_scan(combine, (decay, entering), reverse=reverse)
    return (h * C[..., None]).sum(1), h[last]


def combine(earlier, later):
    """Composes two consecutive steps h -> a h + b into one."""
    (a0, b0), (a1, b1) = earlier, later
    return a0 * a1, a1 * b0 + b1
