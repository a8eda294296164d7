"""Artefact metrics: edges of the fused image that no source has.

`h w` images hold grey levels 0..255.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Real

from smc_jax.metrics.levels import levels
from smc_jax.types import Scalar


@jax.jit
def nabf(a: Real[Array, "h w"], b: Real[Array, "h w"], fused: Real[Array, "h w"]) -> Scalar:
    """Nabf: share of edge information that fusion added. Lower is better.

    0 (nowhere is F's edge stronger than both sources'; also when F is flat) to 1. Shreyamsha
    Kumar, Signal Image Video Process. 2013, with his constants. F is the fused image here; the
    numbers in some tables come from calls that put A in its place.
    """
    edges_a, edges_b, edges_f = (_sobel(levels(x)) for x in (a, b, fused))
    weight_a, weight_b = _weight(edges_a[0]), _weight(edges_b[0])
    added = (edges_f[0] > edges_a[0]) & (edges_f[0] > edges_b[0])
    lost = _lost(edges_a, edges_f) * weight_a + _lost(edges_b, edges_f) * weight_b
    return jnp.sum(jnp.sum(jnp.where(added, lost, 0), 1)) / jnp.sum(jnp.sum(weight_a + weight_b, 1))


_Edges = tuple[Int[Array, "h w"], Float[Array, "h w"]]


def _sobel(x: Int[Array, "h w"]) -> _Edges:
    """Squared strength, times 64, as an exact integer, and angle; mirrored at the border."""
    x = jnp.pad(x, 1, mode="reflect")
    rows = x[:-2] + 2 * x[1:-1] + x[2:]
    columns = x[:, :-2] + 2 * x[:, 1:-1] + x[:, 2:]
    gv = rows[:, 2:] - rows[:, :-2]
    gh = columns[2:] - columns[:-2]
    slope = gv.astype(jnp.float32) / jnp.where(gh == 0, 1, gh).astype(jnp.float32)
    level = jnp.where(gv == 0, 0.0, np.float32(np.pi / 2))
    return gv * gv + gh * gh, jnp.where(gh == 0, level, jnp.arctan(slope))


def _weight(square: Int[Array, "h w"]) -> Float[Array, "h w"]:
    return jnp.where(square >= 4 * 64, (square / 64.0) ** 0.75, 0.001)


def _lost(source: _Edges, fused: _Edges) -> Float[Array, "h w"]:
    (square_s, angle_s), (square_f, angle_f) = source, fused
    low, high = jnp.minimum(square_s, square_f), jnp.maximum(square_s, square_f)
    strength = jnp.sqrt(low.astype(jnp.float32) / jnp.maximum(high, 1))
    quarter = np.float32(np.pi / 2)
    angle = jnp.abs(jnp.abs(angle_s - angle_f) - quarter) / quarter
    by_strength = 0.9999 * jax.nn.sigmoid(19 * (strength - 0.5))
    by_angle = 0.9995 * jax.nn.sigmoid(22 * (angle - 0.5))
    return 1 - jnp.sqrt(by_strength * by_angle)
