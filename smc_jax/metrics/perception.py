"""Metrics based on a model of human vision: contrast as the eye sees it.

The definitions are those of the code of Liu et al. (IEEE TPAMI 2012), which VIFB and MEFB adopted.
Each image is stretched to 0..255 first, so that both metrics are undefined if one is flat (the
published code leaves a black image as it is).
"""

import jax
import jax.numpy as jnp
import numpy as np
from einops import reduce
from jaxtyping import Array, Bool, Float, Int

from smc_jax.metrics import edges
from smc_jax.metrics.levels import Grey, Score, batched, is_flat, levels, mean, stretched

BLOCK = 16
"""Side of the blocks of Q_CV."""


@batched
def chen_blum(a: Grey, b: Grey, fused: Grey) -> Score:
    """Q_CB: how well F keeps the local contrast of the source that has more of it, 0 to 1.

    Mean of t Q_AF + (1 - t) Q_BF with t = c_A^2 / (c_A^2 + c_B^2). Q is the smaller of two masked
    contrasts c divided by the larger; c = |C|^3 / (C^2 + 0.0001), C = (G2 * x) / (G4 * x) - 1,
    where G2 and G4 are Gaussians of 31 x 31 pixels (zeros outside) and x is the image filtered by
    the contrast sensitivity of the eye, a difference of Gaussians in frequency. Higher is better.
    Chen and Blum, Image Vis. Comput. 2009. IVIF_ZOO takes half of the frequencies: 0.497 instead
    of 0.560.
    """
    c_a, c_b, c_f = (_masked_contrast(stretched(x)) for x in (a, b, fused))
    t = c_a**2 / (c_a**2 + c_b**2)
    kept_a, kept_b = (jnp.minimum(c, c_f) / jnp.maximum(c, c_f) for c in (c_a, c_b))
    return jnp.where(_defined(a, b, fused), mean(t * kept_a + (1 - t) * kept_b), jnp.nan)


@batched
def chen_varshney(a: Grey, b: Grey, fused: Grey) -> Score:
    """Q_CV: visible difference between F and its sources, in squared grey levels. Lower is better.

    sum (l_A D_A + l_B D_B) / sum (l_A + l_B) over blocks of 16 x 16 pixels, zeros outside: D is
    the mean square of the difference filtered by the contrast sensitivity of Mannos and Sakrison,
    l the sum of the source's Sobel strengths to the power of 5. At least 0. Also undefined where
    no source has an edge. Chen and Varshney, Inf. Fusion 2007. VIFB and MEFB agree.
    """
    x_a, x_b, x_f = (stretched(x) for x in (a, b, fused))
    seen = sum(_salience(x) * _blocks(_seen(x - x_f) ** 2) for x in (x_a, x_b))
    value = jnp.sum(seen) / jnp.sum(_salience(x_a) + _salience(x_b)) / BLOCK**2
    return jnp.where(_defined(a, b, fused), value, jnp.nan)


def _defined(*images: Grey) -> Bool[Array, ""]:
    return ~jnp.any(jnp.stack([is_flat(levels(x)) for x in images]))


def _masked_contrast(x: Int[Array, "h w"]) -> Float[Array, "h w"]:
    contrast = jnp.abs(_smoothed(x, 2.0) / _smoothed(x, 4.0) - 1)
    return contrast**3 / (contrast**2 + 1e-4)


def _smoothed(x: Int[Array, "h w"], deviation: float) -> Float[Array, "h w"]:
    """The image filtered by the contrast sensitivity of the eye, then smoothed.

    Both filters are separable and applied as one matrix per axis: an FFT would leave rounding
    errors of the bright parts of the image in its dark parts.
    """
    rows, columns = (_matrices(n, deviation) for n in x.shape)
    x = x.astype(jnp.float32)
    highest = jax.lax.Precision.HIGHEST
    wide, narrow = (
        jnp.einsum("ih,hw,jw->ij", r, x, c, precision=highest)
        for r, c in zip(rows, columns, strict=True)
    )
    return wide - 0.7622 * narrow


def _matrices(n: int, deviation: float) -> tuple[Float[np.ndarray, "n n"], ...]:
    """Matrices for an axis of n pixels: each Gaussian of the sensitivity, then smoothing."""
    frequency = np.fft.fftfreq(n) * n / 15
    offset = np.subtract.outer(np.arange(n), np.arange(n))
    smooth = np.exp(-(offset**2) / (2 * deviation**2)) / (np.sqrt(2 * np.pi) * deviation)
    smooth[abs(offset) > 15] = 0
    filters = (np.fft.ifft(np.exp(-((frequency / f) ** 2))).real for f in (15.3870, 1.3456))
    return tuple((smooth @ taps[offset % n]).astype(np.float32) for taps in filters)


def _seen(x: Int[Array, "h w"]) -> Float[Array, "h w"]:
    """The image filtered by the contrast sensitivity of Mannos and Sakrison."""
    h, w = x.shape
    v, u = np.fft.fftfreq(h)[:, None] * h / 4, np.fft.rfftfreq(w)[None] * w / 4
    r = 0.144 * np.hypot(u, v)
    sensitivity = 2.6 * (0.0192 + r) * np.exp(-(r**1.1))
    spectrum = jnp.fft.rfft2(x.astype(jnp.float32)) * sensitivity.astype(np.float32)
    return jnp.fft.irfft2(spectrum, s=(h, w))


def _salience(x: Int[Array, "h w"]) -> Float[Array, "i j"]:
    # In units of 1024, so that fifth powers stay well within the range of float32.
    return _blocks((edges.strength(edges.sobel(x, "constant")) / 1024) ** 5)


def _blocks(x: Float[Array, "h w"]) -> Float[Array, "i j"]:
    """Sums over blocks."""
    x = jnp.pad(x, [(0, -side % BLOCK) for side in x.shape])
    return reduce(x, "(i p) (j q) -> i j", "sum", p=BLOCK, q=BLOCK)
