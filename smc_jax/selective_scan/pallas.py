"""The selective scan for NVIDIA GPUs, Hopper and newer, by the kernels of `kernels`.

The algorithm is that of `two_level`. The summaries of the chunks, the carry from chunk to chunk,
and the outputs or gradients are computed by kernels, so that no array has the size of all states.
Every sum has a fixed order.
"""

import math
from typing import Any

import jax.numpy as jnp
from einops import rearrange, repeat
from jax.extend.core import Primitive
from jax.interpreters import mlir

from smc_jax.selective_scan.shapes import Matrix, Rates, Sequence, State, States

# Lanes of a warp, and of a block in the kernels.
WARP, WARPGROUP = 32, 128
# State size up to which a lane has enough registers. Above it the kernels run, but slowly.
STATES = 32


def forward(
    x: Sequence,
    dt: Sequence,
    A: Rates,
    B: Matrix,
    C: Matrix,
    start: State,
    *,
    reverse: bool,
    chunk: int,
    interpret: Any = None,
) -> tuple[Sequence, State, States]:
    """See `analytic.Method`.

    Args:
      interpret: parameters of Pallas' interpreter, which runs on any platform, slowly; None
        compiles the kernels.
    """
    # Not every build of jaxlib has the modules that these import.
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


def backward(
    x: Sequence,
    dt: Sequence,
    A: Rates,
    B: Matrix,
    C: Matrix,
    starts: States,
    dy: Sequence,
    dend: State,
    *,
    reverse: bool,
    chunk: int,
    interpret: Any = None,
) -> tuple[Sequence, Sequence, Rates, Matrix, Matrix, State]:
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
    """Lays scans out as the kernels expect them, and back. Padded zeros leave the states unchanged.

    Shapes: those of `analytic.scan`, and of `kernels`. If a chunk has more states than a block can
    hold at once, the chunks of `kernels` are parts of it.
    """

    def __init__(self, shape: tuple[int, ...], states: int, chunk: int, kernels):
        self.length, self.batch, self.groups, self.width = shape
        self.chunk = chunk
        self.chunks = -(-self.length // chunk)
        held = max(1, kernels.HELD // (4 * WARPGROUP * states)) * kernels.STRIDE
        self.parts = -(-chunk // held)
        self.part = _multiple(-(-chunk // self.parts), kernels.STRIDE)
        # Channels beyond the lanes of a row go to other blocks.
        lanes = min(WARP, 2 ** (self.width - 1).bit_length())
        rows = WARPGROUP // lanes
        # One channel per lane fills the registers of the gradient. Where a warp has one row, the
        # other kernels take two channels per lane, from one row or from two.
        wide_rows, wide = rows, lanes
        if lanes == WARP:
            two = -(-self.width // WARP) % 2 == 0
            wide_rows, wide = (rows, 2 * WARP) if two else (2 * rows, WARP)
        # Rows are chunks or sequences, whichever leaves fewer lanes idle. Sequences win ties, since
        # they lie next to each other in memory.
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
        """Rearranges "l b g d" to "k t s d" or "s k t d"."""
        v = self._part(rearrange(v, "l b g d -> l (g b) d"), self.full_lanes)
        return rearrange(v, "k t s d -> s k t d") if self.first == "s" else v

    def tokens_back(self, v):
        v = rearrange(v, "s k t d -> k t s d") if self.first == "s" else v
        return self._lanes_back(self._join(v))

    def matrices(self, v):
        """Rearranges "l n b g" to "k t n s" or "s k t n"."""
        v = rearrange(v, "l n b g -> l n (g b)")
        v = self._part(v, (v.shape[1], self.full_lanes[0]))
        return rearrange(v, "k t n s -> s k t n") if self.first == "s" else v

    def matrices_back(self, v):
        """Rearranges "k t n s" to "l n b g"."""
        v = self._join(v)[..., : self.batch * self.groups]
        return rearrange(v, "l n (g b) -> l n b g", b=self.batch)

    def rates(self, A):
        """Rearranges "n g d" to "n s d" and converts the rates to base 2."""
        A = repeat(A * math.log2(math.e), "n g d -> n (g b) d", b=self.batch)
        return _fill(A, (A.shape[0], *self.full_lanes))

    def rates_back(self, dA):
        """Sums gradients of the rates (in base e) over the batch, "n s d" to "n g d"."""
        return self._lanes_back(dA).sum(1)

    def state(self, h):
        """Rearranges "n b g d" to "n s d"."""
        return _fill(rearrange(h, "n b g d -> n (g b) d"), (h.shape[0], *self.full_lanes))

    def state_back(self, h):
        return self._lanes_back(h)

    def states(self, h):
        """Rearranges "k n b g d" to "n k s d", for chunks of one part."""
        h = rearrange(h, "k n b g d -> n k (g b) d")
        return _fill(h, (h.shape[0], self.full_chunks, *self.full_lanes))

    def states_back(self, h, *, reverse: bool):
        """Selects the states that enter whole chunks, and rearranges "n k s d" to "k n b g d"."""
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
    """Rounds `size` up to a multiple of `of`."""
    return -(-size // of) * of


def _fill(v, shape: tuple[int, ...]):
    return jnp.pad(v, [(0, full - used) for used, full in zip(v.shape, shape, strict=True)])


def checked(x, interpret):
    """Returns x, marked (unless interpreted) so that it compiles for CUDA only.

    Raises:
      ValueError: x is not float32.
    """
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


# While a function is traced, the platform that it is compiled for is not known yet.
_on_cuda = Primitive("on_cuda")
_on_cuda.def_abstract_eval(lambda x: x)
mlir.register_lowering(_on_cuda, _lower_on_cuda)
