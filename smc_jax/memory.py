"""How much memory fusing takes, and how much there is."""

import math
import re
from decimal import Decimal

import jax
import psutil

from smc_jax import config, container, tiles
from smc_jax.errors import ConfigError

_UNITS = "KMGT"
_FLOATS = 54
"""Numbers of four bytes that are alive at once, per pixel and feature channel."""
_OVERVIEW = 12
"""The same for `coarse.Overview`, per coarse pixel, including its results, which are kept."""
_GLARE = 14
"""Numbers of four bytes that `glare.whole` needs per pixel."""


def per_pixel(model: config.Model) -> int:
    """Returns the bytes per pixel that fusing a pair takes: fitted, and tested against what the
    compiler says.
    """
    return 4 * _FLOATS * model.width


def overview(pixels: int) -> int:
    """Returns how many coarse pixels `coarse.Overview` may have if a tile may have `pixels`."""
    return pixels * _FLOATS // _OVERVIEW


def glare(model: config.Model, pixels: int) -> int:
    """Returns how many pixels `glare.whole` may look at if a tile may have `pixels`."""
    return pixels * per_pixel(model) // (4 * _GLARE)


def available() -> int:
    """Returns half of the bytes that are free on the device."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return (stats["bytes_limit"] - stats["bytes_in_use"]) // 2
    return _free() // 2


def _free() -> int:
    """Bytes free on this machine or, if less, in the container that this runs in."""
    free, left = psutil.virtual_memory().available, container.memory()
    return free if left is None else min(free, left)


def parse(text: str) -> int:
    """Returns the bytes of a size such as `2GB`, `500M` or `1.5g`. Units are powers of 1000, or of
    1024 with an i, as in `2GiB`.

    Raises:
      ConfigError: the text is not a size, or the size is too small for `check`.
    """
    form = rf"(\d+(?:\.\d+)?)\s*(?:([{_UNITS}])(i?))?B?"
    match = re.fullmatch(form, text.strip(), re.ASCII | re.IGNORECASE)
    if not match:
        raise ConfigError(f"{text!r} is no size of memory; give one such as 2GB or 500MB")
    power = _UNITS.index(match[2].upper()) + 1 if match[2] else 0
    size = int(Decimal(match[1]) * (1024 if match[3] else 1000) ** power)
    check(size, repr(text))
    return size


def check(size: int, name: str) -> None:
    """Raises ConfigError, naming the size `name`, if `size` is fewer bytes than a tile needs in a
    network of the default width.
    """
    least = tiles.AREA * per_pixel(config.Model())
    if size < least:
        enough = f"give at least {math.ceil(least / 1e6)}MB"
        raise ConfigError(f"{name} is less memory than a tile needs; {enough}")
