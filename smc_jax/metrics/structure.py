"""Metrics based on SSIM maps: at each place F is compared with the source that matters there.

The definitions are those of the code of Liu et al. (IEEE TPAMI 2012), which the field adopted.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from smc_jax.metrics import edges
from smc_jax.metrics.levels import Grey, Score, batched, levels, mean, ratio, total
from smc_jax.metrics.window import Taps, covariances, gaussian, means
from smc_jax.types import Scalar

PIELLA = gaussian(11, 1.5)
"""The window of Q_S, Q_W and Q_E, which use the stabilisers of SSIM for a data range of 255."""
YANG = gaussian(7, 1.5)
"""The window of Q_Y and Q_C, whose stabilisers are `TINY`."""
TINY = 2e-16


@batched
def piella(a: Grey, b: Grey, fused: Grey) -> Score:
    """Q_S: mean of t SSIM(F,A) + (1 - t) SSIM(F,B), t = s_A / (s_A + s_B). Higher is better.

    s are variances under an 11x11 Gaussian window inside the image, and t is 1/2 where both are
    0. -1 to 1. Piella and Heijmans, ICIP 2003, who use an 8x8 window and no stabilisers.
    """
    return mean(_piella(levels(a), levels(b), levels(fused))[0])


@batched
def piella_weighted(a: Grey, b: Grey, fused: Grey) -> Score:
    """Q_W: Q_S with the mean weighted by max(s_A, s_B), that is, by the sources' structure.

    Higher is better, -1 to 1. MEFB's Q_W is that of the edges alone (`piella_of_edges`).
    """
    return _weighted(*_piella(levels(a), levels(b), levels(fused)))


@batched
def piella_of_edges(a: Grey, b: Grey, fused: Grey) -> Score:
    """Q_W of the strengths of Prewitt edges, padded with zeros. Higher is better, -1 to 1."""
    strengths = (edges.strength(edges.prewitt(levels(x), "constant")) for x in (a, b, fused))
    return _weighted(*_piella(*strengths))


@batched
def piella_edge_dependent(a: Grey, b: Grey, fused: Grey) -> Score:
    """Q_E: Q_W of the images times Q_W of their edges. Higher is better, -1 to 1.

    Piella and Heijmans, ICIP 2003, with an exponent of 1. The Q_E branch in the code of Liu et al.
    does not run; MEFB computes it without the first factor.
    """
    return piella_weighted(a, b, fused) * piella_of_edges(a, b, fused)


@batched
def yang(a: Grey, b: Grey, fused: Grey) -> Score:
    """Q_Y: as Q_S where A and B are alike, else SSIM with the better source. Higher is better.

    Alike where SSIM(A,B) >= 0.75; -1 to 1. 7x7 Gaussian window inside the image, no stabilisers:
    one level of noise on an empty background can cost the whole score there. Yang et al., Inf.
    Fusion 2008. Where A and B are both flat, t is undefined: such places are left out, as in MEFB;
    Liu et al. print NaN then, IVIF_ZOO uses stabilisers and pads with zeros. Undefined where no
    place is left.
    """
    x = _statistics(levels(a), levels(b), levels(fused), YANG)
    ab, af, bf = _ssim(x, 0, 1, TINY, TINY), _ssim(x, 0, 2, TINY, TINY), _ssim(x, 1, 2, TINY, TINY)
    t = ratio(x.covariance(0, 0), x.covariance(0, 0) + x.covariance(1, 1))
    quality = jnp.where(ab >= 0.75, t * af + (1 - t) * bf, jnp.maximum(af, bf))
    return _mean_of_defined(jnp.where(jnp.isnan(t), jnp.nan, quality))


@batched
def cvejic(a: Grey, b: Grey, fused: Grey) -> Score:
    """Q_C: mean of t SSIM(F,A) + (1 - t) SSIM(F,B), t = s_AF / (s_AF + s_BF). Higher is better.

    s are covariances; a place counts as 0 where t < 0 and as 1 where t > 1, so it matters which
    source is A. -1 to 1. Window and stabilisers as in Q_Y. Cvejic et al., Int. J. Inf. Commun.
    Eng. 2006. Where both covariances are 0, t is undefined: such places are left out, as in MEFB;
    Liu et al. print NaN then. Undefined where no place is left, as for a flat F.
    """
    x = _statistics(levels(a), levels(b), levels(fused), YANG)
    af, bf = _ssim(x, 0, 2, TINY, TINY), _ssim(x, 1, 2, TINY, TINY)
    t = x.covariance(0, 2) / (x.covariance(0, 2) + x.covariance(1, 2))
    mixed = jnp.where(t < 0, 0.0, t * af + (1 - t) * bf)
    return _mean_of_defined(jnp.where(t > 1, 1.0, mixed))


Map = Float[Array, "i j"]


class _Statistics(NamedTuple):
    """Moments of a, b and fused (indices 0, 1 and 2) under a window."""

    means: Float[Array, "3 i j"]
    covariances: Float[Array, "6 i j"]

    def covariance(self, i: int, j: int) -> Map:
        return self.covariances[_PAIRS.index((i, j))]


_PAIRS = [(0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)]


def _statistics(
    a: Num[Array, "h w"], b: Num[Array, "h w"], fused: Num[Array, "h w"], window: Taps
) -> _Statistics:
    x = jnp.stack([a, b, fused]).astype(jnp.float32)
    return _Statistics(means(x, window), covariances(x, _PAIRS, window))


def _ssim(x: _Statistics, i: int, j: int, c1: float, c2: float) -> Map:
    m, n = x.means[i], x.means[j]
    luminance = (2 * m * n + c1) / (m * m + n * n + c1)
    structure = (2 * x.covariance(i, j) + c2) / (x.covariance(i, i) + x.covariance(j, j) + c2)
    return luminance * structure


def _piella(
    a: Num[Array, "h w"], b: Num[Array, "h w"], fused: Num[Array, "h w"]
) -> tuple[Map, Map]:
    """The map whose mean is Q_S, and the weights of Q_W."""
    x = _statistics(a, b, fused, PIELLA)
    s_a, s_b = x.covariance(0, 0), x.covariance(1, 1)
    flat = jnp.where(s_a + s_b == 0, 0.5, 0.0)
    s_a, s_b = s_a + flat, s_b + flat
    t = s_a / (s_a + s_b)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    quality = t * _ssim(x, 0, 2, c1, c2) + (1 - t) * _ssim(x, 1, 2, c1, c2)
    return quality, jnp.maximum(s_a, s_b)


def _weighted(quality: Map, weight: Map) -> Scalar:
    return total(quality * weight) / total(weight)


def _mean_of_defined(quality: Map) -> Scalar:
    defined = ~jnp.isnan(quality)
    return ratio(total(jnp.where(defined, quality, 0.0)), total(defined.astype(jnp.int32)))
