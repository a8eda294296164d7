"""Image files, and their luma and chroma.

Images are arrays as their files hold them: uint8 or uint16, "h w" when grey and "h w 3" in colour;
from Python also float32 in [0, 1].
The model fuses luma, Y of full-range BT.601; `recolor` puts colour back afterwards.
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
T = TypeVar("T")

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""The shares of red, green and blue."""


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
    scaled = unit(image)
    return scaled if scaled.ndim == 2 else scaled @ LUMA


def chroma(image: Stored) -> Float[np.ndarray, "h w 2"]:
    """Cb and Cr, each in [-0.5, 0.5]; zeros for a grey image."""
    scaled = unit(image)
    if scaled.ndim == 2:
        return np.zeros((*scaled.shape, 2), np.float32)
    y = scaled @ LUMA
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


def same_size(a: np.ndarray, b: np.ndarray, what: str) -> None:
    """Raises ImageError, with both sizes, if two images differ in size; `what` tells which."""
    if a.shape[:2] != b.shape[:2]:
        sizes = " and ".join(f"{v.shape[1]}x{v.shape[0]}" for v in (a, b))
        raise ImageError(f"{what} are {sizes} pixels; align and crop them to one size")


def unit(image: Stored) -> Float[np.ndarray, "..."]:
    """The image in [0, 1]."""
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
