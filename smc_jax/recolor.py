"""The colour of the sources, given back to the luma that was fused of them."""

import numpy as np
from jaxtyping import Float

from smc_jax.color import LUMA, Luma, Stored, chroma, is_color, luma, unit

Weighted = tuple[Float[np.ndarray, "h w 2"], Float[np.ndarray, "h w #2"]]

# Of two focus settings: what of a difference in luma is none.
NEAR = 0.1 / 255
# Of two exposures: the luma at which colour is half noise; how much stronger a chroma becomes, at
# most; how far from the middle a luma may lie (standard deviation); where a colour begins to clip.
NOISE, STRONGER, EXPOSED, CLIPPED = 0.05, 2.5, 0.2, 0.95


def recolor(y: Luma, a: Stored, b: Stored, task: str = "general") -> Stored:
    """Gives fused luma the colour of its sources.

    Of two colour sources the chroma is averaged, of one it is taken as it is, and two grey sources
    give a grey image. The weight of a chroma is its strength, but (ours) of two focus settings
    (`mfif`) how near the luma of its pixel is to the fused one: a pixel that was taken over comes
    out as it was. Of two exposures (`meif`) each chroma is first made as strong as the fused luma
    asks for, if it can be; its weight tells that, and how well its pixel is exposed. A colour that
    is too strong to be shown at its luma is made weaker (ours): the luma stays.

    Args:
      y: fused luma in [0, 1].
      a: the first source.
      b: the second source, of the same size.
      task: what is fused.

    Returns:
      An image of float32 if a source is, of 16 bits if a source has 16, else of 8.
    """
    colored = [image for image in (a, b) if is_color(image)]
    if not colored:
        rgb = y
    else:
        of = {"mfif": _focused, "meif": _exposed}.get(task, _strong)
        found, weights = zip(*(of(y, image) for image in colored), strict=True)
        c = np.average(found, axis=0, weights=np.broadcast_to(weights, np.shape(found)))
        blue, red = c[..., 0], c[..., 1]
        green = -(0.114 * 1.772 * blue + 0.299 * 1.402 * red) / 0.587
        rgb = _shown(y, np.stack([1.402 * red, green, 1.772 * blue], -1))
    rgb = np.clip(rgb, 0, 1)
    if any(np.issubdtype(image.dtype, np.floating) for image in (a, b)):
        return rgb.astype(np.float32)
    kind = np.uint16 if np.uint16 in (a.dtype, b.dtype) else np.uint8
    return np.rint(rgb * np.iinfo(kind).max).astype(kind)


def _shown(
    y: Float[np.ndarray, "*size"], hue: Float[np.ndarray, "*size 3"]
) -> Float[np.ndarray, "*size 3"]:
    """Luma and what red, green and blue differ from it by, or as much of that as can be shown: cut
    off at black and white instead, a colour would take some of the luma with it.
    """
    level = np.clip(y, 0, 1)[..., None]
    room = np.where(hue > 0, 1 - level, level)
    share = np.min(room / np.maximum(np.abs(hue), 1e-6), axis=-1, keepdims=True)
    return level + np.minimum(share, 1) * hue


def _strong(y: Luma, image: Stored) -> Weighted:
    """The chroma of a source for an image of luma y, and its weights: how strong it is."""
    del y
    own = chroma(image)
    return own, np.abs(own) + 1e-6


def _focused(y: Luma, image: Stored) -> Weighted:
    """The same of a focus setting: the weights are large where its luma is y."""
    return chroma(image), 1 / (np.abs(y - luma(image)) + NEAR)[..., None] ** 2


def _exposed(y: Luma, image: Stored) -> Weighted:
    """The same of an exposure: the chroma is as much stronger as y is than its luma, but at most
    `STRONGER` and as far as it can be shown, and the weights are small where more is needed, or a
    pixel is dark, bright or, in one of its colours, clipped.
    """
    rgb = unit(image)
    own = luma(rgb)
    needed = (np.maximum(y, 0) + NOISE) / (own + NOISE)
    less = np.minimum(1, STRONGER / needed)
    well = np.exp(-((own - 0.5) ** 2) / (2 * EXPOSED**2))
    clipped = np.clip((rgb - CLIPPED) / (1 - CLIPPED), 0, 1)
    # Of a clipped colour something is left, of white nothing.
    hue = 1.1 - clipped.max(-1) - 0.09 * clipped.min(-1)
    weight = well * hue * less**2
    return chroma(_developed(y, rgb, needed)) * less[..., None], weight[..., None]


def _developed(
    y: Luma, rgb: Float[np.ndarray, "h w 3"], needed: Luma
) -> Float[np.ndarray, "h w 3"]:
    """The colours as an exposure shows them that is `needed` times as long; their luma is then y.

    Of one that is too strong for that, a full channel stays so while the others rise, which takes
    the red around a lamp to yellow and a blue sky to cyan; or all fade, which takes red to pink.
    The mean of both looks right.
    """
    light, gain = rgb + NOISE, needed[..., None]
    longer = gain * light - NOISE
    strong = longer.max(-1) > 1
    faded = _shown(y[strong], longer[strong] - y[strong, None])
    longer[strong] = (faded + _clipped(y[strong, None], light[strong], gain[strong])) / 2
    return longer


def _clipped(
    y: Float[np.ndarray, "n 1"], light: Float[np.ndarray, "n 3"], gain: Float[np.ndarray, "n 1"]
) -> Float[np.ndarray, "n 3"]:
    """Colours with luma y whose channels are cut off at white, and `light` multiplied elsewhere, by
    more than `gain`, for that takes some of the luma.
    """
    # Newton: luma is concave in the gain, and linear until one more channel becomes full.
    for _ in range(2):
        full = gain * light >= 1 + NOISE
        over = (full @ LUMA)[:, None]
        rest = (np.where(full, 0, light) @ LUMA)[:, None]
        more = (y - over + NOISE * (1 - over)) / np.maximum(rest, 1e-6)
        gain = np.maximum(gain, more)
    return np.minimum(gain * light - NOISE, 1)
