"""Large images in parts: where tiles lie, and how what comes of them is blended."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from smc_jax import border

OVERLAP = 64
"""Pixels that neighbours share, over which one passes into the other."""
LEAST = 2 * OVERLAP
"""The side of the smallest tile."""


class Tile(NamedTuple):
    """A part of an image."""

    place: tuple[slice, slice]
    """Its rows and columns."""
    down: Float[np.ndarray, "h"]
    across: Float[np.ndarray, "w"]

    @property
    def weight(self) -> Float[np.ndarray, "h w"]:
        """Its share in the result: over an overlap the weights of the neighbours sum to 1."""
        return np.outer(self.down, self.across).astype(np.float32)


def shape(height: int, width: int, pixels: int) -> tuple[int, int]:
    """Of all shapes of at most `pixels` the one that covers an image with the fewest in all: what
    neighbours share is computed twice. Its sides are multiples of 32, and at least 128.

    Args:
      height: of the image, a multiple of 32 as the width is.
      width: of the image.
      pixels: the most that a tile may have; the smallest tile may have more.
    """
    found = [(h, w) for h in _lengths(height) for w in _lengths(width) if h * w <= pixels]

    def cost(shape: tuple[int, int]) -> tuple[int, int]:
        count = _count(height, shape[0]) * _count(width, shape[1])
        return count * math.prod(shape), max(shape)

    return min(found, key=cost, default=(min(height, LEAST), min(width, LEAST)))


def cover(height: int, width: int, shape: tuple[int, int], overlap: int = OVERLAP) -> list[Tile]:
    """Tiles of one shape that cover an image, as evenly as their number allows.

    Args:
      height: of the image.
      width: of the image.
      shape: of a tile; along a shorter side of the image tiles are as long as that.
      overlap: the least number of pixels that neighbours share, less than the sides of a tile.
    """
    rows, columns = _spans(height, shape[0], overlap), _spans(width, shape[1], overlap)
    return [Tile((row, column), down, across) for row, down in rows for column, across in columns]


def blocks(place: tuple[slice, slice], side: int) -> tuple[slice, ...]:
    """The rows and columns of a tile, counted in blocks of `side` pixels, which it begins with."""
    return tuple(slice(p.start // side, p.stop // side) for p in place)


def _lengths(extent: int) -> set[int]:
    """The lengths with which so many tiles, and not fewer, reach along a side of an image."""
    even = (-(-(extent - OVERLAP) // n) + OVERLAP for n in range(1, extent // border.MULTIPLE + 1))
    return {max(border.filled(length), min(extent, LEAST)) for length in even}


def _count(extent: int, size: int, overlap: int = OVERLAP) -> int:
    """How many spans of a size cover an extent."""
    return 1 if extent <= size else math.ceil((extent - overlap) / (size - overlap))


def _spans(extent: int, size: int, overlap: int) -> list[tuple[slice, np.ndarray]]:
    """Spans along one axis, each with its weights, which sum to 1 at each pixel."""
    if extent <= size:
        return [(slice(0, extent), np.ones(extent))]
    count = _count(extent, size, overlap)
    # Where all lengths are multiples of 32, so are the starts.
    unit = math.gcd(extent, size, overlap, border.MULTIPLE)
    starts = np.linspace(0, (extent - size) // unit, count).round().astype(int) * unit
    shared = [int(size - step) for step in np.diff(starts)]
    spans, total = [], np.zeros(extent)
    for start, before, after in zip(starts, [0, *shared], [*shared, 0], strict=True):
        weight = np.ones(size)
        weight[:before] *= _rise(before)
        weight[size - after :] *= _rise(after)[::-1]
        span = slice(int(start), int(start) + size)
        total[span] += weight
        spans.append((span, weight))
    # Where three meet, their weights do not sum to 1 by themselves.
    return [(span, weight / total[span]) for span, weight in spans]


def _rise(length: int) -> np.ndarray:
    """From 0 to 1 without a kink; with itself reversed it sums to 1."""
    return np.sin((np.arange(length) + 0.5) / max(length, 1) * np.pi / 2) ** 2
