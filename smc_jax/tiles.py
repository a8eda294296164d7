"""Large images in parts: where tiles lie, and how what comes of them is blended.

Pixels are scanned row by row, and little of a state outlives a row: as wide as the image, a tile
comes out as it would in the whole. Tiles are therefore as wide as can be.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

UNIT = 16
"""Tiles begin and end at multiples of this."""
OVERLAP = 2 * UNIT
"""Pixels that neighbours share, over which one passes into the other."""
LEAST = 2 * OVERLAP
"""The shortest side of a tile."""
AREA = 128**2
"""The pixels for which there must be room."""
DEAR = 1.5
"""How many times the pixels that would do may be computed so that tiles are wide."""


class Tile(NamedTuple):
    """A part of an image."""

    place: tuple[slice, slice]
    """Its rows and columns."""
    core: tuple[slice, slice]
    """Those that are farther from its border than from its neighbours'. The cores of all tiles
    are the image, each pixel once."""
    down: Float[np.ndarray, "h"]
    across: Float[np.ndarray, "w"]

    @property
    def weight(self) -> Float[np.ndarray, "h w"]:
        """Its share in the result: over an overlap the weights of the neighbours sum to 1."""
        return np.outer(self.down, self.across).astype(np.float32)

    @property
    def within(self) -> tuple[slice, ...]:
        """Where its core is in it."""
        return tuple(
            slice(core.start - place.start, core.stop - place.start)
            for core, place in zip(self.core, self.place, strict=True)
        )


def shape(height: int, width: int, pixels: int) -> tuple[int, int]:
    """Of all shapes of at most `pixels` that cover an image with few pixels in all (what neighbours
    share is computed twice), the widest. Its sides are multiples of 16, and at least 64.

    Args:
      height: of the image, a multiple of 16 as the width is.
      width: of the image.
      pixels: the most that a tile may have; fewer than `AREA` are taken as so many.
    """
    most = max(pixels, AREA)
    found = [(h, w) for h in _lengths(height) for w in _lengths(width) if h * w <= most]

    def cost(shape: tuple[int, int]) -> int:
        return _count(height, shape[0]) * _count(width, shape[1]) * math.prod(shape)

    bearable = DEAR * min(map(cost, found))
    return max((s for s in found if cost(s) <= bearable), key=lambda s: (s[1], -cost(s)))


def cover(height: int, width: int, shape: tuple[int, int], overlap: int = OVERLAP) -> list[Tile]:
    """Tiles of one shape that cover an image, as evenly as their number allows.

    Args:
      height: of the image.
      width: of the image.
      shape: of a tile; along a shorter side of the image tiles are as long as that.
      overlap: the least number of pixels that neighbours share, less than the sides of a tile.
    """
    rows, columns = _spans(height, shape[0], overlap), _spans(width, shape[1], overlap)
    return [
        Tile((row.place, column.place), (row.core, column.core), row.weights, column.weights)
        for row in rows
        for column in columns
    ]


def blocks(place: tuple[slice, ...], side: int) -> tuple[slice, ...]:
    """Rows and columns, counted in blocks of `side` pixels, of which they begin and end one."""
    return tuple(slice(p.start // side, p.stop // side) for p in place)


def _lengths(extent: int) -> set[int]:
    """The lengths with which so many tiles, and not fewer, reach along a side of an image."""
    even = (-(-(extent - OVERLAP) // n) + OVERLAP for n in range(1, extent // UNIT + 1))
    return {max(length + -length % UNIT, min(extent, LEAST)) for length in even}


def _count(extent: int, size: int, overlap: int = OVERLAP) -> int:
    """How many spans of a size cover an extent."""
    return 1 if extent <= size else math.ceil((extent - overlap) / (size - overlap))


class _Span(NamedTuple):
    """A tile along one axis."""

    place: slice
    core: slice
    weights: Float[np.ndarray, "size"]


def _spans(extent: int, size: int, overlap: int) -> list[_Span]:
    """Spans along one axis whose weights sum to 1 at each pixel."""
    if extent <= size:
        return [_Span(slice(0, extent), slice(0, extent), np.ones(extent))]
    count = _count(extent, size, overlap)
    # Where all lengths are multiples of 16, so are the starts.
    unit = math.gcd(extent, size, overlap, UNIT)
    starts = np.linspace(0, (extent - size) // unit, count).round().astype(int) * unit
    shared = [int(size - step) for step in np.diff(starts)]
    middles = [
        int(start) + s // 2 // unit * unit for start, s in zip(starts[1:], shared, strict=True)
    ]
    spans, total = [], np.zeros(extent)
    for start, before, after in zip(starts, [0, *shared], [*shared, 0], strict=True):
        weight = np.ones(size)
        weight[:before] *= _rise(before)
        weight[size - after :] *= _rise(after)[::-1]
        span = slice(int(start), int(start) + size)
        total[span] += weight
        spans.append((span, weight))
    cores = map(slice, [0, *middles], [*middles, extent])
    # Where three meet, their weights do not sum to 1 by themselves.
    return [
        _Span(span, core, weight / total[span])
        for (span, weight), core in zip(spans, cores, strict=True)
    ]


def _rise(length: int) -> np.ndarray:
    """From 0 to 1 without a kink; with itself reversed it sums to 1."""
    return np.sin((np.arange(length) + 0.5) / max(length, 1) * np.pi / 2) ** 2
