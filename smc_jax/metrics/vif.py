"""VIF: visual information fidelity in the pixel domain (Sheikh and Bovik, IEEE TIP 2006).

`h w` images hold grey levels 0..255. The definition is CDDFuse's, a port of `vifp_mscale`.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Real

from smc_jax.metrics.levels import centred, levels
from smc_jax.metrics.window import covariances, gaussian, means
from smc_jax.types import Scalar

NOISE = 2.0
"""Variance of the visual noise, in squared grey levels."""
EPS = 1e-10
SMALLEST = 17
"""Side of the widest window: the least height and width of an image."""

_FIRST, _SECOND = np.array([0, 1, 2, 0, 1]), np.array([0, 1, 2, 2, 2])
"""Which (co)variances of (a, b, fused) are needed: aa, bb, ff, af, bf."""


@jax.jit
def vif(a: Real[Array, "h w"], b: Real[Array, "h w"], fused: Real[Array, "h w"]) -> Scalar:
    """VIF: fidelity of F to A plus that of F to B, 0 to about 2. Higher is better.

    Of 1 a source when F equals it; above 1 where F has more contrast. A flat source counts 1, as
    in the reference. Scales whose window does not fit are left out (below 41 pixels a side).

    Raises:
      ValueError: a side is shorter than 17 pixels: no scale fits.
    """
    if min(fused.shape) < SMALLEST:
        raise ValueError(f"VIF needs at least {SMALLEST} pixels a side, not {fused.shape}")
    # Variances do not see a shift, and around 0 they lose fewest digits.
    x = jnp.stack([centred(levels(image)) for image in (a, b, fused)])
    kept, there = jnp.zeros(2), jnp.zeros(2)
    for scale in range(4):
        window = gaussian(n := 2 ** (4 - scale) + 1, n / 5)
        if scale:
            x = means(x, window)[:, ::2, ::2]
        if min(x.shape[1:]) < n:
            break
        s = covariances(x[_FIRST], x[_SECOND], window)
        kept_here, there_here = _information(s[:2], s[2], s[3:])
        kept, there = kept + kept_here, there + there_here
    return jnp.sum(jnp.where(there > 0, kept / jnp.where(there > 0, there, 1.0), 1.0))


def _information(
    s1: Float[Array, "2 i j"], s2: Float[Array, "i j"], s12: Float[Array, "2 i j"]
) -> tuple[Float[Array, "2"], Float[Array, "2"]]:
    """What F keeps of A and B and what they hold; the clamps in the order of the reference."""
    gain = s12 / (s1 + EPS)
    rest = s2 - gain * s12
    flat = s1 < EPS
    gain, rest, s1 = jnp.where(flat, 0, gain), jnp.where(flat, s2, rest), jnp.where(flat, 0, s1)
    flat = s2 < EPS
    gain, rest = jnp.where(flat, 0, gain), jnp.where(flat, 0, rest)
    rest = jnp.maximum(jnp.where(gain < 0, s2, rest), EPS)
    gain = jnp.maximum(gain, 0)
    kept = jnp.log10(1 + gain * gain * s1 / (rest + NOISE))
    return _pooled(kept), _pooled(jnp.log10(1 + s1 / NOISE))


def _pooled(x: Float[Array, "2 i j"]) -> Float[Array, "2"]:
    return jnp.sum(jnp.sum(x, -1), -1)
