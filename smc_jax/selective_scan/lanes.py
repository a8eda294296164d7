"""Arrays in the lanes of a GPU's blocks, and how kernels run on them (Pallas, Mosaic GPU).

A block is a warpgroup. Its 128 lanes hold arrays "r c": r rows of c channels. Every row has its own
B and C, so that sequences of 128 channels, of 4 or of a single one fill the lanes equally well. No
row spans two warps, so that sums over its channels need no barrier between warps.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.experimental.mosaic.gpu as mgpu
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

WARPS, LANES = 4, 128
# Number of arrays whose sums over the channels are stored at once.
SUMS = 16
# Padding of the rows in shared memory, which keeps neighbouring lanes from reading the same bank.
PADDING = 4


class Tile(NamedTuple):
    """The part that a block computes: the next `rows` rows along "k" or "s", `channels` of each.

    Rows times channels is a multiple of the number of lanes. A lane with several channels of a row
    reads B and C once for all of them.
    """

    rows: int
    channels: int
    along: str
    first: str
    """The first axis of token arrays, "s" or "k"."""

    @property
    def time(self) -> int:
        """The position of the axis t in token arrays."""
        return 2 if self.first == "s" else 1

    def extents(self, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
        """Returns the numbers of chunks, tokens per chunk, sequences and channels in x's shape."""
        if self.first == "s":
            sequences, chunks, tokens, width = shape
        else:
            chunks, tokens, sequences, width = shape
        return chunks, tokens, sequences, width

    def blocks(self, shape: tuple[int, ...]) -> int:
        """Returns the number of blocks for arrays of x's shape."""
        chunks, _, sequences, width = self.extents(shape)
        return chunks * sequences // self.rows * (width // self.channels)


def run(kernel, arguments, shapes, blocks: int, interpret, scratch=()) -> tuple:
    """Runs a kernel on arrays and returns one float32 array for each of `shapes`.

    Args:
      blocks: the number of blocks; inside one, `lax.axis_index("block")` is its index.
      scratch: shapes of arrays in the shared memory of a block.
    """
    function = plgpu.kernel(
        kernel,
        out_type=[jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes],
        scratch_types=[plgpu.SMEM(shape, jnp.float32) for shape in scratch],
        grid=(blocks,),
        grid_names=("block",),
        compiler_params=plgpu.CompilerParams(
            approx_math=True,
            reduction_scratch_bytes=0,  # no sum has terms in two warps
            # A lane reads only what it has stored itself, except in `store_sums`, which has its
            # own barriers.
            unsafe_no_auto_barriers=True,
            lowering_semantics=plgpu.LoweringSemantics.Lane,
        ),
        interpret=interpret,
    )
    return tuple(function(*arguments))


class Block:
    """Inside a kernel, locates this block's arrays "r c" in memory."""

    def __init__(self, tile: Tile, shape: tuple[int, ...], interpret: Any):
        _, _, sequences, width = tile.extents(shape)
        self.shape = tile.rows, tile.channels
        self.first = tile.first
        self.along_k = tile.along == "k"
        self.layouts = None if interpret else _layouts(tile.rows)
        block, self.part = _divide(lax.axis_index("block"), width // tile.channels)
        k, s = _divide(block, sequences if self.along_k else sequences // tile.rows)
        self.k = pl.ds(k * tile.rows, tile.rows) if self.along_k else k
        self.s = s if self.along_k else pl.ds(s * tile.rows, tile.rows)
        self.d = pl.ds(self.part * tile.channels, tile.channels)

    def token(self, t: tuple) -> tuple:
        if self.first == "s":
            return self.s, self.k, *t, self.d
        return self.k, *t, self.s, self.d

    def chunk(self) -> tuple:
        return self.k, self.s, self.d

    def state(self, n) -> tuple:
        return n, self.k, self.s, self.d

    def tokens(self, tokens: list, *refs) -> Iterator[tuple]:
        """Yields each token's index and arrays; all are loaded before the first is used."""
        loaded = [[self.load(ref, self.token(t)) for ref in refs] for t in tokens]
        return ((t, *arrays) for t, arrays in zip(tokens, loaded, strict=True))

    def rate(self, A_ref, n):
        return self.load(A_ref, (n, self.s, self.d), (1,) if self.along_k else (0, 1))

    def row(self, ref, t: tuple, n):
        """Loads number `n` of a token's B or C for each row."""
        index = (self.s, self.k, *t, n) if self.first == "s" else (self.k, *t, n, self.s)
        return self.load(ref, index, (0,))

    def load(self, ref, index, axes: tuple[int, ...] = (0, 1)):
        """Loads an array "r c", or one with one of its axes, which is broadcast to both; for
        `store_sums`, one with a third axis.
        """
        if self.layouts is None:
            v = ref[index]
        else:
            # "Optimized" loads exist for tiled shared memory only.
            nothing = (None,) if jax.__version_info__ < (0, 11) else ()
            layout = self.layouts[axes]
            v = plgpu.load(ref.at[index], *nothing, layout=layout, optimized=False)
        return v if len(axes) > 1 else self._cast(lax.broadcast_in_dim(v, self.shape, axes))

    def store(self, ref, index, v) -> None:
        if self.layouts is None or not hasattr(plgpu, "store"):
            ref[index] = v
        else:
            plgpu.store(ref.at[index], v, optimized=False)

    def store_sums(self, ref, i, n, arrays: list, terms_ref) -> None:
        """Stores the sums over the channels of `SUMS` arrays."""
        index = self.part, self.k, i, n
        if self.shape[0] > WARPS:
            for j, v in enumerate(arrays):
                self.store(ref, (*index, j, self.s), v.sum(1))
            return
        # Here a row is a warp, and each sum would take five exchanges between its lanes, most of
        # the gradient's time. Through shared memory each lane instead gets half of a sum's terms.
        rows, terms = (pl.ds(0, size) for size in self.shape)
        self._join_lanes()
        for j, v in enumerate(arrays):
            self.store(terms_ref, (rows, j, terms), v)
        self._join_lanes()
        sums = self.load(terms_ref, (rows, pl.ds(0, len(arrays)), terms), (0, 1, 2)).sum(2)
        self.store(ref, (*index, self.s, pl.ds(0, len(arrays))), sums)

    def _join_lanes(self) -> None:
        """Makes the lanes of a warp wait until each can read what the others have stored."""
        if self.layouts is not None:
            plgpu.inline_mgpu()(lambda _: mgpu.utils.warp_barrier())()

    def zeros(self):
        return self._cast(jnp.zeros(self.shape, jnp.float32))

    def _cast(self, v):
        return v if self.layouts is None else plgpu.layout_cast(v, self.layouts[0, 1])


def _divide(a, b: int):
    return lax.div(a, b), lax.rem(a, b)


def _layouts(rows: int) -> dict[tuple[int, ...], Any]:
    """Returns layouts by axes of "r c"; rows are assigned to warps first, then to their lanes."""
    lanes = LANES // rows
    if rows == WARPS:
        tiles, warps, within = ((4, 32), (1,)), (-3,), (-2,)
    elif lanes == 1:
        tiles, warps, within = ((128, 1), (32, 1)), (-4,), (-2,)
    else:
        tiles, warps, within = ((rows, lanes), (rows // 4, lanes), (1,)), (-5,), (-3, -2)
    tile = mgpu.TiledLayout(plgpu.Tiling(tiles), warps, within, -1)
    layouts: dict[tuple[int, ...], mgpu.TiledLayout] = {(0, 1): tile}
    layouts |= {(0,): tile.reduce((1,)), (1,): tile.reduce((0,))}
    if rows == WARPS:
        # Each lane of the warp has half of the terms of one sum, four at a time.
        tiles = (WARPS, SUMS, 8), (4,)
        layouts[0, 1, 2] = mgpu.TiledLayout(plgpu.Tiling(tiles), (-4,), (-2, -3), -1)
    return {
        axes: plgpu.Layout.TILED(v.tiling, v.warp_dims, v.lane_dims, v.vector_dim)
        for axes, v in layouts.items()
    }
