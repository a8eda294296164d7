"""The selective scan as `jax.lax.associative_scan` over the tokens: the textbook parallel form."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


def scan(
    x: Float[Array, "l b g d"],
    dt: Float[Array, "l b g d"],
    A: Float[Array, "n g d"],
    B: Float[Array, "l n b g"],
    C: Float[Array, "l n b g"],
    start: Float[Array, "n b g d"],
    *,
    reverse: bool,
) -> tuple[Float[Array, "l b g d"], Float[Array, "n b g d"]]:
    """y and the end state. All states at once, in log2(l) rounds; see `selective_scan`.

    Decays only ever multiply (they are at most 1), so nothing can overflow, unlike in the
    cumulative-sum form of the same scan.
    """
    decay = jnp.exp(dt[:, None] * A[:, None])
    entering = (dt * x)[:, None] * B[..., None]
    first, last = (-1, 0) if reverse else (0, -1)
    entering = entering.at[first].add(decay[first] * start)
    _, h = lax.associative_scan(combine, (decay, entering), reverse=reverse)
    return (h * C[..., None]).sum(1), h[last]


def combine(earlier, later):
    """Two steps h -> a h + b, one after the other, as one step."""
    (a0, b0), (a1, b1) = earlier, later
    return a0 * a1, a1 * b0 + b1
