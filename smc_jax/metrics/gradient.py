"""Feature metrics: contrast and detail of the fused image, and how many source edges it keeps.

`h w` images hold grey levels 0..255. Definitions are those of CDDFuse's evaluator. SD, SF and AG
look at the fused image alone: contrast stretching and noise raise them too.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Real

from smc_jax.metrics.levels import centred, levels
from smc_jax.types import Scalar


@jax.jit
def standard_deviation(fused: Real[Array, "h w"]) -> Scalar:
    """SD: population standard deviation, in grey levels: 0 (flat) to 127.5. Higher is better.

    Rao, Meas. Sci. Technol. 1997.
    """
    return jnp.sqrt(jnp.mean(jnp.square(centred(levels(fused)))))


@jax.jit
def spatial_frequency(fused: Real[Array, "h w"]) -> Scalar:
    """SF: root of the mean squared step along rows plus that along columns. Higher is better.

    Means over the steps there are: h (w-1) and (h-1) w. 0 (flat) to 360.6. Eskicioglu and
    Fisher, IEEE Trans. Commun. 1995.
    """
    x = levels(fused)
    steps = (jnp.diff(x, axis=0), jnp.diff(x, axis=1))
    return jnp.sqrt(sum(jnp.mean(jnp.square(s).astype(jnp.float32)) for s in steps))


@jax.jit
def average_gradient(fused: Real[Array, "h w"]) -> Scalar:
    """AG: mean over all pixels of sqrt((gx^2 + gy^2) / 2). Higher is better.

    Central differences, one-sided at the border. 0 (flat) to 255. Cui et al., Opt. Commun. 2015.
    """
    gy, gx = jnp.gradient(levels(fused).astype(jnp.float32))
    return jnp.mean(jnp.sqrt((gx * gx + gy * gy) / 2))


@jax.jit
def qabf(a: Real[Array, "h w"], b: Real[Array, "h w"], fused: Real[Array, "h w"]) -> Scalar:
    """Qabf: share of the sources' Sobel edges that F keeps in strength and angle. Higher is better.

    0 (none, and also when both sources are black) to 0.975. Xydeas and Petrovic, Electron. Lett.
    2000, with the constants and the quirk of the common evaluators: where the strengths of source
    and F are equal, the ratio is replaced by the strength itself.
    """
    edges_a, edges_b, edges_f = (_sobel(levels(x)) for x in (a, b, fused))
    strength_a, strength_b = (jnp.sqrt(e[0].astype(jnp.float32)) for e in (edges_a, edges_b))
    kept = _preserved(edges_a, edges_f) * strength_a + _preserved(edges_b, edges_f) * strength_b
    total = jnp.sum(jnp.sum(strength_a + strength_b, 1))
    return jnp.where(total > 0, jnp.sum(jnp.sum(kept, 1)) / jnp.where(total > 0, total, 1.0), 0.0)


_Edges = tuple[Int[Array, "h w"], Float[Array, "h w"]]


def _sobel(x: Int[Array, "h w"]) -> _Edges:
    """Squared strength, an exact integer, and angle in (-pi/2, pi/2]; zero-padded."""
    x = jnp.pad(x, 1)
    rows = x[:-2] + 2 * x[1:-1] + x[2:]
    columns = x[:, :-2] + 2 * x[:, 1:-1] + x[:, 2:]
    gx = rows[:, 2:] - rows[:, :-2]
    gy = columns[:-2] - columns[2:]
    vertical: Bool[Array, "h w"] = gx == 0
    slope = gy.astype(jnp.float32) / jnp.where(vertical, 1, gx).astype(jnp.float32)
    return gx * gx + gy * gy, jnp.where(vertical, np.float32(np.pi / 2), jnp.arctan(slope))


def _preserved(source: _Edges, fused: _Edges) -> Float[Array, "h w"]:
    (square_s, angle_s), (square_f, angle_f) = source, fused
    low = jnp.minimum(square_s, square_f).astype(jnp.float32)
    high = jnp.maximum(square_s, square_f).astype(jnp.float32)
    ratio = jnp.sqrt(low / jnp.maximum(high, 1.0))
    # The tie is decided on the integers: float square roots would miss or invent some.
    ratio = jnp.where(square_s == square_f, jnp.sqrt(high), ratio)
    angle = 1 - jnp.abs(angle_s - angle_f) / np.float32(np.pi / 2)
    by_strength = 0.9994 * jax.nn.sigmoid(15 * (ratio - 0.5))
    by_angle = 0.9879 * jax.nn.sigmoid(22 * (angle - 0.8))
    return by_strength * by_angle
