"""The border by which images are filled up, so that few sizes are compiled (ours)."""

import numpy as np
from jaxtyping import Float

SMALLEST = 16
"""Sides of images may not be smaller than this."""
MULTIPLE = 32
"""The sides of a filled image are multiples of this."""


def filled(extent: int) -> int:
    """The length of a side that is filled up."""
    return extent + -extent % MULTIPLE


def margins(height: int, width: int) -> list[tuple[int, int]]:
    """What is missing above and below, and to the left and the right: for `pad`."""
    return [(0, filled(extent) - extent) for extent in (height, width)]


def mirror(image: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "filled_h filled_w"]:
    """Fills an image of at least 16x16 pixels up by mirroring it at its lower and right border."""
    return np.pad(image, margins(*image.shape), mode="reflect")
