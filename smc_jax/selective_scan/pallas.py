"""The selective scan for NVIDIA GPUs, Hopper and newer, by the kernels of `kernels`.

As in `two_level`, `lax.associative_scan` runs over summaries of chunks alone. What is made of the
tokens of a chunk, before and after that, is a kernel each, so that no array has the size of all
states. Every sum is taken in a fixed order.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from einops import rearrange, repeat
from jax.extend.core import Primitive
from jax.interpreters import mlir

from smc_jax.selective_scan import two_level

# Of a multiprocessor of an NVIDIA GPU, in lanes.
WARP, WARPGROUP = 32, 128


def forward(x, dt, A, B, C, start, *, reverse: bool, chunk: int, interpret: Any = None):
    """See `analytic.Method`.

    Args:
      interpret: parameters of the interpreter of kernels, which runs on every platform, slowly.
    """
    from smc_jax.selective_scan import kernels  # Not every build of jaxlib has what it imports.

    fold = _Fold(x.shape, chunk, kernels.STRIDE)
    tile = kernels.Tile(fold.rows, fold.wide, fold.along)
    options = {"reverse": reverse, "interpret": interpret}
    x, dt = fold.sequence(_checked(x, interpret)), fold.sequence(dt)
    A, B, C = fold.rates(A), fold.matrix(B), fold.matrix(C)
    handed, steps = kernels.ends(x, dt, A, B, tile, **options)
    decay = jnp.exp2(A[:, None, None] * steps[:, :, 0])
    starts, end = two_level.carry(decay, handed, fold.state(start), reverse=reverse)
    y = kernels.outputs(x, dt, A, B, C, starts, tile, **options)
    return fold.sequence_back(y), fold.state_back(end), fold.states_back(starts)


def backward(x, dt, A, B, C, starts, dy, dend, *, reverse: bool, chunk: int, interpret: Any = None):
    """See `analytic.Method` and `forward`."""
    from smc_jax.selective_scan import kernels

    fold = _Fold(x.shape, chunk, kernels.STRIDE)
    wide = kernels.Tile(fold.rows, fold.wide, fold.along)
    # Of the gradient, one channel fills the registers of a lane.
    tile = kernels.Tile(fold.rows, fold.lanes, fold.along)
    options = {"reverse": reverse, "interpret": interpret}
    x, dt, dy = fold.sequence(_checked(x, interpret)), fold.sequence(dt), fold.sequence(dy)
    A, B, C = fold.rates(A), fold.matrix(B), fold.matrix(C)
    adjoint = {"reverse": not reverse, "interpret": interpret, "adjoint": True}
    handed, steps = kernels.ends(dy, dt, A, C, wide, **adjoint)
    decay = jnp.exp2(A[:, None, None] * steps[:, :, 0])
    dends, dstart = two_level.carry(decay, handed, fold.state(dend), reverse=not reverse)
    dx, ddt, dA, dB, dC = kernels.gradients(
        x, dt, A, B, C, fold.states(starts), dy, dends, tile, **options
    )
    dx, ddt = map(fold.sequence_back, (dx, ddt))
    dB, dC = map(fold.matrix_back, (dB, dC))
    return dx, ddt, fold.rates_back(dA.sum((1, 2))), dB, dC, fold.state_back(dstart)


class _Fold:
    """Lays scans out as the kernels take them, and back. What is filled with zeros leaves the
    states as they are.
    """

    def __init__(self, shape: tuple[int, ...], chunk: int, stride: int):
        self.batch, self.length, groups, width = shape
        self.chunk = chunk
        chunks = -(-self.length // chunk)
        # The lanes for a row's channels. A row of more channels is more than one row's share.
        self.lanes = min(WARP, 2 ** (width - 1).bit_length())
        self.rows = WARPGROUP // self.lanes
        # The rows that leave fewer lanes idle: chunks of one scan, or a chunk of several scans.
        # These lie next to each other in memory if there is no batch.
        scans = self.batch * groups
        idle_k, idle_g = (_multiple(n, self.rows) / n for n in (chunks, scans))
        along_g = idle_g < idle_k or (idle_g == idle_k and self.batch == 1)
        self.along = "g" if along_g else "k"
        self.merged = along_g and self.batch > 1
        self.used = chunks, chunk, scans if self.merged else groups, width
        self.full = (
            _multiple(chunks, 1 if along_g else self.rows),
            _multiple(chunk, stride),
            _multiple(self.used[2], self.rows if along_g else 1),
            _multiple(width, self.lanes),
        )
        two = self.lanes == WARP and self.full[3] % (2 * WARP) == 0
        self.wide = 2 * WARP if two else self.lanes

    def sequence(self, v):
        """ "b l g d" as "b k t g d"."""
        return self._tokens(v, self.full[3])

    def matrix(self, v):
        """ "b l g n" as "b k t n g"."""
        return rearrange(self._tokens(v, v.shape[-1]), "b k t g n -> b k t n g")

    def sequence_back(self, v):
        return self._tokens_back(v[..., : self.used[3]])

    def matrix_back(self, v):
        return self._tokens_back(rearrange(v, "b k t n g -> b k t g n"))

    def _tokens(self, v, width: int):
        v = _fill(v, (v.shape[0], self.used[0] * self.chunk, *v.shape[2:]))
        v = rearrange(v, "b (k t) g c -> b k t g c", t=self.chunk)
        if self.merged:
            v = rearrange(v, "b k t g c -> 1 k t (b g) c")
        return _fill(v, (v.shape[0], *self.full[:3], width))

    def _tokens_back(self, v):
        chunks, tokens, groups, _ = self.used
        v = v[:, :chunks, :tokens, :groups]
        if self.merged:
            v = rearrange(v, "1 k t (b g) c -> b k t g c", b=self.batch)
        return rearrange(v, "b k t g c -> b (k t) g c")[:, : self.length]

    def rates(self, A):
        """ "g d n" as "n g d", of powers of two."""
        if self.merged:
            A = repeat(A, "g d n -> (b g) d n", b=self.batch)
        A = rearrange(A * np.log2(np.e).astype(A.dtype), "g d n -> n g d")
        return _fill(A, (A.shape[0], *self.full[2:]))

    def rates_back(self, dA):
        """The sum over what shares a rate, of gradients of rates that are not of powers of two."""
        *_, groups, width = self.used
        dA = rearrange(dA[:, :groups, :width], "n g d -> g d n")
        if self.merged:
            dA = rearrange(dA, "(b g) d n -> b g d n", b=self.batch).sum(0)
        return dA

    def state(self, h):
        """ "b g d n" with the groups and channels of the other arrays."""
        if self.merged:
            h = rearrange(h, "b g d n -> 1 (b g) d n")
        return _fill(h, (h.shape[0], *self.full[2:], h.shape[-1]))

    def state_back(self, h):
        *_, groups, width = self.used
        h = h[:, :groups, :width]
        return rearrange(h, "1 (b g) d n -> b g d n", b=self.batch) if self.merged else h

    def states(self, h):
        """ "b k g d n" as "n b k g d"."""
        h = rearrange(h, "b k g d n -> n b k g d")
        if self.merged:
            h = rearrange(h, "n b k g d -> n 1 k (b g) d")
        return _fill(h, (*h.shape[:2], self.full[0], *self.full[2:]))

    def states_back(self, h):
        chunks, _, groups, width = self.used
        h = h[:, :, :chunks, :groups, :width]
        if self.merged:
            h = rearrange(h, "n 1 k (b g) d -> n b k g d", b=self.batch)
        return rearrange(h, "n b k g d -> b k g d n")


def _multiple(size: int, of: int) -> int:
    """The least multiple that is no smaller."""
    return -(-size // of) * of


def _fill(v, shape: tuple[int, ...]):
    return jnp.pad(v, [(0, full - used) for used, full in zip(v.shape, shape, strict=True)])


def _checked(x, interpret):
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
