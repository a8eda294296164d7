"""Kernels of the selective scan of scalar tokens, for NVIDIA GPUs by Pallas' Mosaic GPU backend.

Each lane takes one sequence (two in the forward pass) token by token; neighbouring lanes read
neighbouring numbers. dt, B and C are computed from a token where they are needed. The second
direction adds to what the first has written, lane by lane, while that is in the cache.

Shapes: p sequences of l tokens for each of g SSMs; r directions; m numbers that describe an SSM.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu
from jaxtyping import Array, Float

from smc_jax.selective_scan.lanes import LANES, run
from smc_jax.selective_scan.softplus import with_slope

# The most state elements, and the most tokens, that are taken at a time: what the gradient
# recomputes for them lies in registers.
TAKEN, STRIDE = 32, 8
# The most bytes of shared memory for the states that the gradient holds, one per stride.
HELD = 3 * 2**16

Tokens = Float[Array, "l g p"]


def fits(length: int, states: int) -> bool:
    """Returns whether the gradient can hold its states for sequences of this length."""
    return length // _stride(length, states) * states * LANES * 4 <= HELD


def outputs(x: Tokens, numbers: Float[Array, "r g m"], *, interpret: Any = None) -> Tokens:
    """Returns y, summed over the directions.

    Args:
      x: tokens of a multiple of 2 `LANES` sequences.
      numbers: for each SSM, the slopes and then the constants of dt, B and C, then A and D.
    """
    length, groups, sequences = x.shape
    states = _states(numbers.shape[-1])
    stride = _stride(length, states)

    def scalar_scan_outputs(x_ref, numbers_ref, y_ref):
        block = _Block(x.shape, 2 * LANES, interpret)
        for direction in range(numbers.shape[0]):
            ssm = block.ssm(numbers_ref, direction)

            def step(i, h, direction=direction, ssm=ssm):
                tokens = [i * stride + j for j in range(stride)]
                if direction:
                    tokens = [length - 1 - t for t in tokens]
                # All loads come first, so that the memory latency is paid only once.
                xs = [block.load(x_ref, t) for t in tokens]
                ys = [block.load(y_ref, t) if direction else block.zeros() for t in tokens]
                for t, x, y in zip(tokens, xs, ys, strict=True):
                    dt, _ = _softplus(ssm.affine(0, x))
                    entering = dt * x
                    h = [ssm.decay(n, dt) * h + entering * ssm.entry(n, x) for n, h in enumerate(h)]
                    y += ssm.D[0] * x
                    for n in range(states):
                        y += h[n] * ssm.exit(n, x)
                    block.store(y_ref, (t,), y)
                return tuple(h)

            lax.fori_loop(0, length // stride, step, (block.zeros(),) * states)

    blocks = groups * sequences // (2 * LANES)
    (y,) = run(scalar_scan_outputs, (x, numbers), (x.shape,), blocks, interpret)
    return y


def gradients(
    x: Tokens, numbers: Float[Array, "r g m"], dy: Tokens, *, interpret: Any = None
) -> tuple[Tokens, Float[Array, "r m g p"]]:
    """Returns dx, and what each sequence contributes to the gradient of the numbers.

    Args:
      x: tokens of a multiple of `LANES` sequences.
      numbers: see `outputs`.
      dy: the gradient of y.
    """
    length, groups, sequences = x.shape
    directions, _, count = numbers.shape
    states = _states(count)
    stride = _stride(length, states)
    strides = length // stride

    def scalar_scan_gradients(x_ref, numbers_ref, dy_ref, dx_ref, sums_ref, held_ref):
        block = _Block(x.shape, LANES, interpret)
        for direction in range(directions):
            ssm = block.ssm(numbers_ref, direction)

            def token(i, direction=direction):
                return length - 1 - i if direction else i

            def hold(i, h, ssm=ssm, token=token):
                for n in range(states):
                    held_ref[i, n] = h[n]
                for j in range(stride):
                    x = block.load(x_ref, token(i * stride + j))
                    dt, _ = _softplus(ssm.affine(0, x))
                    h = [ssm.decay(n, dt) * h + dt * x * ssm.entry(n, x) for n, h in enumerate(h)]
                return tuple(h)

            lax.fori_loop(0, strides, hold, (block.zeros(),) * states)

            def back(i, carry, direction=direction, ssm=ssm, token=token):
                i = strides - 1 - i
                q, sums = list(carry[:states]), _SSM.of(carry[states:], states)
                h = [held_ref[i, n] for n in range(states)]
                tokens = [token(i * stride + j) for j in range(stride)]
                xs = [block.load(x_ref, t) for t in tokens]
                dys = [block.load(dy_ref, t) for t in tokens]
                steps, kept = [], []
                for x in xs:
                    dt, slope = _softplus(ssm.affine(0, x))
                    decays = [ssm.decay(n, dt) for n in range(states)]
                    kept.append([a * h for a, h in zip(decays, h, strict=True)])
                    h = [k + dt * x * ssm.entry(n, x) for n, k in enumerate(kept[-1])]
                    steps.append((dt, slope, decays))
                for j in reversed(range(stride)):
                    x, dy, (dt, slope, decays) = xs[j], dys[j], steps[j]
                    dx, ddt = ssm.D[0] * dy, block.zeros()
                    for n in range(states):
                        # As in tokens.slopes, with B and C computed from x.
                        B = ssm.entry(n, x)
                        g = q[n] + ssm.exit(n, x) * dy
                        dB, dC = g * dt * x, (kept[j][n] + dt * x * B) * dy
                        through_A = g * kept[j][n]
                        ddt += through_A * ssm.A[n] + g * B * x
                        dx += g * B * dt + dB * ssm.slope[1 + n] + dC * ssm.slope[1 + states + n]
                        sums.add(1 + n, dB, x)
                        sums.add(1 + states + n, dC, x)
                        sums.A[n] += through_A * dt
                        q[n] = g * decays[n]
                    ddt *= slope
                    dx += ddt * ssm.slope[0]
                    sums.add(0, ddt, x)
                    sums.D[0] += dy * x
                    if direction:
                        dx += block.load(dx_ref, tokens[j])
                    block.store(dx_ref, (tokens[j],), dx)
                return (*q, *sums.numbers())

            end = lax.fori_loop(0, strides, back, (block.zeros(),) * (states + count))
            for m, v in enumerate(end[states:]):
                block.store(sums_ref, (direction, m), v)

    shapes = x.shape, (directions, count, groups, sequences)
    scratch = [(strides, states, LANES)]
    blocks = groups * sequences // LANES
    return run(scalar_scan_gradients, (x, numbers, dy), shapes, blocks, interpret, scratch)


class _SSM(NamedTuple):
    """The numbers of an SSM, or their gradients."""

    slope: list
    constant: list
    A: list
    D: list

    @classmethod
    def of(cls, numbers: Sequence, states: int) -> "_SSM":
        k = 1 + 2 * states
        ends = k, 2 * k, 2 * k + states, 2 * k + states + 1
        return cls(*(list(numbers[i:j]) for i, j in itertools.pairwise((0, *ends))))

    def numbers(self) -> list:
        return [v for part in self for v in part]

    def affine(self, i: int, x):
        """Returns input `i` of a token: dt before softplus, a number of B or a number of C."""
        return x * self.slope[i] + self.constant[i]

    def entry(self, n: int, x):
        """Returns number `n` of B."""
        return self.affine(1 + n, x)

    def exit(self, n: int, x):
        """Returns number `n` of C."""
        return self.affine(1 + len(self.A) + n, x)

    def decay(self, n: int, dt):
        return jnp.exp2(dt * (self.A[n] * math.log2(math.e)))

    def add(self, i: int, v, x) -> None:
        """Adds the gradient `v` of what `affine` returns to those of its slope and constant."""
        self.slope[i] += v * x
        self.constant[i] += v


class _Block:
    """Inside a kernel, locates this block's numbers in memory."""

    def __init__(self, shape: tuple[int, ...], lanes: int, interpret: Any):
        sequences = shape[2]
        self.layout = None if interpret else plgpu.Layout.WG_STRIDED((lanes,), lanes // LANES)
        self.lanes = lanes
        block = lax.axis_index("block")
        self.group = lax.div(block, sequences // lanes)
        self.sequences = pl.ds(lax.rem(block, sequences // lanes) * lanes, lanes)

    def load(self, ref, *index):
        return ref[(*index, self.group, self.sequences)]

    def store(self, ref, index: tuple, v) -> None:
        ref[(*index, self.group, self.sequences)] = v

    def ssm(self, numbers_ref, direction: int) -> _SSM:
        numbers = [numbers_ref[direction, self.group, m] for m in range(numbers_ref.shape[-1])]
        return _SSM.of(numbers, _states(len(numbers)))

    def zeros(self):
        v = jnp.zeros(self.lanes, jnp.float32)
        return v if self.layout is None else plgpu.layout_cast(v, self.layout)


def _softplus(v):
    """Returns softplus of v and its derivative."""
    return with_slope(v, jnp.exp2(jnp.abs(v) * -math.log2(math.e)))


def _states(numbers: int) -> int:
    """Returns the state size of an SSM that this many numbers describe."""
    return (numbers - 3) // 5


def _stride(length: int, states: int) -> int:
    most = min(STRIDE, max(1, TAKEN // states))
    return max(n for n in range(1, most + 1) if length % n == 0)
