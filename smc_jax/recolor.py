"""Gives fused luma the colour of its sources."""

import numpy as np
from jaxtyping import Float

from smc_jax.color import LUMA, Luma, Stored, chroma, is_color, luma, unit

Weighted = tuple[Float[np.ndarray, "h w 2"], Float[np.ndarray, "h w #2"]]

# For focus settings: a difference in luma that still counts as none.
NEAR = 0.1 / 255
# For exposures: the luma at which colour is half noise; the largest factor by which a chroma is
# strengthened; how far from the middle a luma may lie (standard deviation); the value at which a
# channel begins to clip.
NOISE, STRONGER, EXPOSED, CLIPPED = 0.05, 2.5, 0.2, 0.95


def recolor(y: Luma, a: Stored, b: Stored, task: str = "general") -> Stored:
    """Gives fused luma the colour of its sources.

    If both sources are in colour, their chroma is averaged; if one is, its chroma is used; if
    neither is, the image is grey. The weight of a chroma is its strength, except (ours) for two
    tasks. For focus settings (`mfif`) it is how close the luma of the source's pixel is to the
    fused luma, so that a pixel taken over from one source keeps its colour. For exposures (`meif`)
    each chroma is first made as strong as the fused luma requires, as far as possible; the weight
    reflects how far that is, and how well the pixel is exposed. A colour that is too strong to be
    shown at its luma is weakened (ours), so that the luma stays.

    Args:
      y: fused luma in [0, 1].
      a: the first source.
      b: the second source, of the same size.
      task: the task that the sources are for.

    Returns:
      A float32 image if a source is in floats, else uint16 if a source is, else uint8.
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
    """Luma plus the differences of red, green and blue from it, scaled down where needed so that
    the colour can be shown. Clipping at black and white instead would change the luma.
    """
    level = np.clip(y, 0, 1)[..., None]
    room = np.where(hue > 0, 1 - level, level)
    share = np.min(room / np.maximum(np.abs(hue), 1e-6), axis=-1, keepdims=True)
    return level + np.minimum(share, 1) * hue


def _strong(y: Luma, image: Stored) -> Weighted:
    """The chroma of a source, and as its weights how strong it is."""
    del y
    own = chroma(image)
    return own, np.abs(own) + 1e-6


def _focused(y: Luma, image: Stored) -> Weighted:
    """The chroma of a focus setting, and its weights: large where its luma is close to y."""
    return chroma(image), 1 / (np.abs(y - luma(image)) + NEAR)[..., None] ** 2


def _exposed(y: Luma, image: Stored) -> Weighted:
    """The chroma of an exposure, and its weights. The chroma is strengthened by the ratio of y to
    its luma, but at most by `STRONGER` and as far as it can be shown. The weights are small where
    more is needed, or where a pixel is dark, bright or clipped in one of its channels.
    """
    rgb = unit(image)
    own = luma(rgb)
    needed = (np.maximum(y, 0) + NOISE) / (own + NOISE)
    less = np.minimum(1, STRONGER / needed)
    well = np.exp(-((own - 0.5) ** 2) / (2 * EXPOSED**2))
    clipped = np.clip((rgb - CLIPPED) / (1 - CLIPPED), 0, 1)
    # A colour with a clipped channel keeps some weight, white almost none.
    hue = 1.1 - clipped.max(-1) - 0.09 * clipped.min(-1)
    weight = well * hue * less**2
    return chroma(_developed(y, rgb, needed)) * less[..., None], weight[..., None]


def _developed(
    y: Luma, rgb: Float[np.ndarray, "h w 3"], needed: Luma
) -> Float[np.ndarray, "h w 3"]:
    """The colours that an exposure `needed` times as long would show; their luma is then y.

    If a colour is too strong for that, either its full channels stay full while the others rise,
    which turns the red around a lamp yellow and a blue sky cyan, or all channels fade, which turns
    red pink. The mean of both looks right.
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
    """Colours of luma y: `light` multiplied by a factor, with channels cut off at white. The factor
    is larger than `gain`, since cutting off takes away some of the luma.
    """
    # Newton's method: luma is concave in the gain, and linear until one more channel becomes full.
    for _ in range(2):
        full = gain * light >= 1 + NOISE
        over = (full @ LUMA)[:, None]
        rest = (np.where(full, 0, light) @ LUMA)[:, None]
        more = (y - over + NOISE * (1 - over)) / np.maximum(rest, 1e-6)
        gain = np.maximum(gain, more)
    return np.minimum(gain * light - NOISE, 1)
