"""Image files: read as arrays and written as PNG."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image as PILImage
from PIL import ImageOps, UnidentifiedImageError

from smc_jax import files
from smc_jax.color import Stored, bytes8
from smc_jax.errors import ImageError

T = TypeVar("T")


def read(path: str | Path) -> Stored:
    """Reads an image file: EXIF rotation applied, transparency dropped, palettes resolved.

    Pillow supports 16 bits in grey only, so 16-bit colour comes back in 8 bits. If there are
    several frames, the first is read.

    Raises:
      ImageError: the file is missing, empty, damaged or not an image.
    """
    return decode(content(path), str(path))


def content(path: str | Path) -> bytes:
    """Returns the bytes of a file.

    Raises:
      ImageError: it cannot be read, or is not a regular file: a pipe, for one, may never end.
    """
    try:
        if not (Path(path).is_file() or Path(path).is_dir()):
            Path(path).stat()  # Raises the error of a path that does not exist.
            raise ImageError(f"{path} is no regular file; give an image file")
        return Path(path).read_bytes()
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror or error}") from None
    except ValueError as error:  # a null character in the name
        raise ImageError(f"{path!r} cannot be read: {error}") from None


def decode(encoded: bytes, name: str) -> Stored:
    """Decodes the bytes of an image file as `read` does; error messages use `name`."""
    return decoded(encoded, name, lambda image: pixels(upright(image)))


def decoded(encoded: bytes, name: str, convert: Callable[[PILImage.Image], T]) -> T:
    """Returns the result of `convert` for an opened image file; error messages use `name`.

    Raises:
      ImageError: the file is empty, damaged or not an image.
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
    # Pillow raises RuntimeError for damaged AVIF, and its subclass NotImplementedError for odd DDS.
    except (OSError, SyntaxError, ValueError, EOFError, RuntimeError) as error:
        what = f"cannot be decoded ({error})"
    raise ImageError(f"{name} {what}; replace it by a PNG, JPEG, BMP or TIFF")


def write(path: str | Path, image: Stored) -> None:
    """Writes a PNG, whole or not at all; 16-bit colour, which Pillow cannot write, in 8 bits.

    Raises:
      InputError: the folder cannot be written to.
    """
    buffer = io.BytesIO()
    PILImage.fromarray(image if image.ndim == 2 else bytes8(image)).save(buffer, "PNG")
    files.write(path, buffer.getvalue())


def upright(image: PILImage.Image) -> PILImage.Image:
    """Returns the image turned as its EXIF orientation says."""
    image.load()
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        # Damaged tags are no reason to refuse the pixels; Pillow has many errors for them.
        return image


def pixels(image: PILImage.Image) -> Stored:
    """Returns a Pillow image as an array: grey or RGB, transparency dropped, palettes resolved.

    Raises:
      ValueError: it holds values that are not integers of 16 bits.
    """
    if image.mode in ("1", "L", "LA"):
        return np.asarray(image.convert("L"))
    if not (image.mode.startswith("I") or image.mode == "F"):
        return np.asarray(image.convert("RGB"))
    values = np.asarray(image)
    if not ((values >= 0) & (values <= 65535) & (values == np.floor(values))).all():
        raise ValueError("its values are no whole numbers from 0 to 65535; scale them to these")
    return values.astype(np.uint16)
