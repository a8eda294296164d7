"""Visual information fidelity: how much of the sources a model of vision finds in F.

VIF in the pixel domain (Sheikh and Bovik, IEEE TIP 2006) and VIFF, its form for fusion (Han et
al., Inf. Fusion 2013). Both use four scales, each half as wide as the one before.
"""

from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from smc_jax.metrics.levels import Grey, Score, batched, centred, levels, ratio, total
from smc_jax.metrics.window import covariances, gaussian, means

NOISE = 2.0
"""Variance of the visual noise of VIF, in squared grey levels."""
VIFF_NOISE = 0.005 * 255**2
VIFF_WEIGHTS = (1 / 2.15, 0.0, 0.15 / 2.15, 1 / 2.15)
"""Weights of the scales, finest first."""
EPS = 1e-10
SMALLEST = 17
"""Side of the widest window: the least height and width of an image."""

_PAIRS = ((0, 0), (1, 1), (2, 2), (0, 2), (1, 2))
"""The (co)variances that are needed, as pairs of indices into (a, b, fused)."""


@batched
def vif(a: Grey, b: Grey, fused: Grey) -> Score:
    """VIF: fidelity of F to A plus that of F to B, 0 to about 2. Higher is better.

    sum log(1 + g^2 s_S / (s_V + 2)) / sum log(1 + s_S / 2) over pixels and scales, for F = g S + V
    under a window, s a variance. A source adds 1 if F equals it, more than 1 if F has more
    contrast. A flat source adds 1, as in CDDFuse's evaluator, with which Tang's toolbox agrees.
    IVIF_ZOO pads with zeros and shifts its windows: 9 % more; MEFB's VIF is `viff`. Scales whose
    window does not fit are left out (below 41 pixels a side).

    Raises:
      ValueError: a side is shorter than 17 pixels: no scale fits.
    """
    kept, there = jnp.zeros(2), jnp.zeros(2)
    for _, kept_here, there_here in _scales(a, b, fused, NOISE):
        kept, there = kept + total(kept_here), there + total(there_here)
    return jnp.sum(jnp.where(there > 0, ratio(kept, there), 1.0))


@batched
def viff(a: Grey, b: Grey, fused: Grey) -> Score:
    """VIFF: fidelity of F to the source that it follows less, pixel by pixel. Higher is better.

    Sum over the scales of `VIFF_WEIGHTS` times sum (n + c) / sum (d + c), where n and d are the two
    logarithms of VIF, with a noise of 325, for the source with the smaller gain g (B if equal), and
    c = 1e-7. At least 0; 1 where F equals both sources, and for flat ones. MEFB prints it as VIF.
    Scales whose window does not fit are left out (below 41 pixels a side), and the other weights
    are rescaled to sum to 1.

    Raises:
      ValueError: a side is shorter than 17 pixels: no scale fits.
    """
    scores = []
    for gain, kept, there in _scales(a, b, fused, VIFF_NOISE):
        first = gain[0] < gain[1]
        chosen = (jnp.where(first, x[0], x[1]) for x in (kept, there))
        kept, there = (total(x + 1e-7) for x in chosen)
        scores.append(kept / there)
    weights = np.array(VIFF_WEIGHTS[: len(scores)])
    return jnp.dot(jnp.stack(scores), jnp.asarray(weights / weights.sum(), jnp.float32))


Pair = Float[Array, "2 i j"]
"""One map per source."""


def _scales(a: Grey, b: Grey, fused: Grey, noise: float) -> Iterator[tuple[Pair, Pair, Pair]]:
    """Yields the gain, the information that F keeps and all information, scale by scale."""
    if min(fused.shape) < SMALLEST:
        raise ValueError(f"VIF needs at least {SMALLEST} pixels a side, not {fused.shape}")
    # Variances ignore a constant offset, and rounding is least around 0.
    x = jnp.stack([centred(levels(image)) for image in (a, b, fused)])
    for scale in range(4):
        window = gaussian(n := 2 ** (4 - scale) + 1, n / 5)
        if scale:
            x = means(x, window)[:, ::2, ::2]
        if min(x.shape[1:]) < n:
            return
        s = covariances(x, _PAIRS, window)
        yield _information(s[:2], s[2], s[3:], noise)


def _information(
    s1: Pair, s2: Float[Array, "i j"], s12: Pair, noise: float
) -> tuple[Pair, Pair, Pair]:
    """What `_scales` yields for one scale; the clamps are in the order of the reference."""
    gain = s12 / (s1 + EPS)
    rest = s2 - gain * s12
    flat = s1 < EPS
    gain, rest, s1 = jnp.where(flat, 0, gain), jnp.where(flat, s2, rest), jnp.where(flat, 0, s1)
    flat = s2 < EPS
    gain, rest = jnp.where(flat, 0, gain), jnp.where(flat, 0, rest)
    rest = jnp.maximum(jnp.where(gain < 0, s2, rest), EPS)
    gain = jnp.maximum(gain, 0)
    kept = jnp.log10(1 + gain * gain * s1 / (rest + noise))
    return gain, kept, jnp.log10(1 + s1 / noise)
