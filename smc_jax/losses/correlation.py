"""What each source adds to the other should look like that source."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from smc_jax.types import Image, Scalar

FLAT = 1e-4
"""Variance far below which an image has no content to correlate with: that of a standard deviation
of 2.5 grey levels of 255."""


def correlation_loss(fused: Image, a: Image, b: Image) -> Scalar:
    """2 - corr(F - A, B) - corr(F - B, A), between 0 and 4; not in the paper.

    One minus each summand of SCD, the sum of the correlations of differences (Aslantas and Bendes
    2015): what F has beyond A should be the content of B, and the other way round. A maximum takes
    nothing from the darker source; this loss asks for its contrast too.
    """
    return 2 - (_correlation(fused - a, b) + _correlation(fused - b, a)).mean()


def _correlation(x: Image, y: Image) -> Float[Array, "b"]:
    x, y = (v - v.mean((1, 2, 3), keepdims=True) for v in (x, y))
    variance_x, variance_y = ((v * v).mean((1, 2, 3)) + FLAT for v in (x, y))
    return (x * y).mean((1, 2, 3)) / jnp.sqrt(variance_x * variance_y)
