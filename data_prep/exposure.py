"""Light and how a camera records it: the sRGB curve, exposure, clipping and noise."""

import numpy as np
from jaxtyping import Float, UInt8

Light = Float[np.ndarray, "h w c"]
"""Linear light: 0 is black, 1 saturates the camera at its normal exposure."""

READ_NOISE = 5.0
"""Standard deviation, in electrons."""


def linear(image: UInt8[np.ndarray, "h w c"]) -> Light:
    """The light of an sRGB image."""
    v = np.arange(256, dtype=np.float32) / 255
    table = np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)
    return table.astype(np.float32)[image]


def expose(
    light: Light, stops: float, full_well: float, rng: np.random.Generator
) -> UInt8[np.ndarray, "h w c"]:
    """Returns the sRGB photograph of a scene, with shot noise (photons are counted), read noise and
    saturation.

    Args:
      light: the scene.
      stops: exposure relative to the normal one; +1 doubles the light.
      full_well: electrons at which a pixel saturates; the fewer, the noisier the camera.
      rng: generator of the noise.
    """
    electrons = rng.poisson(light * (2.0**stops * full_well))
    return encode((electrons + rng.normal(0, READ_NOISE, light.shape)) / full_well)


def encode(light: Light) -> UInt8[np.ndarray, "h w c"]:
    """The sRGB image of light: the inverse of `linear`, where nothing saturates."""
    v = np.clip(light, 0, 1)
    encoded = np.where(v <= 0.0031308, 12.92 * v, 1.055 * v ** (1 / 2.4) - 0.055)
    return np.rint(encoded * 255).astype(np.uint8)
