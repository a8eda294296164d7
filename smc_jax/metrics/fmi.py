"""FMI: feature mutual information, window by window.

Haghighat et al., Comput. Electr. Eng. 2011, as computed by their Fast-FMI (AICT 2014), which
Tang's toolbox and MEFB include. Never undefined; higher is better; 1 where F equals both sources.

In each 3x3 window, nine features, scaled to 0..1, are read as a distribution over nine places. The
joint distribution of two such windows is modelled as a mixture of the most correlated one possible
(for a negative correlation, the least), with a share of phi, and the independent one. phi is
chosen so that the mixture's correlation is Pearson's r of the features. The score is the mean of
2 I / (H + H) over windows and both sources.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from smc_jax.metrics import edges
from smc_jax.metrics.levels import Grey, Score, batched, levels, mean

SIDE = 3
PLACES = SIDE**2


@batched
def fmi_pixel(a: Grey, b: Grey, fused: Grey) -> Score:
    """FMI_pixel: the features are grey levels.

    Tang's toolbox prints `fmi_edge`, the default of the published code, under this name.
    """
    return _fmi(levels(a), levels(b), levels(fused))


@batched
def fmi_gradient(a: Grey, b: Grey, fused: Grey) -> Score:
    """FMI_gradient: the features are differences along rows, central, one-sided at the border.

    Differences along columns are not used: MATLAB's `gradient` returns them second.
    """
    return _fmi(*(_differences(levels(x)) for x in (a, b, fused)))


@batched
def fmi_edge(a: Grey, b: Grey, fused: Grey) -> Score:
    """FMI_edge: the features are the thin edges, 0 or 1, of MATLAB's `edge`; MEFB's FMI.

    Sobel's operator, border pixels repeated; an edge pixel is stronger than twice the root of the
    mean squared strength, and a local maximum across its main direction.
    """
    return _fmi(*(_thin_edges(levels(x)) for x in (a, b, fused)))


Window = Int[Array, "9 i j"]
Map = Float[Array, "i j"]


def _differences(x: Int[Array, "h w"]) -> Int[Array, "h w"]:
    """Twice the differences, as integers: the scale does not matter."""
    x = jnp.pad(x, ((0, 0), (1, 1)), mode="reflect", reflect_type="odd")
    return x[:, 2:] - x[:, :-2]


def _thin_edges(x: Int[Array, "h w"]) -> Int[Array, "h w"]:
    right, down = edges.sobel(x, "edge")
    square = edges.squared((right, down))
    strong = square > 4 * mean(square)

    def crest(axis: int) -> Bool[Array, "h w"]:
        # Pixels beyond the border never win: -1 is less than any strength.
        around = jnp.pad(square, [(int(axis == k),) * 2 for k in (0, 1)], constant_values=-1)
        before, after = (
            jax.lax.slice_in_dim(around, k, k + x.shape[axis], axis=axis) for k in (0, 2)
        )
        return (before <= square) & (square > after)

    upright, level = jnp.abs(right) >= jnp.abs(down), jnp.abs(down) >= jnp.abs(right)
    return (strong & ((upright & crest(1)) | (level & crest(0)))).astype(jnp.int32)


def _fmi(a: Int[Array, "h w"], b: Int[Array, "h w"], fused: Int[Array, "h w"]) -> Score:
    # Without the barrier, XLA recomputes the features for each of the nine places.
    a, b, fused = jax.lax.optimization_barrier((a, b, fused))
    f = _windows(fused)
    # The sources take turns, to save memory: nine shifted images and their sums are large.
    both = jax.lax.map(lambda source: mean(_shared(_windows(source), f)), jnp.stack([a, b]))
    return jnp.mean(both)


def _windows(x: Int[Array, "h w"]) -> Window:
    """The nine pixels around each place, column by column, as the published code reads them."""
    h, w = (side - SIDE + 1 for side in x.shape)
    return jnp.stack([x[i : i + h, j : j + w] for j in range(SIDE) for i in range(SIDE)])


def _shared(x: Window, y: Window) -> Map:
    """2 I(X;Y) / (H(X) + H(Y)) of each pair of windows; 1 where both are equal."""
    equal = jnp.all(x == y, 0)
    x, y = _counts(x), _counts(y)
    p_x, p_y = _share(x, jnp.sum(x, 0)), _share(y, jnp.sum(y, 0))
    below_x, above_x, below_y, above_y = *_cumulated(x), *_cumulated(y)
    r = _correlation(x, y)
    # The least correlated distribution is the most correlated one with y reversed.
    low_y = jnp.where(r < 0, above_y[1:], below_y[:-1])
    high_y = jnp.where(r < 0, above_y[:-1], below_y[1:])
    opposite_y = jnp.where(r < 0, below_y[1:], above_y[1:])
    same_y = jnp.where(r < 0, above_y[1:], below_y[1:])

    def covariance(sofar: Map, place: tuple[Map, Map]) -> tuple[Map, None]:
        below, above = place
        for opposite, same in zip(opposite_y, same_y, strict=True):
            sofar += jnp.minimum(below * opposite, above * same)
        return sofar, None

    most, _ = jax.lax.scan(covariance, jnp.zeros_like(r), (below_x[1:], above_x[1:]))
    phi = jnp.abs(r) * _deviation(p_x) * _deviation(p_y) / jnp.where(most > 0, most, 1.0)

    def joint_entropy(sofar: Map, place: tuple[Map, Map, Map]) -> tuple[Map, None]:
        low, high, p = place
        for low_j, high_j, p_j in zip(low_y, high_y, p_y, strict=True):
            overlap = jnp.maximum(jnp.minimum(high, high_j) - jnp.maximum(low, low_j), 0)
            sofar += _surprise(phi * overlap + (1 - phi) * p * p_j)
        return sofar, None

    joint, _ = jax.lax.scan(joint_entropy, jnp.zeros_like(r), (below_x[:-1], below_x[1:], p_x))
    single = jnp.sum(_surprise(p_x), 0) + jnp.sum(_surprise(p_y), 0)
    return jnp.where(equal, 1.0, 2 * (single - joint) / jnp.where(single > 0, single, 1.0))


def _counts(x: Window) -> Window:
    """Features less the smallest one in the window; all ones where the window is flat."""
    x = x - jnp.min(x, 0)
    return jnp.where(jnp.max(x, 0) > 0, x, 1)


def _cumulated(x: Window) -> tuple[Float[Array, "10 i j"], Float[Array, "10 i j"]]:
    """Sums over the first 0 to 9 places, and over the others: both without cancellation."""
    below = jnp.cumsum(jnp.pad(x, ((1, 0), (0, 0), (0, 0))), 0)
    return _share(below, below[-1]), _share(below[-1] - below, below[-1])


def _share(x: Int[Array, "*n i j"], whole: Int[Array, "i j"]) -> Float[Array, "*n i j"]:
    return x.astype(jnp.float32) / whole.astype(jnp.float32)


def _correlation(x: Window, y: Window) -> Map:
    """Pearson's r, from integers that stay below 2^31; 0 where a window is flat."""

    def covariance(x: Window, y: Window) -> Map:
        return (PLACES * jnp.sum(x * y, 0) - jnp.sum(x, 0) * jnp.sum(y, 0)).astype(jnp.float32)

    norm = jnp.sqrt(covariance(x, x)) * jnp.sqrt(covariance(y, y))
    return jnp.where(norm > 0, covariance(x, y) / jnp.where(norm > 0, norm, 1.0), 0.0)


def _deviation(p: Float[Array, "9 i j"]) -> Map:
    """Standard deviation of the place (0 to 8) under the distribution p."""
    place = np.arange(PLACES, dtype=np.float32)[:, None, None]
    off = place - jnp.sum(place * p, 0)
    return jnp.sqrt(jnp.sum(p * off * off, 0))


def _surprise(p: Float[Array, "*n i j"]) -> Float[Array, "*n i j"]:
    """-p log2 p; its real part for the negative shares of a mixture with phi above 1."""
    return -p * jnp.log2(jnp.abs(jnp.where(p != 0, p, 1.0)))
