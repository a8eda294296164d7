"""Information metrics: the grey levels of the fused image and what they say of the sources.

All are computed from histograms of the 256 grey levels, whatever the places of the pixels. H(X) is
the entropy of X, I(X;Y) the mutual information of X and Y.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from smc_jax.metrics.levels import Grey, Score, batched, levels, ratio, stretched, total
from smc_jax.types import Scalar

LEVELS = 256
BIT = float(np.log(2))
"""One bit in nats."""

Joint = Int[Array, "256 256"]
"""Number of pixels that have level i in one image and j in the other."""


@batched
def entropy(fused: Grey) -> Score:
    """EN: H(F) = -sum p log2 p, in bits. Higher is better.

    0 (flat) to 8. Roberts et al., J. Appl. Remote Sens. 2008. All evaluators agree.
    """
    return _entropy(_histogram(fused)) / BIT


@batched
def mutual_information(a: Grey, b: Grey, fused: Grey) -> Score:
    """MI: I(F;A) + I(F;B), in nats. Higher is better.

    0 (also when F or both sources are flat) to 2 ln 256 = 11.1. Qu et al., Electron. Lett. 2002.
    Tang's MATLAB toolbox (`mutual_information_tang`) and IVIF_ZOO count in bits.
    """
    return _mutual(_joint(a, fused)) + _mutual(_joint(b, fused))


@batched
def mutual_information_tang(a: Grey, b: Grey, fused: Grey) -> Score:
    """MI as H(A) + H(B) + 2 H(F) - H(F,A) - H(F,B), in bits, as Tang's toolbox does.

    Its joint histogram adds 1 to 8-bit levels, which merges 255 with 254, while its histograms of
    single images keep them apart: images with much white score higher, by about 1 %.
    """
    merged = [jnp.minimum(levels(x), 254) for x in (a, b, fused)]
    a_kept, b_kept, f_kept = (_white(x) for x in (a, b, fused))
    shared = _mutual(_joint(merged[0], merged[2])) + _mutual(_joint(merged[1], merged[2]))
    return (shared + a_kept + b_kept + 2 * f_kept) / BIT


@batched
def normalised_mutual_information(a: Grey, b: Grey, fused: Grey) -> Score:
    """NMI, or Q_MI: 2 (I(A;F) / (H(A) + H(F)) + I(B;F) / (H(B) + H(F))), 0 to 2.

    Higher is better. Undefined where F and a source are both flat. Hossny et al., Electron. Lett.
    2008. The code of Liu et al. (IEEE TPAMI 2012) and MEFB stretch each image to 0..255 first,
    which only relabels the levels of an image that is not flat; IVIF_ZOO divides the sum of both
    by H(A) + H(B) instead.
    """
    shares = []
    for source in (a, b):
        joint = _joint(source, fused)
        shares.append(ratio(2 * _mutual(joint), jnp.sum(_entropies(joint))))
    return shares[0] + shares[1]


@batched
def tsallis(a: Grey, b: Grey, fused: Grey) -> Score:
    """Q_TE: (T(A;F) + T(B;F)) / (H(A)^q + H(B)^q + T(A;B)) with q = 0.43137. Higher is better.

    T(X;Y) = (1 - sum p(x,y)^q (p(x) p(y))^(1-q)) / (1 - q), H in bits; from 0 up. Nava et al., SPIE
    Newsroom 2008, in the code of Liu et al. (IEEE TPAMI 2012) with its bug: p(x) is read from the
    histogram of Y and p(y) from that of X, all images stretched to 0..255. Undefined where both
    sources are flat. MEFB uses Cvejic's form (`tsallis_mefb`); the TE of IVIF_ZOO is
    H(A) + H(B) - H(F).
    """
    q = 0.43137
    a, b, fused = (stretched(x) for x in (a, b, fused))
    sources = _joint(a, b)
    whole = jnp.sum((_entropies(sources) / BIT) ** q) + _tsallis(sources, q)
    return ratio(_tsallis(_joint(a, fused), q) + _tsallis(_joint(b, fused), q), whole)


@batched
def tsallis_mefb(a: Grey, b: Grey, fused: Grey) -> Score:
    """Q_TE: T(A;F) + T(B;F) with q = 1.85, not normalised. Higher is better.

    Cvejic et al., Electron. Lett. 2006, as MEFB computes it, with the bug described in `tsallis`.
    """
    a, b, fused = (stretched(x) for x in (a, b, fused))
    return _tsallis(_joint(a, fused), 1.85) + _tsallis(_joint(b, fused), 1.85)


@batched
def nonlinear_correlation(a: Grey, b: Grey, fused: Grey) -> Score:
    """Q_NCIE: 1 + sum_i (r_i / 3) log256(r_i / 3) over the eigenvalues r_i of R. Higher is better.

    R is the 3 x 3 matrix of nonlinear correlations of A, B and F: mutual information in units of
    log 256 (that is, H(X)' + H(Y)' - H(X,Y)'), and 1 on the diagonal. 0.802 (independent) to 1.
    Wang et al., in Stathaki, Image Fusion, 2008. IVIF_ZOO puts Pearson's r into R.
    """
    ab, af, bf = (
        _mutual(_joint(x, y)) / np.log(LEVELS) for x, y in ((a, b), (a, fused), (b, fused))
    )
    one = jnp.ones_like(ab)
    matrix = jnp.stack([jnp.stack(row) for row in ((one, ab, af), (ab, one, bf), (af, bf, one))])
    # Rounding can make the zero eigenvalues of equal images negative.
    share = jnp.maximum(jnp.linalg.eigvalsh(matrix), 0) / 3
    return 1 - _entropy(share) / np.log(LEVELS)


@batched
def cross_entropy(a: Grey, b: Grey, fused: Grey) -> Score:
    """CE: mean over both sources S of sum p_S log2(p_S / p_F), in bits. Lower is better.

    Only levels found in both images count, so CE can be negative; 0 for equal histograms.
    Bulanon et al., Biosyst. Eng. 2009, as in VIFB and MEFB. The CE of IVIF_ZOO, a binary cross
    entropy of the pixels, is another quantity.
    """
    p_a, p_b, p_f = (_histogram(x) for x in (a, b, fused))
    return (_divergence(p_a, p_f) + _divergence(p_b, p_f)) / (2 * BIT)


def _histogram(x: Grey) -> Float[Array, "256"]:
    return _share(jnp.bincount(levels(x).ravel(), length=LEVELS), x.size)


def _joint(x: Grey, y: Grey) -> Joint:
    both = (LEVELS * levels(x) + levels(y)).ravel()
    return jnp.bincount(both, length=LEVELS**2).reshape(LEVELS, LEVELS)


def _share(counts: Int[Array, "*n"], pixels: int | Int[Array, ""]) -> Float[Array, "*n"]:
    return counts.astype(jnp.float32) / pixels


def _entropy(p: Float[Array, "*n"]) -> Scalar:
    """Entropy in nats. The sign is inside the sum, as a flat image would give -0 otherwise."""
    return jnp.sum(p * -jnp.log(jnp.where(p > 0, p, 1.0)))


def _entropies(joint: Joint) -> Float[Array, "2"]:
    """Entropies of the first and the second image, in nats."""
    pixels = jnp.sum(joint)
    return jnp.stack([_entropy(_share(jnp.sum(joint, axis), pixels)) for axis in (1, 0)])


def _shares(joint: Joint) -> tuple[Array, Array, Array]:
    """p(x,y), p(x) as a column and p(y) as a row."""
    pixels = jnp.sum(joint)
    column, row = (jnp.sum(joint, axis, keepdims=True) for axis in (1, 0))
    return _share(joint, pixels), _share(column, pixels), _share(row, pixels)


def _mutual(joint: Joint) -> Scalar:
    p, p_x, p_y = _shares(joint)
    # The logarithm of a ratio: a difference of entropies would cancel in float32.
    return total(p * jnp.log(jnp.where(p > 0, p / jnp.where(p > 0, p_x * p_y, 1.0), 1.0)))


def _tsallis(joint: Joint, q: float) -> Scalar:
    """(1 - sum p(x,y)^q (p(x) p(y))^(1-q)) / (1 - q), where p(x) p(y) > 0."""
    p, p_x, p_y = _shares(joint)
    # The published code takes each share from the other image: p_x is a row and p_y a column.
    independent = p_x.T * p_y.T
    known = (p > 0) & (independent > 0)
    p, independent = jnp.where(known, p, 0.0), jnp.where(known, independent, 1.0)
    return (1 - total(p**q * independent ** (1 - q))) / (1 - q)


def _divergence(p: Float[Array, "256"], q: Float[Array, "256"]) -> Scalar:
    both = (p > 0) & (q > 0)
    return jnp.sum(p * jnp.log(jnp.where(both, p / jnp.where(both, q, 1.0), 1.0)))


def _white(x: Grey) -> Scalar:
    """The entropy that an image loses when levels 254 and 255 are merged."""
    p = _histogram(x)[254:]
    return _entropy(p) - _entropy(jnp.sum(p, keepdims=True))
