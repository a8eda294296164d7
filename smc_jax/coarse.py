"""A coarse result of the frequency branch for a whole image, which its tiles use (ours).

A tile's spectrum is not the image's, and the enhanced features of the two differ in the low
frequencies, such as the mean. An image reduced to fewer pixels keeps these, however large the
original is: its spectrum is the middle of the original's, where the ring-by-ring scan begins.
"""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from einops import reduce
from jaxtyping import PyTree

from smc_jax import config, tiles
from smc_jax.color import Luma
from smc_jax.mafe import FREQUENCY, FrequencyRotation, Shallow
from smc_jax.types import Features, Image

STEPS = (1, 2, 4, 8, tiles.UNIT)
"""Possible sides of a coarse pixel, in pixels. Tiles and cores begin at multiples of each."""


def step(pixels: int, most: int) -> int:
    """Returns the smallest of `STEPS` that reduces an image of `pixels` to at most `most` coarse
    pixels, or the largest step if none does.
    """
    return next((s for s in STEPS if pixels <= most * s**2), STEPS[-1])


class Overview:
    """The first layer and the frequency branch of a network, compiled once for both sources."""

    def __init__(self, cfg: config.Model):
        shallow = Shallow(cfg.width)
        frequency = FrequencyRotation(
            cfg.state, cfg.dt_rank, cfg.bidirectional, cfg.frequency_order, cfg.scan_method
        )

        def begin(params: PyTree, image: Image, step: int) -> Any:
            features = shallow.apply({"params": params["shallow"]}, image)
            return reduce(features, "b (h i) (w j) c -> b h w c", "mean", i=step, j=step)

        def enhance(params: PyTree, mean: Features, step: int) -> Any:
            own = {"params": params["mafe"][FREQUENCY]}
            box = _box(mean.shape[1:3], step)
            # With `step` times fewer pixels per side, orthonormal spectra are `step` times smaller.
            features = _filtered(mean, step / box)
            return _filtered(frequency.apply(own, features, method="enhance")[0], box / step)

        self._width = cfg.width
        self._begin = jax.jit(begin, static_argnames="step")
        self._enhance = jax.jit(enhance, static_argnames="step")

    def __call__(
        self, params: PyTree, image: Luma, parts: Iterable[tiles.Tile], step: int
    ) -> np.ndarray:
        """Returns the enhanced features of a whole image as `Coarse`: means over squares with sides
        of `step` pixels. `params` are those of a `model.Encoder`.
        """
        mean = np.zeros((1, *(extent // step for extent in image.shape), self._width), np.float32)
        for tile in parts:
            part = np.ascontiguousarray(image[tile.place], np.float32)[None, ..., None]
            found = self._begin(params, part, step)[:, *tiles.blocks(tile.within, step)]
            mean[:, *tiles.blocks(tile.core, step)] = found
        return np.asarray(self._enhance(params, mean, step))


def _box(shape: tuple[int, ...], step: int) -> np.ndarray:
    """The factor by which the half-plane spectrum of a coarse image differs from the large one's:
    the mean over a square weakens high frequencies, and its centre is not its first pixel.
    """
    pixels = np.arange(step) / step
    y, x = (f[:, None] * pixels for f in (np.fft.fftfreq(shape[0]), np.fft.rfftfreq(shape[1])))
    down, across = (np.exp(2j * np.pi * v).mean(1) for v in (y, x))
    return (down[:, None] * across)[..., None].astype(np.complex64)


def _filtered(x: Features, by: np.ndarray) -> Features:
    spectrum = jnp.fft.rfft2(x, axes=(1, 2)) * by
    return jnp.fft.irfft2(spectrum, s=x.shape[1:3], axes=(1, 2))
