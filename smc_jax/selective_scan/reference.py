"""The selective scan token by token: the specification that the other methods must meet."""

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
    """Returns y and the final state, by one `lax.scan` step per token; see `selective_scan`."""

    def step(h, token):
        x, dt, B, C = token
        h = jnp.exp(dt * A[:, None]) * h + dt * x * B[..., None]
        return h, (h * C[..., None]).sum(0)

    end, y = lax.scan(step, start, (x, dt, B, C), reverse=reverse)
    return y, end
