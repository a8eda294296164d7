"""The selective scan token by token: the specification that the other methods must meet."""

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
    """y and the end state. One step of `lax.scan` a token; see `selective_scan`."""

    def step(h, token):
        x, dt, B, C = token
        h = jnp.exp(dt * A[:, None]) * h + dt * x * B[..., None]
        return h, (h * C[..., None]).sum(0)

    end, y = lax.scan(step, start, (x, dt, B, C), reverse=reverse)
    return y, end
