"""Kernels of the selective scan for NVIDIA GPUs, Hopper and newer, by Pallas' Mosaic GPU backend.

The lanes of a block hold arrays "r c" of r rows of c channels, laid out as `lanes` describes. Each
row is an independent scan (rows are chunks of one sequence, or one chunk of several sequences). The
states of a channel stay in the registers of its lane, and only that lane reads what it sets aside.

Shapes: k chunks of t tokens; s sequences side by side, from the batch and the groups alike. Token
arrays have one of two orders: "s k t d" ("s k t n" for B and C), as they come from a matrix
product, where channels of one sequence fill a row of lanes, or "k t s d" ("k t n s") where
neighbouring lanes hold channels of several sequences. A comes multiplied by log2(e), because exp2
is the only exponential in hardware.
"""

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from einops import rearrange
from jax import lax
from jaxtyping import Array, Float

from smc_jax.selective_scan.lanes import PADDING, SUMS, WARPS, Block, Tile, run

# Tokens between two states that the gradient holds. Their decays and states, seven arrays per
# token, are in registers at the same time: with more tokens they would spill, and with fewer there
# would be more states to hold. The sums for dB and dC of this many tokens are stored at once.
STRIDE = SUMS // 2
# Tokens per turn of the other loops. A turn loads them all first, to hide the memory latency.
UNROLL = 2
# Bytes of shared memory for the held states: with this many, three blocks fit a multiprocessor.
HELD = 2**16

Sequence = Float[Array, "_ _ _ _"]
Matrix = Float[Array, "_ _ _ _"]
Rates = Float[Array, "n s d"]
State = Float[Array, "n k s d"]


def ends(
    x: Sequence,
    dt: Sequence,
    A: Rates,
    B: Matrix,
    tile: Tile,
    *,
    adjoint: bool = False,
    reverse: bool,
    interpret: Any = None,
) -> tuple[State, Float[Array, "k s d"]]:
    """Returns the state after each chunk, had it started at zero, and the chunk's sum of dt.

    With `adjoint`, runs the recurrence of the gradient: pass dy as x and C as B.
    """

    def selective_scan_ends(x_ref, dt_ref, A_ref, B_ref, end_ref, total_ref):
        block = Block(tile, x.shape, interpret)
        rates = [block.rate(A_ref, n) for n in range(A.shape[0])]

        def step(carry, tokens):
            *h, total = carry
            for t, x, dt in block.tokens(tokens, x_ref, dt_ref):
                entering = x if adjoint else dt * x
                for n, rate in enumerate(rates):
                    a, b = jnp.exp2(dt * rate), entering * block.row(B_ref, t, n)
                    h[n] = a * (h[n] + b) if adjoint else a * h[n] + b
                total = total + dt
            return *h, total

        zeros = (block.zeros(),) * (len(rates) + 1)
        *h, total = walk(step, zeros, x_ref, tile, reverse=reverse)
        for n, end in enumerate(h):
            block.store(end_ref, block.state(n), end)
        block.store(total_ref, block.chunk(), total)

    chunks, _, *lanes = tile.extents(x.shape)
    shapes = (A.shape[0], chunks, *lanes), (chunks, *lanes)
    given = *turns(UNROLL, tile, x, dt), A, *turns(UNROLL, tile, B)
    return run(selective_scan_ends, given, shapes, tile.blocks(x.shape), interpret)


def outputs(
    x: Sequence,
    dt: Sequence,
    A: Rates,
    B: Matrix,
    C: Matrix,
    starts: State,
    tile: Tile,
    *,
    reverse: bool,
    interpret: Any = None,
) -> Sequence:
    """Computes y from the state that enters each chunk."""

    def selective_scan_outputs(x_ref, dt_ref, A_ref, B_ref, C_ref, start_ref, y_ref):
        block = Block(tile, x.shape, interpret)
        rates = [block.rate(A_ref, n) for n in range(A.shape[0])]

        def step(h, tokens):
            h = list(h)
            for t, x, dt in block.tokens(tokens, x_ref, dt_ref):
                entering = dt * x
                y = block.zeros()
                for n, rate in enumerate(rates):
                    h[n] = jnp.exp2(dt * rate) * h[n] + entering * block.row(B_ref, t, n)
                    y = y + h[n] * block.row(C_ref, t, n)
                block.store(y_ref, block.token(t), y)
            return tuple(h)

        h = tuple(block.load(start_ref, block.state(n)) for n in range(A.shape[0]))
        walk(step, h, x_ref, tile, reverse=reverse)

    given = *turns(UNROLL, tile, x, dt), A, *turns(UNROLL, tile, B, C), starts
    shapes = (given[0].shape,)
    (y,) = run(selective_scan_outputs, given, shapes, tile.blocks(x.shape), interpret)
    return y.reshape(x.shape)


def gradients(
    x: Sequence,
    dt: Sequence,
    A: Rates,
    B: Matrix,
    C: Matrix,
    starts: State,
    dy: Sequence,
    dends: State,
    tile: Tile,
    *,
    reverse: bool,
    interpret: Any = None,
) -> tuple[Sequence, Sequence, State, Matrix, Matrix]:
    """Returns dx, ddt, dA of each chunk, dB and dC.

    One loop recomputes the states and holds every `STRIDE`-th; another goes back over the strides.
    Keeping those states from the forward pass instead would save one of three exponentials per
    state, at the cost of an array (with 16 states, twice the size of x) that lives until the
    backward pass.

    Args:
      starts: the state that enters each chunk.
      dends: the gradient that reaches the state after each chunk from the tokens after it.
    """
    chunks, length, sequences, width = tile.extents(x.shape)
    states, strides = A.shape[0], length // STRIDE

    def selective_scan_gradients(
        x_ref, dt_ref, A_ref, B_ref, C_ref, start_ref, dy_ref, dend_ref,
        dx_ref, ddt_ref, dA_ref, dBC_ref, q_ref, held_ref, terms_ref=None,
    ):  # fmt: skip
        block = Block(tile, x.shape, interpret)
        rates = [block.rate(A_ref, n) for n in range(states)]

        def hold(i, h):
            for n in range(states):
                block.store(held_ref, (i, n), h[n])

            def step(j, h):
                h = list(h)
                some = _tokens(x_ref, tile, i, j * UNROLL, UNROLL, reverse=reverse)
                for t, x, dt in block.tokens(some, x_ref, dt_ref):
                    entering = dt * x
                    for n, rate in enumerate(rates):
                        h[n] = jnp.exp2(dt * rate) * h[n] + entering * block.row(B_ref, t, n)
                return tuple(h)

            return lax.fori_loop(0, STRIDE // UNROLL, step, h)

        h = tuple(block.load(start_ref, block.state(n)) for n in range(states))
        lax.fori_loop(0, strides, hold, h)
        # These two are read and written once per stride, in the cache: shared memory is full.
        for n in range(states):
            block.store(q_ref, block.state(n), block.load(dend_ref, block.state(n)))
            block.store(dA_ref, block.state(n), block.zeros())

        def back(i, _):
            i = strides - 1 - i
            stride = _tokens(x_ref, tile, i, reverse=reverse)
            stride = list(block.tokens(stride, x_ref, dt_ref, dy_ref))
            entering = [dt * x for _, x, dt, _ in stride]

            def through_state(n, carry):
                # As in tokens.slopes, one state at a time.
                through_B, through_A = map(list, carry)
                rate = block.rate(A_ref, n)
                h, q = block.load(held_ref, (i, n)), block.load(q_ref, block.state(n))
                dA = block.load(dA_ref, block.state(n))
                B, C = ([block.row(ref, t, n) for t, *_ in stride] for ref in (B_ref, C_ref))
                decays, kept, dB, dC = [], [], [], []
                for j, (_, _, dt, dy) in enumerate(stride):
                    decays.append(jnp.exp2(dt * rate))
                    kept.append(decays[-1] * h)
                    h = kept[-1] + entering[j] * B[j]
                    dC.append(h * dy)
                for j, (_, _, dt, dy) in reversed(list(enumerate(stride))):
                    g = q + dy * C[j]
                    dB.append(g * entering[j])
                    slope = g * kept[j]
                    through_B[j] += g * B[j]
                    through_A[j] += slope * rate
                    dA += slope * dt
                    q = g * decays[j]
                block.store(q_ref, block.state(n), q)
                block.store(dA_ref, block.state(n), dA)
                dB, dC = (dB, dC[::-1]) if reverse else (dB[::-1], dC)
                block.store_sums(dBC_ref, strides - 1 - i if reverse else i, n, dB + dC, terms_ref)
                return tuple(through_B), tuple(through_A)

            zeros = (block.zeros(),) * STRIDE
            through = lax.fori_loop(0, states, through_state, (zeros, zeros))
            for (t, x, dt, _), gB, gA in zip(stride, *through, strict=True):
                block.store(dx_ref, block.token(t), gB * dt)
                block.store(ddt_ref, block.token(t), gA * math.log(2) + gB * x)
            return 0

        lax.fori_loop(0, strides, back, 0)

    sums = (SUMS, sequences) if tile.rows > WARPS else (sequences, SUMS)
    sums = width // tile.channels, chunks, strides, states, *sums
    x_in, dt_in, dy_in, B_in, C_in = turns(STRIDE, tile, x, dt, dy, B, C)
    given = x_in, dt_in, A, B_in, C_in, starts, dy_in, dends
    shapes = x_in.shape, x_in.shape, starts.shape, sums, starts.shape
    scratch: list[tuple[int, ...]] = [(strides, states, tile.rows, tile.channels)]
    if tile.rows == WARPS:
        scratch.append((tile.rows, SUMS, tile.channels + PADDING))
    blocks = tile.blocks(x.shape)
    dx, ddt, dA, dBC, *_ = run(selective_scan_gradients, given, shapes, blocks, interpret, scratch)
    there = "(two t) s" if tile.rows > WARPS else "s (two t)"
    dBC = rearrange(dBC.sum(0), f"k i n {there} -> two k (i t) n s", two=2)
    return dx.reshape(x.shape), ddt.reshape(x.shape), dA, *dBC


def turns(count: int, tile: Tile, *arrays) -> list:
    """Splits the axis t into "i j", with the `count` tokens of a turn along j.

    With an index of their own, the compiler sees that their addresses differ by a constant.
    """
    t = tile.time
    return [v.reshape(*v.shape[:t], -1, count, *v.shape[t + 1 :]) for v in arrays]


def _tokens(ref, tile: Tile, i, start=0, count: int | None = None, *, reverse: bool) -> list:
    """Returns the indices "i j" of turn `i`'s tokens, all or `count`, in the order of the scan."""
    turns, all_of_it = ref.shape[tile.time : tile.time + 2]
    places = [start + j for j in range(count or all_of_it)]
    return [(turns - 1 - i, all_of_it - 1 - j) if reverse else (i, j) for j in places]


def walk(step: Callable, carry, ref, tile: Tile, *, reverse: bool):
    """Loops over the turns of an array from `turns`; `step` gets the carry and a turn's indices."""

    def turn(i, carry):
        return step(carry, _tokens(ref, tile, i, reverse=reverse))

    return lax.fori_loop(0, ref.shape[tile.time], turn, carry)
