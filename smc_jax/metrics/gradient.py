"""Feature metrics: contrast and detail of the fused image, and how many source edges it keeps.

SD, SF, AG and EI depend on the fused image alone: contrast stretching and noise raise them too.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from smc_jax.metrics import edges
from smc_jax.metrics.levels import Grey, Score, batched, centred, levels, mean, ratio, total


@batched
def standard_deviation(fused: Grey) -> Score:
    """SD: population standard deviation, in grey levels: 0 (flat) to 127.5. Higher is better.

    Rao, Meas. Sci. Technol. 1997. All evaluators agree; tables before 2022 with SD of 8 to 10 come
    from other code.
    """
    return jnp.sqrt(mean(jnp.square(centred(levels(fused)))))


@batched
def spatial_frequency(fused: Grey) -> Score:
    """SF: root of the mean squared step along rows plus that along columns. Higher is better.

    The means are over all steps: h (w-1) and (h-1) w. 0 (flat) to 360.6. Eskicioglu and Fisher,
    IEEE Trans. Commun. 1995. VIFB and MEFB divide by h w (`spatial_frequency_vifb`); workbooks
    made with Tang's toolbox can hold SF / 255, computed from images in 0..1.
    """
    steps = _steps(fused)
    return jnp.sqrt(sum(mean(jnp.square(s)) for s in steps))


@batched
def spatial_frequency_vifb(fused: Grey) -> Score:
    """SF with both sums of squared steps divided by the number of pixels."""
    steps = _steps(fused)
    return jnp.sqrt(sum(total(jnp.square(s)) for s in steps) / fused.size)


@batched
def average_gradient(fused: Grey) -> Score:
    """AG: mean over all pixels of sqrt((gx^2 + gy^2) / 2). Higher is better.

    Central differences, one-sided at the border. 0 (flat) to 255. Cui et al., Opt. Commun. 2015.
    Tang's toolbox, VIFB and MEFB divide by (h-1)(w-1) (`average_gradient_tang`).
    """
    return mean(_slope(fused))


@batched
def average_gradient_tang(fused: Grey) -> Score:
    """AG with the sum over all h w pixels divided by (h-1)(w-1): 0.4 to 0.8 % more."""
    h, w = fused.shape
    return total(_slope(fused)) / ((h - 1) * (w - 1))


@batched
def edge_intensity(fused: Grey) -> Score:
    """EI: mean strength of Sobel edges, border pixels repeated. Higher is better.

    The operator is not normalised: 0 (flat) to 1442. Rajalingam and Priya, Int. J. Eng. Sci.
    Invention 2018, as in VIFB and MEFB; IVIF_ZOO pads with zeros, which gives less than 1 % more.
    """
    return mean(edges.strength(edges.sobel(levels(fused), "edge")))


@batched
def qabf(a: Grey, b: Grey, fused: Grey) -> Score:
    """Qabf: share of the sources' Sobel edges that F keeps in strength and angle. Higher is better.

    sum (Q_AF g_A + Q_BF g_B) / sum (g_A + g_B), where Q is a product of two sigmoids and g the
    strength of an edge; zero-padded. 0 (none) to 0.975; undefined where both sources are black.
    Xydeas and Petrovic, Electron. Lett. 2000, with the constants and the quirk of CDDFuse, Tang,
    VIFB, MEFB and IVIF_ZOO, which agree: where the strengths of source and F are equal, the ratio
    is replaced by the strength itself.
    """
    edges_a, edges_b, edges_f = (_edges(x) for x in (a, b, fused))
    strength_a, strength_b = (jnp.sqrt(e[0].astype(jnp.float32)) for e in (edges_a, edges_b))
    kept = _preserved(edges_a, edges_f) * strength_a + _preserved(edges_b, edges_f) * strength_b
    return ratio(total(kept), total(strength_a + strength_b))


@batched
def gradient_quality(a: Grey, b: Grey, fused: Grey) -> Score:
    """Q_G: mean over the pixels of (Q_AF g_A + Q_BF g_B) / (g_A + g_B), 0 to 0.987.

    Higher is better. The idea of Qabf (Xydeas and Petrovic, Proc. SPIE 2000) in the code of Liu
    et al. (IEEE TPAMI 2012), with other constants and a mean of ratios instead of a ratio of
    sums, so that a flat background weighs as much as an edge: 0.70 where Qabf is 0.52. Pixels
    where no image has an edge count as kept.
    """
    gradients = [edges.sobel(levels(x), "constant") for x in (a, b, fused)]
    strength_a, strength_b, strength_f = (jnp.maximum(edges.strength(g), TINY) for g in gradients)
    angle_a, angle_b, angle_f = (_angle(g) for g in gradients)

    def kept(strength, angle):
        low, high = jnp.minimum(strength, strength_f), jnp.maximum(strength, strength_f)
        turn = jnp.abs(jnp.abs(angle - angle_f) - np.float32(np.pi / 2)) * np.float32(2 / np.pi)
        return jax.nn.sigmoid(10 * (low / high - 0.5)) * jax.nn.sigmoid(20 * (turn - 0.75))

    both = kept(strength_a, angle_a) * strength_a + kept(strength_b, angle_b) * strength_b
    return mean(both / (strength_a + strength_b))


TINY = np.float32(1e-5)
"""What Q_G puts in place of strengths and denominators of 0."""


def _angle(gradient: edges.Gradient) -> Float[Array, "h w"]:
    right, down = (x.astype(jnp.float32) for x in gradient)
    return edges.arctan(down, jnp.where(right == 0, TINY, right))


def _steps(x: Grey) -> tuple[Int[Array, "i w"], Int[Array, "h j"]]:
    return jnp.diff(levels(x), axis=0), jnp.diff(levels(x), axis=1)


def _slope(x: Grey) -> Float[Array, "h w"]:
    gy, gx = jnp.gradient(levels(x).astype(jnp.float32))
    return jnp.sqrt((gx * gx + gy * gy) / 2)


_Edges = tuple[Int[Array, "h w"], Float[Array, "h w"]]


def _edges(x: Grey) -> _Edges:
    """Squared strength, an exact integer, and angle in (-pi/2, pi/2]; zero-padded."""
    gradient = edges.sobel(levels(x), "constant")
    right, down = (x.astype(jnp.float32) for x in gradient)
    vertical = right == 0
    angle = edges.arctan(-down, jnp.where(vertical, 1, right))
    return edges.squared(gradient), jnp.where(vertical, np.float32(np.pi / 2), angle)


def _preserved(source: _Edges, fused: _Edges) -> Float[Array, "h w"]:
    (square_s, angle_s), (square_f, angle_f) = source, fused
    low = jnp.minimum(square_s, square_f).astype(jnp.float32)
    high = jnp.maximum(square_s, square_f).astype(jnp.float32)
    kept = jnp.sqrt(low / jnp.maximum(high, 1.0))
    # The tie is decided on the integers: float square roots would miss or invent ties.
    kept = jnp.where(square_s == square_f, jnp.sqrt(high), kept)
    angle = 1 - jnp.abs(angle_s - angle_f) / np.float32(np.pi / 2)
    by_strength = 0.9994 * jax.nn.sigmoid(15 * (kept - 0.5))
    by_angle = 0.9879 * jax.nn.sigmoid(22 * (angle - 0.8))
    return by_strength * by_angle
