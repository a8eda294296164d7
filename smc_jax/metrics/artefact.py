"""Artefacts and losses: edges of the fused image that no source has, and edges that it lost."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from smc_jax.metrics import edges
from smc_jax.metrics.levels import Grey, Score, batched, levels, total


@batched
def nabf(a: Grey, b: Grey, fused: Grey) -> Score:
    """Nabf: share of edge information that fusion added. Lower is better.

    sum ((1 - Q_AF) w_A + (1 - Q_BF) w_B) / sum (w_A + w_B), the numerator over the pixels where
    F's edge is stronger than both sources'. 0 (no such pixel; also when F is flat) to 1.
    Shreyamsha Kumar, Signal Image Video Process. 2013, with his constants. Tang's toolbox swaps F
    and A (`nabf_tang`); where a source has no edge, IVIF_ZOO has a weight of 0 instead of 0.001.
    """
    edges_a, edges_b, edges_f = (_edges(x) for x in (a, b, fused))
    added = (edges_f[0] > edges_a[0]) & (edges_f[0] > edges_b[0])
    return _lost_where(added, edges_a, edges_b, edges_f)


@batched
def nabf_tang(a: Grey, b: Grey, fused: Grey) -> Score:
    """Nabf as Tang's toolbox computes it: A is taken for the image fused from B and F."""
    return nabf(b, fused, a)


@batched
def labf(a: Grey, b: Grey, fused: Grey) -> Score:
    """Labf: share of the sources' edge information that fusion lost. Lower is better.

    As Nabf, but over the pixels where F's edge is not stronger than both sources': 0 to 1.
    Petrovic and Xydeas, Inf. Fusion 2005, as coded by Shreyamsha Kumar, whose code Tang's toolbox
    includes. IVIF_ZOO counts only pixels where F's edge is not stronger than either source's.
    """
    edges_a, edges_b, edges_f = (_edges(x) for x in (a, b, fused))
    lost = (edges_f[0] <= edges_a[0]) | (edges_f[0] <= edges_b[0])
    return _lost_where(lost, edges_a, edges_b, edges_f)


_Edges = tuple[Int[Array, "h w"], Float[Array, "h w"]]


def _edges(x: Grey) -> _Edges:
    """64 times the squared strength, an exact integer, and the angle; mirrored at the border."""
    gradient = edges.sobel(levels(x), "reflect")
    right, down = (x.astype(jnp.float32) for x in gradient)
    upright = jnp.where(right == 0, 0.0, np.float32(np.pi / 2))
    slanted = edges.arctan(right, jnp.where(down == 0, 1, down))
    return edges.squared(gradient), jnp.where(down == 0, upright, slanted)


def _lost_where(where: Bool[Array, "h w"], a: _Edges, b: _Edges, fused: _Edges) -> Score:
    weight_a, weight_b = _weight(a[0]), _weight(b[0])
    lost = _lost(a, fused) * weight_a + _lost(b, fused) * weight_b
    return total(jnp.where(where, lost, 0)) / total(weight_a + weight_b)


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
