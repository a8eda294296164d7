"""Images that show what a network does with a pair."""

import jax
import numpy as np
from einops import rearrange
from jaxtyping import Float

from smc_jax.losses import wavelet
from smc_jax.train_step import Made
from smc_jax.types import Batch

SQUARE = 8
"""Side, in pixels, of the square that shows one of the gate's weights."""

_lift = jax.jit(wavelet.lift_image)


def of(batch: Batch, made: Made) -> dict[str, Float[np.ndarray, "_ _"]]:
    """Returns grey images in [0, 1] of the first pair of a batch.

    Returns:
      `images`: both sources and the fused image. `bands`: the Haar sub-bands of each of these, the
      low one and three high ones around mid-grey. `gate`, if there are experts: one column per
      pair of the batch, with one square per expert, as bright as its weight.
    """
    shown = [_here(v)[:1] for v in (batch.a, batch.b, made.fused)]
    panels = {
        "images": np.concatenate([v[0, ..., 0] for v in shown], 1),
        "bands": np.concatenate([_bands(v) for v in shown], 1),
    }
    if made.weights is not None:
        panels["gate"] = np.kron(_here(made.weights).T, np.ones((SQUARE, SQUARE)))
    return panels


def _here(array: jax.Array) -> np.ndarray:
    """The part of an array that the first device of this process holds."""
    return jax.device_get(array.addressable_data(0))


def _bands(image: Float[np.ndarray, "1 h w 1"]) -> Float[np.ndarray, "_ _"]:
    low, high = jax.device_get(_lift(jax.device_put(image)))
    bands = np.concatenate([low, (high + 1) / 2], -1)
    return rearrange(bands, "1 h w (i j) -> (i h) (j w)", i=2)
