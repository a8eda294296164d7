"""Image files, pairs of them, and what happens to their colour.

Images are arrays as their files hold them: uint8 or uint16, "h w" when grey and "h w 3" in colour.
The model fuses luma, Y of full-range BT.601; colour is put back afterwards.
"""

import io
import os
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped
from PIL import Image as PILImage
from PIL import ImageOps, UnidentifiedImageError

Stored = Shaped[np.ndarray, "h w"] | Shaped[np.ndarray, "h w 3"]
Luma = Float[np.ndarray, "h w"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


class ImageError(ValueError):
    """An image or a folder of images that cannot be used; the message names it."""


class Pair(NamedTuple):
    """The files of two aligned images."""

    name: str
    a: Path
    b: Path


def read(path: str | Path) -> Stored:
    """Reads an image file: EXIF rotation applied, transparency dropped, palettes resolved.

    Raises:
      ImageError: the file is missing, empty or no image.
    """
    try:
        return decode(Path(path).read_bytes(), str(path))
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror or error}") from None


def decode(encoded: bytes, name: str) -> Stored:
    """Decodes the bytes of an image file as `read` does; `name` is for the error message."""
    if not encoded:
        raise ImageError(f"{name} is empty; replace it by a PNG, JPEG, BMP or TIFF")
    try:
        with PILImage.open(io.BytesIO(encoded)) as file:
            image = ImageOps.exif_transpose(file)
            if image.mode.startswith("I") or image.mode == "F":
                return _sixteen(name, np.asarray(image))
            grey = image.mode in ("1", "L", "LA")
            return np.asarray(image.convert("L" if grey else "RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        what = (
            "is no image" if isinstance(error, UnidentifiedImageError) else f"is damaged ({error})"
        )
        raise ImageError(f"{name} {what}; replace it by a PNG, JPEG, BMP or TIFF") from None


def write(path: str | Path, image: Stored) -> None:
    """Writes a PNG, whole or not at all.

    Raises:
      ImageError: the folder cannot be written to.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(suffix=".tmp", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                PILImage.fromarray(_storable(image)).save(file, "PNG")
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise ImageError(f"{path} cannot be written: {error.strerror or error}") from None


def images(folder: str | Path) -> dict[str, Path]:
    """The image files of a folder by name without suffix; other files are passed over.

    Raises:
      ImageError: two images share a name.
    """
    found: dict[str, Path] = {}
    for path in sorted(Path(folder).iterdir()):
        if path.suffix.lower() in SUFFIXES and path.is_file():
            if path.stem in found:
                raise ImageError(f"{path} and {found[path.stem].name} share a name; keep one")
            found[path.stem] = path
    return found


def pairs(folder: str | Path) -> tuple[list[Pair], list[str]]:
    """The pairs `a/<name>.*`, `b/<name>.*` of a folder, sorted by name.

    Returns:
      The pairs, and a line for each image that has no partner.

    Raises:
      ImageError: the folder has no `a` or `b`, or no pair.
    """
    sides = {}
    for side in ("a", "b"):
        if not (Path(folder) / side).is_dir():
            raise ImageError(f"{folder} has no folder {side}/; it needs a/ and b/ with equal names")
        sides[side] = images(Path(folder) / side)
    a, b = sides["a"], sides["b"]
    problems = [f"{a[n]} has no partner in {Path(folder) / 'b'}" for n in sorted(a.keys() - b)]
    problems += [f"{b[n]} has no partner in {Path(folder) / 'a'}" for n in sorted(b.keys() - a)]
    found = [Pair(name, a[name], b[name]) for name in sorted(a.keys() & b)]
    if not found:
        raise ImageError(f"{folder} holds no pair: no name is in a/ and in b/")
    return found, problems


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


def is_color(image: Stored) -> bool:
    """Whether there is any colour in it: three equal channels are grey."""
    return image.ndim == 3 and bool((image != image[..., :1]).any())


def recolor(y: Luma, a: Stored, b: Stored) -> Stored:
    """Gives fused luma the colour of its sources.

    Of two colour sources the chroma is averaged with its own strength as the weight, of one it is
    taken as it is, and two grey sources give a grey image.

    Args:
      y: fused luma in [0, 1].
      a: the first source.
      b: the second source, of the same size.

    Returns:
      An image of 16 bits if a source has 16, else 8.
    """
    colored = [chroma(image) for image in (a, b) if is_color(image)]
    if not colored:
        rgb = y
    else:
        weights = [np.abs(c) + 1e-6 for c in colored]
        c = sum(w * c for w, c in zip(weights, colored, strict=True)) / sum(weights)
        blue, red = c[..., 0], c[..., 1]
        green = -(0.114 * 1.772 * blue + 0.299 * 1.402 * red) / 0.587
        rgb = y[..., None] + np.stack([1.402 * red, green, 1.772 * blue], -1)
    kind = np.uint16 if np.uint16 in (a.dtype, b.dtype) else np.uint8
    top = np.iinfo(kind).max
    return np.rint(np.clip(rgb, 0, 1) * top).astype(kind)


def same_size(a: Stored, b: Stored, what: str) -> None:
    """Raises ImageError, with both sizes, if the two sources of `what` differ in size."""
    if a.shape[:2] != b.shape[:2]:
        sizes = " and ".join(f"{v.shape[1]}x{v.shape[0]}" for v in (a, b))
        raise ImageError(f"{what}: the sources are {sizes} pixels; align and crop them to one size")


def _unit(image: Stored) -> Float[np.ndarray, "..."]:
    return image.astype(np.float32) / np.iinfo(image.dtype).max


def _sixteen(name: str, values: np.ndarray) -> Stored:
    """A grey image of more than 8 bits: what fits uint16 without loss is taken as that."""
    if values.size and (values.min() < 0 or values.max() > 65535 or (values % 1).any()):
        raise ImageError(f"{name} has values outside 0..65535 or fractions; store it in 16 bits")
    return values.astype(np.uint16)


def _storable(image: Stored) -> np.ndarray:
    if image.dtype == np.uint16 and image.ndim == 3:
        # Pillow has no 16-bit colour.
        return ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return image
