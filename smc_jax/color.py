"""Image files, and what happens to their colour.

Images are arrays as their files hold them: uint8 or uint16, "h w" when grey and "h w 3" in colour;
from Python also float32 in [0, 1].
The model fuses luma, Y of full-range BT.601; colour is put back afterwards.
"""

import io
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Float, Shaped, UInt8
from PIL import Image as PILImage
from PIL import ImageOps, UnidentifiedImageError

from smc_jax import files
from smc_jax.errors import ImageError

Stored = Shaped[np.ndarray, "_ _"] | Shaped[np.ndarray, "_ _ 3"]
Luma = Float[np.ndarray, "h w"]
Weighted = tuple[Float[np.ndarray, "h w 2"], Float[np.ndarray, "h w #2"]]
T = TypeVar("T")

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)

# Of two focus settings: what of a difference in luma is none.
NEAR = 0.1 / 255
# Of two exposures: the luma at which colour is half noise; how much stronger a chroma becomes, at
# most; how far from the middle a luma may lie (standard deviation); where a colour begins to clip.
NOISE, STRONGER, EXPOSED, CLIPPED = 0.05, 2.5, 0.2, 0.95


def read(path: str | Path) -> Stored:
    """Reads an image file: EXIF rotation applied, transparency dropped, palettes resolved.

    Pillow knows 16 bits in grey only: colour of 16 bits comes back in 8. Of several frames the
    first is read.

    Raises:
      ImageError: the file is missing, empty, damaged or no image.
    """
    return decode(content(path), str(path))


def content(path: str | Path) -> bytes:
    """The bytes of a file.

    Raises:
      ImageError: it cannot be read, or is no file that has an end, as a pipe.
    """
    try:
        if not (Path(path).is_file() or Path(path).is_dir()):
            Path(path).stat()  # What does not exist says so itself.
            raise ImageError(f"{path} is no regular file; give an image file")
        return Path(path).read_bytes()
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror or error}") from None
    except ValueError as error:  # a null character in the name
        raise ImageError(f"{path!r} cannot be read: {error}") from None


def decode(encoded: bytes, name: str) -> Stored:
    """Decodes the bytes of an image file as `read` does; `name` is for the error message."""
    return decoded(encoded, name, lambda image: pixels(upright(image)))


def decoded(encoded: bytes, name: str, convert: Callable[[PILImage.Image], T]) -> T:
    """What `convert` makes of an open image file; `name` is for the error message.

    Raises:
      ImageError: it is empty, damaged or no image.
    """
    what = "is empty"
    try:
        if encoded:
            with PILImage.open(io.BytesIO(encoded)) as file:
                return convert(file)
    except UnidentifiedImageError:
        what = "is no image"
    except PILImage.DecompressionBombError:
        what = "has too many pixels"
    # Pillow raises RuntimeError for damaged AVIF and, as NotImplementedError, for odd DDS.
    except (OSError, SyntaxError, ValueError, EOFError, RuntimeError) as error:
        what = f"cannot be decoded ({error})"
    raise ImageError(f"{name} {what}; replace it by a PNG, JPEG, BMP or TIFF")


def write(path: str | Path, image: Stored) -> None:
    """Writes a PNG, whole or not at all; 16-bit colour, which Pillow lacks, in 8 bits.

    Raises:
      InputError: the folder cannot be written to.
    """
    buffer = io.BytesIO()
    PILImage.fromarray(image if image.ndim == 2 else bytes8(image)).save(buffer, "PNG")
    files.write(path, buffer.getvalue())


def luma(image: Stored) -> Luma:
    """Y in [0, 1]; for a grey image its own values."""
    scaled = _unit(image)
    return scaled if scaled.ndim == 2 else scaled @ _LUMA


def chroma(image: Stored) -> Float[np.ndarray, "h w 2"]:
    """Cb and Cr, each in [-0.5, 0.5]; zeros for a grey image."""
    scaled = _unit(image)
    if scaled.ndim == 2:
        return np.zeros((*scaled.shape, 2), np.float32)
    y = scaled @ _LUMA
    return np.stack([(scaled[..., 2] - y) / 1.772, (scaled[..., 0] - y) / 1.402], -1)


def bytes8(image: Stored) -> Stored:
    """The image in 8 bits a channel, rounded."""
    if image.dtype == np.uint16:
        return ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return image


def luma8(image: Stored) -> UInt8[np.ndarray, "h w"]:
    """Luma in whole grey levels 0..255, as metrics see it. Exact: halves are rounded up."""
    image = bytes8(image)
    if image.ndim == 2:
        return image
    return ((image.astype(np.int32) @ np.array([299, 587, 114]) + 500) // 1000).astype(np.uint8)


def is_color(image: Stored) -> bool:
    """Whether there is any colour in it: three equal channels are grey."""
    return image.ndim == 3 and bool((image != image[..., :1]).any())


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
    luma = np.clip(y, 0, 1)[..., None]
    room = np.where(hue > 0, 1 - luma, luma)
    share = np.min(room / np.maximum(np.abs(hue), 1e-6), axis=-1, keepdims=True)
    return luma + np.minimum(share, 1) * hue


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
    own = luma(image)
    needed = (np.maximum(y, 0) + NOISE) / (own + NOISE)
    less = np.minimum(1, STRONGER / needed)
    well = np.exp(-((own - 0.5) ** 2) / (2 * EXPOSED**2))
    clipped = np.clip((_unit(image) - CLIPPED) / (1 - CLIPPED), 0, 1)
    # Of a clipped colour something is left, of white nothing.
    hue = 1.1 - clipped.max(-1) - 0.09 * clipped.min(-1)
    weight = well * hue * less**2
    return chroma(_developed(y, _unit(image))) * less[..., None], weight[..., None]


def _developed(y: Luma, rgb: Float[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w 3"]:
    """The colours as an exposure shows them that is so much longer that their luma is y.

    Of one that is too strong for that, a full channel stays so while the others rise, which takes
    the red around a lamp to yellow and a blue sky to cyan; or all fade, which takes red to pink.
    The mean of both looks right.
    """
    light = rgb + NOISE
    gain = ((np.maximum(y, 0) + NOISE) / (light @ _LUMA))[..., None]
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
        over = (full @ _LUMA)[:, None]
        rest = (np.where(full, 0, light) @ _LUMA)[:, None]
        more = (y - over + NOISE * (1 - over)) / np.maximum(rest, 1e-6)
        gain = np.maximum(gain, more)
    return np.minimum(gain * light - NOISE, 1)


def same_size(a: np.ndarray, b: np.ndarray, what: str) -> None:
    """Raises ImageError, with both sizes, if two images differ in size; `what` tells which."""
    if a.shape[:2] != b.shape[:2]:
        sizes = " and ".join(f"{v.shape[1]}x{v.shape[0]}" for v in (a, b))
        raise ImageError(f"{what} are {sizes} pixels; align and crop them to one size")


def _unit(image: Stored) -> Float[np.ndarray, "..."]:
    if np.issubdtype(image.dtype, np.floating):
        return image.astype(np.float32)
    return image.astype(np.float32) / np.iinfo(image.dtype).max


def upright(image: PILImage.Image) -> PILImage.Image:
    """The image turned as its EXIF orientation says."""
    image.load()
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        # Damaged tags are no reason to refuse the pixels; Pillow has many errors for them.
        return image


def pixels(image: PILImage.Image) -> Stored:
    """An image of Pillow's as an array: grey or RGB, transparency dropped, palettes resolved.

    Raises:
      ValueError: it holds numbers that 16 bits cannot.
    """
    if image.mode in ("1", "L", "LA"):
        return np.asarray(image.convert("L"))
    if not (image.mode.startswith("I") or image.mode == "F"):
        return np.asarray(image.convert("RGB"))
    values = np.asarray(image)
    if not ((values >= 0) & (values <= 65535) & (values == np.floor(values))).all():
        raise ValueError("its values are no whole numbers from 0 to 65535; scale them to these")
    return values.astype(np.uint16)
