"""Large images in parts: where tiles lie, and how their results are blended.

Pixels are scanned row by row, and little of the scan's state outlives a row, so a tile as wide as
the image comes out as it would within the whole image. Tiles are therefore as wide as possible.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

UNIT = 16
"""Tiles begin and end at multiples of this."""
OVERLAP = 2 * UNIT
"""Pixels that neighbouring tiles share, over which one is blended into the other."""
LEAST = 2 * OVERLAP
"""The shortest side of a tile."""
AREA = 128**2
"""The pixels that a tile may have however small the memory budget is."""
ROOMY = 256**2
"""The fewest pixels of tiles that are fused at the same time: more, smaller ones would cost more
than further cores save, for what neighbours share is computed twice.
"""
DEAR = 1.5
"""Wide tiles may compute at most this many times the pixels of the cheapest tiling."""


class Tile(NamedTuple):
    """A part of an image."""

    place: tuple[slice, slice]
    """Its rows and columns."""
    core: tuple[slice, slice]
    """The rows and columns that lie farther from its own border than from its neighbours'. The
    cores of all tiles cover each pixel of the image once."""
    down: Float[np.ndarray, "h"]
    across: Float[np.ndarray, "w"]

    @property
    def weight(self) -> Float[np.ndarray, "h w"]:
        """Its share of the result; where tiles overlap, their weights sum to 1."""
        return np.outer(self.down, self.across).astype(np.float32)

    @property
    def within(self) -> tuple[slice, ...]:
        """The place of its core within the tile."""
        return tuple(
            slice(core.start - place.start, core.stop - place.start)
            for core, place in zip(self.core, self.place, strict=True)
        )


def shape(height: int, width: int, pixels: int) -> tuple[int, int]:
    """Returns the widest shape of tile that covers an image at a bearable cost (see `DEAR`), where
    the cost is the pixels of all tiles together: those that neighbours share are computed twice.

    Its sides are multiples of 16, and at least 64 or the side of the image, whichever is less.

    Args:
      height: of the image, a multiple of 16.
      width: of the image, a multiple of 16.
      pixels: the most that a tile may have; values below `AREA` count as `AREA`.
    """
    most = max(pixels, AREA)
    found = [(h, w) for h in _lengths(height) for w in _lengths(width) if h * w <= most]

    def cost(shape: tuple[int, int]) -> int:
        return _count(height, shape[0]) * _count(width, shape[1]) * math.prod(shape)

    bearable = DEAR * min(map(cost, found))
    return max((s for s in found if cost(s) <= bearable), key=lambda s: (s[1], -cost(s)))


def at_once(height: int, width: int, pixels: int, most: int) -> int:
    """Returns how many tiles, at most `most`, to fuse at the same time: as many as do not make them
    narrower than a single one that `pixels` leaves room for.
    """
    widest = shape(height, width, pixels)[1]
    counts = range(min(most, pixels // ROOMY), 1, -1)
    return next((n for n in counts if shape(height, width, pixels // n)[1] == widest), 1)


def cover(height: int, width: int, shape: tuple[int, int], overlap: int = OVERLAP) -> list[Tile]:
    """Returns tiles of one shape that cover an image, spaced as evenly as their number allows.

    Args:
      height: of the image.
      width: of the image.
      shape: of a tile; where a side of the image is shorter, tiles are as long as that side.
      overlap: the least number of pixels that neighbours share, less than the sides of a tile.
    """
    rows, columns = _spans(height, shape[0], overlap), _spans(width, shape[1], overlap)
    return [
        Tile((row.place, column.place), (row.core, column.core), row.weights, column.weights)
        for row in rows
        for column in columns
    ]


def blocks(place: tuple[slice, ...], side: int) -> tuple[slice, ...]:
    """Returns rows and columns that begin and end at blocks of `side` pixels, counted in these."""
    return tuple(slice(p.start // side, p.stop // side) for p in place)


def _lengths(extent: int) -> set[int]:
    """For each number of tiles, the shortest length with which they span a side of an image."""
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
    # Where three spans overlap, their weights do not sum to 1 by themselves.
    return [
        _Span(span, core, weight / total[span])
        for (span, weight), core in zip(spans, cores, strict=True)
    ]


def _rise(length: int) -> np.ndarray:
    """A ramp from 0 to 1 without kinks; with its own reverse it sums to 1."""
    return np.sin((np.arange(length) + 0.5) / max(length, 1) * np.pi / 2) ** 2
