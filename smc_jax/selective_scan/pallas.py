"""The selective scan for NVIDIA GPUs, Hopper and newer, by the kernels of `kernels`.

The algorithm is that of `two_level`. What is made of the tokens of a chunk, the carry from chunk to
chunk, and what is made of the tokens after it, are kernels, so that no array has the size of all
states. Every sum is taken in a fixed order.
"""

import math
from typing import Any

import jax.numpy as jnp
from einops import rearrange, repeat
from jax.extend.core import Primitive
from jax.interpreters import mlir

# Lanes of a warp, and of a block of the kernels.
WARP, WARPGROUP = 32, 128
# Numbers of state for which a lane has registers. With more the kernels run, but slowly.
STATES = 32


def forward(x, dt, A, B, C, start, *, reverse: bool, chunk: int, interpret: Any = None):
    """See `analytic.Method`.

    Args:
      interpret: parameters of the interpreter of kernels, which runs on every platform, slowly.
    """
    # Not every build of jaxlib has what these import.
    from smc_jax.selective_scan import kernels
    from smc_jax.selective_scan.carry_kernel import carry

    fold = _Fold(x.shape, A.shape[0], chunk, kernels)
    options = {"reverse": reverse, "interpret": interpret}
    x, dt = fold.tokens(checked(x, interpret)), fold.tokens(dt)
    A, B, C = fold.rates(A), fold.matrices(B), fold.matrices(C)
    handed, steps = kernels.ends(x, dt, A, B, fold.wide, **options)
    starts, end = carry(A, handed, steps, fold.state(start), **options)
    y = kernels.outputs(x, dt, A, B, C, starts, fold.wide, **options)
    return fold.tokens_back(y), fold.state_back(end), fold.states_back(starts, reverse=reverse)


def backward(x, dt, A, B, C, starts, dy, dend, *, reverse: bool, chunk: int, interpret: Any = None):
    """See `analytic.Method` and `forward`."""
    from smc_jax.selective_scan import kernels
    from smc_jax.selective_scan.carry_kernel import carry

    fold = _Fold(x.shape, A.shape[0], chunk, kernels)
    options = {"reverse": reverse, "interpret": interpret}
    x, dt, dy = fold.tokens(checked(x, interpret)), fold.tokens(dt), fold.tokens(dy)
    A, B, C = fold.rates(A), fold.matrices(B), fold.matrices(C)
    if fold.parts == 1:
        starts = fold.states(starts)
    else:
        handed, steps = kernels.ends(x, dt, A, B, fold.wide, **options)
        start = fold.state(starts[-1 if reverse else 0])
        starts, _ = carry(A, handed, steps, start, **options)
    back = {"reverse": not reverse, "interpret": interpret}
    handed, steps = kernels.ends(dy, dt, A, C, fold.wide, adjoint=True, **back)
    dends, dstart = carry(A, handed, steps, fold.state(dend), **back)
    dx, ddt, dA, dB, dC = kernels.gradients(
        x, dt, A, B, C, starts, dy, dends, fold.narrow, **options
    )
    dx, ddt = map(fold.tokens_back, (dx, ddt))
    dB, dC = map(fold.matrices_back, (dB, dC))
    return dx, ddt, fold.rates_back(dA.sum(1)), dB, dC, fold.state_back(dstart)


class _Fold:
    """Lays scans out as the kernels take them, and back. What is filled with zeros leaves the
    states as they are.

    Shapes: those of `analytic.scan`, and of `kernels`, whose chunks are parts of a chunk if that
    has more states than a block can hold at once.
    """

    def __init__(self, shape: tuple[int, ...], states: int, chunk: int, kernels):
        self.length, self.batch, self.groups, self.width = shape
        self.chunk = chunk
        self.chunks = -(-self.length // chunk)
        held = max(1, kernels.HELD // (4 * WARPGROUP * states)) * kernels.STRIDE
        self.parts = -(-chunk // held)
        self.part = _multiple(-(-chunk // self.parts), kernels.STRIDE)
        # More channels than a row has lanes are more than one block's share.
        lanes = min(WARP, 2 ** (self.width - 1).bit_length())
        rows = WARPGROUP // lanes
        # The gradient's registers are full with one channel a lane; where a warp has one row, the
        # other kernels take two, of one row or of two.
        wide_rows, wide = rows, lanes
        if lanes == WARP:
            two = -(-self.width // WARP) % 2 == 0
            wide_rows, wide = (rows, 2 * WARP) if two else (2 * rows, WARP)
        # Rows are chunks or sequences, whichever leave fewer lanes idle. Sequences lie next to each
        # other in memory.
        chunks, sequences = self.chunks * self.parts, self.batch * self.groups
        idle_k, idle_s = (_multiple(n, wide_rows) / n for n in (chunks, sequences))
        along = "s" if idle_s <= idle_k else "k"
        self.full_chunks = _multiple(chunks, wide_rows if along == "k" else 1)
        self.full_lanes = (
            _multiple(sequences, wide_rows if along == "s" else 1),
            _multiple(self.width, lanes),
        )
        self.first = "s" if lanes == WARP else "k"
        self.wide = kernels.Tile(wide_rows, wide, along, self.first)
        self.narrow = kernels.Tile(rows, lanes, along, self.first)

    def tokens(self, v):
        """ "l b g d" as "k t s d" or "s k t d"."""
        v = self._part(rearrange(v, "l b g d -> l (g b) d"), self.full_lanes)
        return rearrange(v, "k t s d -> s k t d") if self.first == "s" else v

    def tokens_back(self, v):
        v = rearrange(v, "s k t d -> k t s d") if self.first == "s" else v
        return self._lanes_back(self._join(v))

    def matrices(self, v):
        """ "l n b g" as "k t n s" or "s k t n"."""
        v = rearrange(v, "l n b g -> l n (g b)")
        v = self._part(v, (v.shape[1], self.full_lanes[0]))
        return rearrange(v, "k t n s -> s k t n") if self.first == "s" else v

    def matrices_back(self, v):
        """ "k t n s" as "l n b g"."""
        v = self._join(v)[..., : self.batch * self.groups]
        return rearrange(v, "l n (g b) -> l n b g", b=self.batch)

    def rates(self, A):
        """ "n g d" as "n s d", of powers of two."""
        A = repeat(A * math.log2(math.e), "n g d -> n (g b) d", b=self.batch)
        return _fill(A, (A.shape[0], *self.full_lanes))

    def rates_back(self, dA):
        """Of gradients of rates that are not of powers of two."""
        return self._lanes_back(dA).sum(1)

    def state(self, h):
        """ "n b g d" as "n s d"."""
        return _fill(rearrange(h, "n b g d -> n (g b) d"), (h.shape[0], *self.full_lanes))

    def state_back(self, h):
        return self._lanes_back(h)

    def states(self, h):
        """ "k n b g d" as "n k s d", if chunks have one part."""
        h = rearrange(h, "k n b g d -> n k (g b) d")
        return _fill(h, (h.shape[0], self.full_chunks, *self.full_lanes))

    def states_back(self, h, *, reverse: bool):
        """The states that enter whole chunks."""
        first = self.parts - 1 if reverse else 0
        h = self._lanes_back(h[:, first : self.chunks * self.parts : self.parts])
        return rearrange(h, "n k b g d -> k n b g d")

    def _part(self, v, lanes: tuple[int, ...]):
        v = _fill(v, (self.chunks * self.chunk, *v.shape[1:]))
        v = v.reshape(self.chunks, self.chunk, *v.shape[1:])
        v = _fill(v, (self.chunks, self.parts * self.part, *v.shape[2:]))
        v = v.reshape(self.chunks * self.parts, self.part, *v.shape[2:])
        return _fill(v, (self.full_chunks, self.part, *lanes))

    def _join(self, v):
        v = v[: self.chunks * self.parts]
        v = v.reshape(self.chunks, self.parts * self.part, *v.shape[2:])[:, : self.chunk]
        return v.reshape(self.chunks * self.chunk, *v.shape[2:])[: self.length]

    def _lanes_back(self, v):
        v = v[..., : self.batch * self.groups, : self.width]
        return rearrange(v, "... (g b) d -> ... b g d", b=self.batch)


def _multiple(size: int, of: int) -> int:
    """The least multiple that is no smaller."""
    return -(-size // of) * of


def _fill(v, shape: tuple[int, ...]):
    return jnp.pad(v, [(0, full - used) for used, full in zip(v.shape, shape, strict=True)])


def checked(x, interpret):
    """x, which cannot be compiled for a platform that the kernels do not run on."""
    if x.dtype != jnp.float32:
        raise ValueError(f"selective_scan: pallas computes in float32, not {x.dtype}")
    return x if interpret else _on_cuda.bind(x)


def _lower_on_cuda(context, x):
    others = set(context.module_context.platforms) - {"cuda"}
    if others:
        raise ValueError(
            "selective_scan: pallas needs a CUDA GPU (Hopper or newer); this is "
            f"{', '.join(sorted(others))}: take method='auto'"
        )
    return [x]


# Which platform a function is compiled for is not known while it is traced.
_on_cuda = Primitive("on_cuda")
_on_cuda.def_abstract_eval(lambda x: x)
mlir.register_lowering(_on_cuda, _lower_on_cuda)
