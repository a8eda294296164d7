"""Weighted means under a sliding window, for the losses."""

from functools import cache

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from smc_jax.types import Image


def means(x: Image, size: int, sigma: float, stride: int = 1) -> Float[Array, "b i j 1"]:
    """Means under a Gaussian window of size x size, at every stride-th place inside the image.

    Computed as matrix products: many times faster than a convolution on a CPU.
    """
    rows, columns = (_places(n, size, sigma)[::stride] for n in x.shape[1:3])
    # Variances are small differences: reduced precision (TF32, bfloat16) would drown them.
    return jnp.einsum("ih, bhwc, jw -> bijc", rows, x, columns, precision="highest")


@cache
def _places(length: int, size: int, sigma: float) -> Float[np.ndarray, "i length"]:
    """The window at each place of an axis, one row per place."""
    taps = np.exp(-0.5 * ((np.arange(size) - size // 2) / sigma) ** 2)
    rows = np.zeros((length - size + 1, length), np.float32)
    for i, row in enumerate(rows):
        row[i : i + size] = taps / taps.sum()
    return rows
