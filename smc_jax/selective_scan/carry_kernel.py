"""The carry from chunk to chunk as a kernel (see `kernels`).

It computes what `two_level.carry` does by `lax.associative_scan`, which a GPU runs as some twenty
small kernels. A lane has one number of the state of one channel and walks from chunk to chunk. If
there are many chunks, parts of them are walked side by side, which takes a second walk, as with
tokens.

Shapes: those of `kernels`, with m for s times d; p parts of t chunks.
"""

import math
from typing import Any

import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float

from smc_jax.selective_scan.kernels import Rates, State, turns, walk
from smc_jax.selective_scan.lanes import LANES, WARPS, Block, Tile, run

# Rows are numbers of the state, one per warp.
TILE = Tile(WARPS, LANES // WARPS, "s", "s")
# Chunks per turn of the loop, which are loaded at once.
UNROLL = 8
# Up to this many chunks are walked in one part; more are split.
WALK = 128


def carry(
    A: Rates,
    handed: State,
    steps: Float[Array, "k s d"],
    start: Float[Array, "n s d"],
    *,
    reverse: bool,
    interpret: Any = None,
) -> tuple[State, Float[Array, "n s d"]]:
    """Returns the true state before each chunk, and the one after the last.

    Args:
      A: decay rates, multiplied by log2(e).
      handed: the state after each chunk, had it started at zero.
      steps: the sum of dt over each chunk.
      start: the state before the first chunk.
    """
    states, chunks, sequences, width = handed.shape
    merged = (rearrange(v, "... s d -> ... (s d)") for v in (A, handed, steps, start))
    A, handed, steps, start = (_fill(v, -1, TILE.channels) for v in merged)
    A, handed, start = (_fill(v, 0, TILE.rows) for v in (A, handed, start))
    starts, end = _carry(A, handed, steps, start, reverse=reverse, interpret=interpret)
    starts, end = (v[:states, ..., : sequences * width] for v in (starts, end))
    shape = sequences, width
    return starts.reshape(states, chunks, *shape), end.reshape(states, *shape)


def _carry(A, handed, steps, start, **options):
    chunks = handed.shape[1]
    parts, length = _parts(chunks)
    handed = rearrange(_fill(handed, 1, length), "n (p t) m -> n p t m", p=parts)
    steps = rearrange(_fill(steps, 0, length), "(p t) m -> p t m", p=parts)
    if parts == 1:
        starts, end = _walk(A, handed, steps, start[:, None], **options)
        end = end[:, 0]
    else:
        (ends,) = _walk(A, handed, steps, None, **options)
        starts, end = _carry(A, ends, steps.sum(1), start, **options)
        starts, _ = _walk(A, handed, steps, starts, **options)
    return rearrange(starts, "n p t m -> n (p t) m")[:, :chunks], end


def _walk(A, handed, steps, start, *, reverse: bool, interpret: Any):
    """Walks each part from zero or from `start`, and returns the state after it.

    With a `start`, the state before each chunk comes first in the result.
    """

    def selective_scan_carry(A_ref, handed_ref, steps_ref, *refs):
        block = Block(TILE, handed.shape, interpret)
        part = block.s, block.k, block.d
        rate = block.load(A_ref, (block.s, block.d))
        *_, end_ref = refs

        def step(h, places):
            sums = [block.load(steps_ref, (block.k, *t, block.d), (1,)) for t in places]
            for (t, chunk), dt in zip(block.tokens(places, handed_ref), sums, strict=True):
                if start is not None:
                    block.store(refs[1], block.token(t), h)
                h = jnp.exp2(dt * rate) * h + chunk
            return h

        h = block.zeros() if start is None else block.load(refs[0], part)
        block.store(end_ref, part, walk(step, h, handed_ref, TILE, reverse=reverse))

    (by_turns,) = turns(UNROLL, TILE, handed)
    given = A, by_turns, steps.reshape(steps.shape[0], -1, UNROLL, steps.shape[-1])
    given += () if start is None else (start,)
    shapes = () if start is None else (by_turns.shape,)
    shapes += ((*handed.shape[:2], handed.shape[3]),)
    *starts, end = run(selective_scan_carry, given, shapes, TILE.blocks(handed.shape), interpret)
    return *(v.reshape(handed.shape) for v in starts), end


def _parts(chunks: int) -> tuple[int, int]:
    """Returns the number of parts, and of chunks per part including the padding."""
    if chunks <= WALK:
        return 1, chunks + -chunks % UNROLL
    root = math.isqrt(chunks)
    # Padding costs a copy: parts that need none are best, then those for which the two walks,
    # within parts and from part to part, are about equally long.
    lengths = range(UNROLL, 2 * root, UNROLL)
    length = min(lengths, key=lambda length: (chunks % length > 0, abs(length - root)))
    return -(-chunks // length), length


def _fill(v, axis: int, of: int):
    """Pads an axis with zeros to a multiple of `of`; as chunks they leave the state unchanged."""
    margin = [(0, 0)] * v.ndim
    margin[axis] = (0, -v.shape[axis] % of)
    return jnp.pad(v, margin)
