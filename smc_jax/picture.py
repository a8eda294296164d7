"""Image files with what they hold besides pixels: transparency, EXIF and ICC profile."""

import io
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image as PILImage

from smc_jax import color, files, image_files
from smc_jax.color import Stored
from smc_jax.errors import ImageError

FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
}
"""The formats that can be written, by suffix."""
_EXIF, _GPS = 0x8769, 0x8825
_KEPT = (
    *(0x010E, 0x010F, 0x0110, 0x011A, 0x011B, 0x0128, 0x0131, 0x0132, 0x013B, 0x013C, 0x8298),
    *(_EXIF, _GPS),
)
"""EXIF tags that are kept: description, make, model, resolution, software, date, artist, host,
copyright, and two directories of tags. The others describe how the file was stored, or hold a
preview, which would show a source."""


class Picture(NamedTuple):
    """An image file."""

    pixels: Stored
    alpha: UInt8[np.ndarray, "h w"] | None = None
    """None if everything is opaque."""
    exif: bytes = b""
    icc: bytes = b""


def read(path: str | Path) -> Picture:
    """Reads an image file: pixels as `image_files.read` does, and the rest of a `Picture`.

    Raises:
      ImageError: the file is missing, empty, damaged or not an image.
    """
    return image_files.decoded(image_files.content(path), str(path), _picture)


def write(path: str | Path, picture: Picture) -> None:
    """Writes an image file in the format of its suffix, whole or not at all.

    Raises:
      InputError: the suffix is unknown or the file cannot be written.
    """
    files.write(path, encode(picture, Path(path).suffix))


def encode(picture: Picture, suffix: str) -> bytes:
    """Returns the bytes of an image file.

    What a format cannot hold is dropped: 16 bits become 8 in colour, JPEG and BMP; transparency is
    kept in 8-bit PNG and TIFF only.

    Args:
      picture: what to write.
      suffix: one of `FORMATS`.

    Raises:
      ImageError: the suffix is unknown.
    """
    kind = format_of(suffix)
    pixels, alpha = picture.pixels, picture.alpha
    if pixels.ndim == 3 or kind in ("JPEG", "BMP"):
        pixels = color.bytes8(pixels)
    image = PILImage.fromarray(pixels)
    if alpha is not None and kind in ("PNG", "TIFF") and pixels.dtype == np.uint8:
        image.putalpha(PILImage.fromarray(alpha))
    more: dict[str, Any] = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    if kind != "BMP":
        if picture.exif and (kind != "JPEG" or len(picture.exif) < 65000):
            more["exif"] = picture.exif
        # A profile is for grey or for colour only, and says for which.
        if picture.icc[16:20] == (b"GRAY" if pixels.ndim == 2 else b"RGB "):
            more["icc_profile"] = picture.icc
    buffer = io.BytesIO()
    image.save(buffer, kind, **more)
    return buffer.getvalue()


def format_of(suffix: str) -> str:
    """Returns Pillow's name of the format of a suffix.

    Raises:
      ImageError: no format that can be written has that suffix.
    """
    if suffix.lower() not in FORMATS:
        what = f"there is no format {suffix}" if suffix else "a suffix is missing"
        raise ImageError(f"{what}; give one of {', '.join(FORMATS)}")
    return FORMATS[suffix.lower()]


def inherit(fused: Stored, a: Picture, b: Picture) -> Picture:
    """Returns a fused image with what it inherits from its sources.

    EXIF and ICC profile are those of the source that gives the colour: `b` if it alone is in
    colour, else `a`; whichever of them it does not have comes from the other source. If both
    sources are transparent, each pixel takes the alpha of the more opaque one.
    """
    first, second = (b, a) if color.is_color(b.pixels) and not color.is_color(a.pixels) else (a, b)
    alpha = None
    if a.alpha is not None and b.alpha is not None:
        alpha = np.maximum(a.alpha, b.alpha)
    return Picture(fused, alpha, first.exif or second.exif, first.icc or second.icc)


def _picture(file: PILImage.Image) -> Picture:
    image, alpha = image_files.upright(file), None
    if image.has_transparency_data:
        alpha = np.asarray(image.convert("RGBA"))[..., 3]
        alpha = None if (alpha == 255).all() else alpha
    icc = file.info.get("icc_profile") or b""
    # The tags come from `file`, since a TIFF loses them when it is turned.
    return Picture(image_files.pixels(image), alpha, _exif(file), icc)


def _exif(image: PILImage.Image) -> bytes:
    try:
        found, kept = image.getexif(), PILImage.Exif()
        for tag in _KEPT:
            if tag in found:
                kept[tag] = found.get_ifd(tag) if tag in (_EXIF, _GPS) else found[tag]
        return kept.tobytes() if kept else b""
    except Exception:
        # Damaged tags are no reason to refuse the pixels; Pillow has many errors for them.
        return b""
