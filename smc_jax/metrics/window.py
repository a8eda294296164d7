"""Sliding windows: separable weighted means, variances and covariances inside an image."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Taps = tuple[float, ...]
"""One axis of a separable window; the taps sum to 1."""


def covariances(
    x: Float[Array, "k h w"], y: Float[Array, "k h w"], window: Taps
) -> Float[Array, "k i j"]:
    """Covariance of each image of x with that of y under the window.

    Covariances of the rows, averaged over the columns, plus those of the rows' means.
    """
    x, y, rows = _along(x, y, window, 2)
    return _weighted(rows, window, 1) + _along(x, y, window, 1)[2]


def _along(
    x: Float[Array, "k h w"], y: Float[Array, "k h w"], window: Taps, axis: int
) -> tuple[Float[Array, "k i j"], Float[Array, "k i j"], Float[Array, "k i j"]]:
    """Means of x, means of y and their covariance along one axis.

    E[xy] - E[x]E[y] about the central pixel: about 0 it would lose half of float32's digits.
    """
    centre_x, centre_y = (_shift(z, len(window) // 2, window, axis) for z in (x, y))
    mean_x = mean_y = product = jnp.float32(0)
    for tap, weight in enumerate(window):
        dx = _shift(x, tap, window, axis) - centre_x
        dy = _shift(y, tap, window, axis) - centre_y
        mean_x, mean_y = mean_x + weight * dx, mean_y + weight * dy
        product = product + weight * dx * dy
    return centre_x + mean_x, centre_y + mean_y, product - mean_x * mean_y


def means(x: Float[Array, "k h w"], window: Taps) -> Float[Array, "k i j"]:
    """The weighted mean of every image under the window."""
    return _weighted(_weighted(x, window, 2), window, 1)


def _weighted(x: Float[Array, "k h w"], window: Taps, axis: int) -> Float[Array, "k i j"]:
    parts = (weight * _shift(x, tap, window, axis) for tap, weight in enumerate(window))
    return sum(parts, start=jnp.float32(0))


def _shift(x: Float[Array, "k h w"], tap: int, window: Taps, axis: int) -> Float[Array, "k i j"]:
    return jax.lax.slice_in_dim(x, tap, x.shape[axis] - len(window) + 1 + tap, axis=axis)


def gaussian(n: int, deviation: float) -> Taps:
    """One axis of the normalised n x n Gaussian."""
    taps = np.exp(-((np.arange(n) - n // 2) ** 2) / (2 * deviation**2))
    return tuple((taps / taps.sum()).tolist())
