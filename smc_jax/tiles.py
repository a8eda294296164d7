"""Large images in parts: where tiles lie, and how what comes of them is blended."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

OVERLAP = 64
"""Pixels that neighbours share, over which one passes into the other."""
MULTIPLE = 32


class Tile(NamedTuple):
    """A part of an image."""

    place: tuple[slice, slice]
    """Its rows and columns."""
    weight: Float[np.ndarray, "h w"]
    """Its share in the result: over an overlap the weights of the neighbours sum to 1."""


def side(pixels: int, overlap: int = OVERLAP) -> int:
    """The side of square tiles of at most `pixels`: a multiple of 32, with room for overlaps."""
    return max(math.isqrt(max(pixels, 0)) // MULTIPLE * MULTIPLE, 2 * overlap)


def cover(height: int, width: int, size: int, overlap: int = OVERLAP) -> Iterator[Tile]:
    """Tiles of one shape that cover an image, as evenly as their number allows.

    Args:
      height: of the image.
      width: of the image.
      size: the side of a tile; along a shorter side of the image tiles are as long as that.
      overlap: the least number of pixels that neighbours share, less than `size`.
    """
    rows, columns = _spans(height, size, overlap), _spans(width, size, overlap)
    for row, vertical in rows:
        for column, horizontal in columns:
            yield Tile((row, column), np.outer(vertical, horizontal).astype(np.float32))


def blocks(place: tuple[slice, slice], side: int) -> tuple[slice, ...]:
    """The rows and columns of a tile, counted in blocks of `side` pixels, which it begins with."""
    return tuple(slice(p.start // side, p.stop // side) for p in place)


def _spans(extent: int, size: int, overlap: int) -> list[tuple[slice, np.ndarray]]:
    """Spans along one axis, each with its weights, which sum to 1 at each pixel."""
    if extent <= size:
        return [(slice(0, extent), np.ones(extent))]
    count = math.ceil((extent - overlap) / (size - overlap))
    # Where all lengths are multiples of 32, so are the starts.
    unit = math.gcd(extent, size, overlap, MULTIPLE)
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
