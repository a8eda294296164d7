"""Edge operators on integer grey levels: the responses are integers, so ties are exact."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

Gradient = tuple[Int[Array, "h w"], Int[Array, "h w"]]
"""Responses to the right and downwards."""


def sobel(x: Int[Array, "h w"], border: str) -> Gradient:
    """Sobel's operator, weights 1 2 1, not normalised; `border` is a padding mode of NumPy."""
    return _operator(x, 2, border)


def prewitt(x: Int[Array, "h w"], border: str) -> Gradient:
    """Prewitt's operator, weights 1 1 1, not normalised."""
    return _operator(x, 1, border)


def _operator(x: Int[Array, "h w"], centre: int, border: str) -> Gradient:
    x = jnp.pad(x, 1, mode=border)
    rows = x[:-2] + centre * x[1:-1] + x[2:]
    columns = x[:, :-2] + centre * x[:, 1:-1] + x[:, 2:]
    return rows[:, 2:] - rows[:, :-2], columns[2:] - columns[:-2]


def squared(gradient: Gradient) -> Int[Array, "h w"]:
    """Squared strength, an exact integer."""
    right, down = gradient
    return right * right + down * down


def strength(gradient: Gradient) -> Float[Array, "h w"]:
    return jnp.sqrt(squared(gradient).astype(jnp.float32))


def arctan(y: Float[Array, "h w"], x: Float[Array, "h w"]) -> Float[Array, "h w"]:
    """The arc tangent of y / x, for x that is not 0, in (-pi/2, pi/2).

    Uses `jnp.arctan2`: on a CPU, `jnp.arctan` is wrong by up to pi/2 with XLA's flag
    `--xla_cpu_prefer_vector_width=512` (jaxlib 0.10.2).
    """
    return jnp.arctan2(jnp.where(x < 0, -y, y), jnp.abs(x))
