"""How much memory fusing takes, and how much there is."""

import re

import jax
import psutil

from smc_jax import config
from smc_jax.errors import ConfigError

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_FLOATS = 48
"""Numbers of four bytes that are alive at once, for each pixel and channel of the features."""


def per_pixel(model: config.Model) -> int:
    """Bytes that fusing a pair takes for each pixel: fitted; a test holds it to the compiler's."""
    return 4 * _FLOATS * model.width


def available() -> int:
    """Half of the bytes that are free on the device."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return (stats["bytes_limit"] - stats["bytes_in_use"]) // 2
    return psutil.virtual_memory().available // 2


def parse(text: str) -> int:
    """Bytes of a size such as `2GB`, `500M` or `1.5g`; a unit is a power of 1000.

    Raises:
      ConfigError: it is no size, or less than a tile needs.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)i?B?", text.strip(), re.IGNORECASE)
    if not match:
        raise ConfigError(f"{text!r} is no size of memory; give one such as 2GB or 500MB")
    return int(float(match[1]) * _UNITS[match[2].upper()])
