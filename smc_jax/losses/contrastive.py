"""The bi-level contrastive losses (Eq. 25-30): each sub-band of the fused result should be close to
the same sub-band of the sources and far from the other one.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from smc_jax.losses.wavelet import lift_channels, lift_image
from smc_jax.types import Features, Image, Scalar

Bands = tuple[Float[Array, "b i j p"], Float[Array, "b i j q"]]


def feature_contrast(
    fused: Features,
    a: Features,
    b: Features,
    *,
    split: str = "channel",
    wavelet: str = "haar",
    eps: float = 1e-4,
) -> Scalar:
    """L_fcl (Eq. 27), on the features F_mf, F_m1 and F_m2.

    Args:
      fused: F_mf.
      a: F_m1.
      b: F_m2.
      split: sub-bands from `channel` halves (literal) or from `spatial` rows and columns.
      wavelet: the lifting scheme, one of `wavelet.SCHEMES`.
      eps: added to the denominators.
    """
    lift = {"channel": lift_channels, "spatial": lift_image}[split]
    return _contrast(*(lift(v, wavelet) for v in (fused, a, b)), eps=eps)


def pixel_contrast(
    fused: Image, a: Image, b: Image, *, wavelet: str = "haar", eps: float = 1e-4
) -> Scalar:
    """L_pcl (Eq. 30), on the images; arguments as in `feature_contrast`."""
    return _contrast(*(lift_image(v, wavelet) for v in (fused, a, b)), eps=eps)


def _contrast(fused: Bands, a: Bands, b: Bands, eps: float) -> Scalar:
    fused_low, fused_high = fused
    (a_low, a_high), (b_low, b_high) = a, b
    low, high = (a_low, b_low), (a_high, b_high)
    return _ratio(fused_high, high, low, eps) + _ratio(fused_low, low, high, eps)


def _ratio(anchor, near, far, eps: float) -> Scalar:
    return (_distance(anchor, near) / (_distance(anchor, far) + eps)).mean()


def _distance(anchor, sources) -> Float[Array, "b"]:
    """||tile(anchor) - Cat(sources)||_1^2 of each image, as the square of a mean.

    A spatial split has three high bands for one low band: each is compared with the low band.
    """
    apart = jnp.zeros(len(anchor))
    for source in sources:
        wide, narrow = (anchor, source) if anchor.shape[-1] > source.shape[-1] else (source, anchor)
        narrow = jnp.tile(narrow, wide.shape[-1] // narrow.shape[-1])
        apart += jnp.abs(wide - narrow).mean((1, 2, 3)) / len(sources)
    return apart**2
