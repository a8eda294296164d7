"""The sources that callers of `smc_jax.fuse` give: a file, an array, or a batch of arrays."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from smc_jax import image_files
from smc_jax.color import Stored
from smc_jax.errors import ImageError


def images(argument: Any, side: str) -> tuple[list[Stored], int | None]:
    """Returns the images in an argument, and the c of a batch "b h w c": 0 for a batch "b h w",
    None for a single image.

    Args:
      argument: `a` or `b` of `smc_jax.fuse`.
      side: which of them, for error messages.

    Raises:
      ImageError: the argument holds no images that can be fused.
    """
    if isinstance(argument, str | Path):
        return [image_files.read(argument)], None
    array = np.asarray(argument)
    # NumPy has no bfloat16, and computes in the byte order of the machine.
    kind = np.float32 if array.dtype == jnp.bfloat16 else array.dtype.newbyteorder("=")
    array = array.astype(kind, copy=False)
    last = array.shape[-1] if array.ndim else 0
    if array.ndim == 3 and last == 4:
        raise ImageError(f"{side} has the shape {array.shape}; leave its transparency out")
    if array.ndim == 3 and last == 1:
        raise ImageError(f"{side} has the shape {array.shape}; leave its last axis out")
    if array.ndim not in (2, 3, 4) or not array.size or (array.ndim == 4 and last not in (1, 3)):
        raise ImageError(
            f"{side} has the shape {array.shape}; give (h, w), (h, w, 3), or a batch (b, h, w), "
            "(b, h, w, 1) or (b, h, w, 3)"
        )
    if array.dtype not in (np.uint8, np.uint16) and not np.issubdtype(array.dtype, np.floating):
        raise ImageError(f"{side} is of {array.dtype}; give uint8, uint16, or floats in [0, 1]")
    if np.issubdtype(array.dtype, np.floating) and not ((array >= 0) & (array <= 1)).all():
        raise ImageError(f"{side} has values outside [0, 1], or NaN; scale its floats to [0, 1]")
    if array.ndim == 2 or (array.ndim == 3 and last == 3):
        return [array], None
    if array.ndim == 3:
        return list(array), 0
    return list(array[..., 0] if last == 1 else array), last
