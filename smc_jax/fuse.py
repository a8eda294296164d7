"""Fusing images of any size: padding to sizes that are compiled once, colour put back."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PyTree

from smc_jax import color, config, model
from smc_jax.color import Luma, Stored

MULTIPLE = 32
"""Sizes are filled up to multiples of this, so that few different sizes are compiled."""
SMALLEST = 16


class Fuser:
    """A network with its parameters, as a function of two images."""

    def __init__(self, cfg: config.Model, params: PyTree):
        network = model.build(cfg)
        self._params = params
        self._apply = jax.jit(lambda params, a, b: network.apply({"params": params}, a, b)[0])

    def __call__(self, a: Stored, b: Stored) -> Stored:
        """Fuses two aligned images, grey or colour, of 8 or 16 bits.

        Raises:
          ImageError: they differ in size, or are smaller than 16x16.
        """
        color.same_size(a, b, "the sources")
        return color.recolor(self.luma(color.luma(a), color.luma(b)), a, b)

    def luma(self, a: Luma, b: Luma) -> Luma:
        """Fuses two luma images in [0, 1]."""
        height, width = a.shape
        if min(height, width) < SMALLEST:
            raise color.ImageError(
                f"images of {width}x{height} pixels are too small; 16x16 is least"
            )
        filled = [_fill(v)[None, ..., None] for v in (a, b)]
        fused = self._apply(self._params, *map(jnp.asarray, filled))
        return np.asarray(fused)[0, :height, :width, 0]


def _fill(image: Luma) -> Float[np.ndarray, "filled_h filled_w"]:
    """Mirrors an image at its lower and right border up to the next multiple."""
    return np.pad(image, [(0, -extent % MULTIPLE) for extent in image.shape], mode="reflect")
