"""The border that pads images to multiples of one size, so that few sizes are compiled (ours)."""

import numpy as np
from jaxtyping import Float

SMALLEST = 16
"""Sides of images may not be smaller than this."""
MULTIPLE = 32
"""The sides of a padded image are multiples of this."""


def filled(extent: int) -> int:
    """Returns the length of a side after padding."""
    return extent + -extent % MULTIPLE


def margins(height: int, width: int) -> list[tuple[int, int]]:
    """Returns the margins above and below, and left and right, in the form that `pad` takes."""
    return [(0, filled(extent) - extent) for extent in (height, width)]


def mirror(image: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "filled_h filled_w"]:
    """Pads an image of at least 16x16 pixels by mirroring it at its lower and right borders."""
    return np.pad(image, margins(*image.shape), mode="reflect")
