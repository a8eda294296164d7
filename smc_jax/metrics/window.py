"""Sliding windows: separable weighted means, variances and covariances inside an image."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Taps = tuple[float, ...]
"""One axis of a separable window; the taps sum to 1."""


Pairs = Sequence[tuple[int, int]]
"""Pairs of images of a stack, as indices."""


def covariances(x: Float[Array, "k h w"], pairs: Pairs, window: Taps) -> Float[Array, "p i j"]:
    """Covariance of each pair of images under the window.

    Computed as the covariances within rows, averaged over the rows, plus those of the row means.
    """
    row_means, rows = _along(x, pairs, window, 2)
    return _weighted(rows, window, 1) + _along(row_means, pairs, window, 1)[1]


def _along(
    x: Float[Array, "k h w"], pairs: Pairs, window: Taps, axis: int
) -> tuple[Float[Array, "k i j"], Float[Array, "p i j"]]:
    """Means, and covariances of the pairs, along one axis.

    Uses E[xy] - E[x]E[y] about the central pixel: about 0 it would lose half of float32's digits.
    """
    centre = _shift(x, len(window) // 2, window, axis)
    steps = [_shift(x, tap, window, axis) - centre for tap in range(len(window))]
    mean = sum((w * d for w, d in zip(window, steps, strict=True)), start=jnp.float32(0))
    products = [
        sum((w * d[i] * d[j] for w, d in zip(window, steps, strict=True)), start=jnp.float32(0))
        - mean[i] * mean[j]
        for i, j in pairs
    ]
    return centre + mean, jnp.stack(products)


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
