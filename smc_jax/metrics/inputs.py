"""Checks of the arguments of metrics, which may be on another scale or no images at all."""

from pathlib import Path
from typing import Any

import numpy as np

from smc_jax.errors import ImageError
from smc_jax.metrics import vif


def grey(**images: Any) -> list[np.ndarray]:
    """Returns the images as arrays of one shape with grey levels 0..255; NaN and inf are allowed.

    Raises:
      ImageError: the images are not of this kind.
    """
    for name, image in images.items():
        if isinstance(image, str | Path):
            raise ImageError(f"{name} is the name of a file; metrics need arrays of grey levels")
    arrays = {name: np.asarray(image) for name, image in images.items()}
    shapes = [array.shape for array in arrays.values()]
    if len(set(shapes)) > 1 or len(shapes[0]) not in (2, 3) or not shapes[0][0]:
        found = ", ".join(map(str, shapes))
        raise ImageError(f"metrics need images of one shape, (h, w) or (b, h, w), not {found}")
    height, width = shapes[0][-2:]
    if min(height, width) < vif.SMALLEST:
        raise ImageError(
            f"metrics need grey images of at least {vif.SMALLEST} pixels a side, "
            f"not {width}x{height}"
        )
    for name, array in arrays.items():
        if array.dtype.kind not in "iuf":
            raise ImageError(f"{name} is of {array.dtype}; metrics need grey levels 0..255")
        known = array[np.isfinite(array)]
        least, most = (known.min(), known.max()) if known.size else (0, 0)
        # Metrics clip the overshoot of sharpened images; values further out mean another scale.
        if not -255 <= least <= most <= 510:
            raise ImageError(f"{name} goes from {least} to {most}; metrics need grey levels 0..255")
        if most <= 1 and (known % 1).any():
            raise ImageError(f"{name} is in [0, 1]; metrics need grey levels: multiply by 255")
    # JAX only supports the byte order of the machine.
    return [array.astype(array.dtype.newbyteorder("=")) for array in arrays.values()]
