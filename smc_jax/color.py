"""Luma and chroma of images.

Images are arrays as their files hold them: uint8 or uint16, "h w" when grey and "h w 3" in colour;
callers from Python may also give floats in [0, 1]. The model fuses luma, Y of full-range BT.601;
`recolor` restores colour afterwards.
"""

import numpy as np
from jaxtyping import Float, Shaped, UInt8

from smc_jax.errors import ImageError

Stored = Shaped[np.ndarray, "_ _"] | Shaped[np.ndarray, "_ _ 3"]
Luma = Float[np.ndarray, "h w"]

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""The shares of red, green and blue in Y."""


def luma(image: Stored) -> Luma:
    """Returns Y in [0, 1]; for a grey image, its own values."""
    scaled = unit(image)
    return scaled if scaled.ndim == 2 else scaled @ LUMA


def chroma(image: Stored) -> Float[np.ndarray, "h w 2"]:
    """Returns Cb and Cr, each in [-0.5, 0.5]; zeros for a grey image."""
    scaled = unit(image)
    if scaled.ndim == 2:
        return np.zeros((*scaled.shape, 2), np.float32)
    y = scaled @ LUMA
    return np.stack([(scaled[..., 2] - y) / 1.772, (scaled[..., 0] - y) / 1.402], -1)


def bytes8(image: Stored) -> Stored:
    """Returns a 16-bit image in 8 bits per channel, rounded, and any other image as it is."""
    if image.dtype == np.uint16:
        return ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return image


def luma8(image: Stored) -> UInt8[np.ndarray, "h w"]:
    """Returns luma in whole grey levels 0..255, as metrics see it. Exact: halves are rounded up."""
    image = bytes8(image)
    if image.ndim == 2:
        return image
    return ((image.astype(np.int32) @ np.array([299, 587, 114]) + 500) // 1000).astype(np.uint8)


def is_color(image: Stored) -> bool:
    """Whether an image has any colour: three equal channels are grey."""
    return image.ndim == 3 and bool((image != image[..., :1]).any())


def same_size(a: np.ndarray, b: np.ndarray, what: str) -> None:
    """Raises ImageError, with both sizes, if two images differ in size; `what` names them."""
    if a.shape[:2] != b.shape[:2]:
        sizes = " and ".join(f"{v.shape[1]}x{v.shape[0]}" for v in (a, b))
        raise ImageError(f"{what} are {sizes} pixels; align and crop them to one size")


def unit(image: Stored) -> Float[np.ndarray, "..."]:
    """Returns the image as float32 in [0, 1]."""
    if np.issubdtype(image.dtype, np.floating):
        return image.astype(np.float32)
    return image.astype(np.float32) / np.iinfo(image.dtype).max
