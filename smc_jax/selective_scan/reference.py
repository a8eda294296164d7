"""The selective scan token by token: the specification that the other methods must meet."""

import jax.numpy as jnp
from einops import rearrange
from jax import lax
from jaxtyping import Array, Float


def scan(
    x: Float[Array, "b l g d"],
    dt: Float[Array, "b l g d"],
    A: Float[Array, "g d n"],
    B: Float[Array, "b l g n"],
    C: Float[Array, "b l g n"],
    start: Float[Array, "b g d n"],
    *,
    reverse: bool,
) -> tuple[Float[Array, "b l g d"], Float[Array, "b g d n"]]:
    """y and the end state. One step of `lax.scan` a token; see `selective_scan`."""

    def step(h, token):
        x, dt, B, C = token
        h = jnp.exp(dt[..., None] * A) * h + (dt * x)[..., None] * B[:, :, None]
        return h, jnp.einsum("b g d n, b g n -> b g d", h, C)

    tokens = tuple(rearrange(v, "b l ... -> l b ...") for v in (x, dt, B, C))
    end, y = lax.scan(step, start, tokens, reverse=reverse)
    return rearrange(y, "l b g d -> b l g d"), end
