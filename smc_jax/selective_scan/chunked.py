"""The selective scan for a CPU: loops over tokens that keep little, with an analytic gradient.

The forward pass keeps only the state at chunk boundaries; the backward pass recomputes a chunk's
states from there and runs the adjoint recurrence over them. Independent scans (batch and groups)
lie side by side in blocks whose state fits the first-level cache; blocks run one after another. A
scan of two blocks or more is taken as several narrower ones with the same B and C.

Shapes inside: m blocks, k chunks per block, t tokens per chunk, s scans side by side.
"""

import jax.numpy as jnp
from einops import rearrange, reduce, repeat
from jax import export, lax
from jaxtyping import Array, Float

from smc_jax.selective_scan import tokens
from smc_jax.selective_scan.shapes import Matrix, Rates, Sequence, State, States
from smc_jax.selective_scan.tokens import Tokens

# State elements that one loop carries. With fewer, the overhead of the loop shows; with more, its
# arrays of this size, six in the gradient, do not fit a 48 KiB cache. Both passes use the same
# size, so that they share the arrays in this layout.
BLOCK_STATE = 2048
# XLA sums over more channels than this by windows first, in a slow loop, so the gradient splits
# widths that are multiples of it.
SUMMED = 32


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
) -> tuple[Sequence, State, States]:
    """See `analytic.Method`."""
    fold = _Fold(x.shape, A.shape[0], chunk)

    def block(inputs):
        A, start, sequence = inputs

        def one_chunk(h, part):
            end, y = tokens.outputs(h, A, part, reverse=reverse)
            return end, (y, h)

        end, (y, starts) = lax.scan(one_chunk, start, sequence, reverse=reverse)
        return y, end, starts

    inputs = fold.parameters(A), fold.state(start), fold.tokens(x, dt, B, C)
    y, end, starts = tokens.in_turn(block, inputs)
    return fold.lanes_back(y), fold.state_back(end), fold.states_back(starts)


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
) -> tuple[Sequence, Sequence, Rates, Matrix, Matrix, State]:
    """See `analytic.Method`."""
    fold = _Fold(x.shape, A.shape[0], chunk)

    def block(inputs):
        A, dend, *sequence = inputs
        A, q = _divided(A), _divided(dend)

        def one_chunk(carry, inputs):
            *carry, room = carry
            start, part, dy = inputs
            room = _recompute(room, _divided(start), A, part, reverse=reverse)
            carry, found = _adjoint(carry, room, A, part, dy, reverse=reverse)
            return (*carry, room), found

        # Carried through the chunks: as outputs of the inner `lax.scan` these arrays would be
        # filled with zeros again for each chunk.
        empty = jnp.zeros_like(A)
        carry = q, empty, (jnp.broadcast_to(empty, (chunk, *empty.shape)),) * 2
        (q, dA, _), found = lax.scan(one_chunk, carry, tuple(sequence), reverse=not reverse)
        return (q.reshape(dend.shape), dA.reshape(dend.shape)), found

    inputs = (
        fold.parameters(A),
        fold.state(dend),
        fold.states(starts),
        fold.tokens(x, dt, B, C),
        fold.lanes(dy),
    )
    (dstart, dA), found = tokens.in_turn(block, inputs)
    dx, ddt, dB, dC = fold.tokens_back(found)
    return dx, ddt, fold.state_back(dA).sum(1), dB, dC, fold.state_back(dstart)


def _divided(state: Float[Array, "n s d"]) -> Float[Array, "n s *d"]:
    """Splits "n s d" into "n s p d" with d = `SUMMED`, if the width is a larger multiple of it."""
    *scans, width = state.shape
    several = width > SUMMED and width % SUMMED == 0
    return state.reshape(*scans, -1, SUMMED) if several else state


def _recompute(room, start, A, part: Tokens, *, reverse: bool):
    """Fills `room` with each token's exp(dt A) and the product of that and the state before."""

    def step(carry, token):
        h, (decays, kept) = carry
        i, *token = token
        a = tokens.decay(h.shape, token[1], A)
        x, dt, B, _ = tokens.split(h.shape, *token)
        left = a * h
        decays = lax.dynamic_update_index_in_dim(decays, a, i, 0)
        kept = lax.dynamic_update_index_in_dim(kept, left, i, 0)
        return (left + (dt * x) * B, (decays, kept)), None

    places = jnp.arange(part.x.shape[0], dtype=jnp.uint32)
    return lax.scan(step, (start, room), (places, *part), reverse=reverse)[0][1]


def _adjoint(carry, room, A, part: Tokens, dy, *, reverse: bool):
    """Computes what `tokens.gradients` does, from the arrays that `_recompute` has filled."""

    def step(carry, token):
        q, dA = carry
        *token, dy, (a, kept) = token
        x, dt, B, C = tokens.split(q.shape, *token)
        dy = dy.reshape(dt.shape)
        # Without the barrier XLA recomputes g for each of the sums.
        g = lax.optimization_barrier(q + C * dy)
        found, slope = tokens.slopes(g, kept, A, x, dt, B, dy)
        return (g * a, dA + slope), found

    return lax.scan(step, tuple(carry), (*part, dy, room), reverse=not reverse)


def _parts(width: int, states: int) -> int:
    """Returns into how many equal parts the channels of a scan of two blocks or more are divided.

    Each has a multiple of `SUMMED` channels, and no fewer than states, since B and C are repeated
    for it; without such a divisor the scan stays whole.
    """
    limit = -(-2 * BLOCK_STATE // states)
    if width < limit:
        return 1
    fit = range(SUMMED, limit, SUMMED)
    return width // max((c for c in fit if width % c == 0 and c >= states), default=width)


class _Fold:
    """Lays scans out in blocks and chunks, and back.

    Both are padded with zeros: a token with dt = 0 and x = 0 leaves the state unchanged. A single
    block needs no copy. The p parts of a scan, of c channels each, count as scans.
    """

    def __init__(self, shape: tuple[int, ...], states: int, chunk: int):
        self.length, self.batch, groups, width = shape
        self.parts = _parts(width, states)
        self.axes = {"b": self.batch, "p": self.parts}
        self.scans = self.batch * groups * self.parts
        self.block = self.scans
        # When exported for any batch (`jax.export`), all scans form one block.
        if not export.is_symbolic_dim(self.scans):
            numbers = self.batch * groups * width * states
            blocks = min(self.scans, -(-numbers // BLOCK_STATE))
            self.block = -(-self.scans // blocks)
        self.chunk = chunk

    def tokens(self, x: Sequence, dt: Sequence, B: Matrix, C: Matrix) -> Tokens:
        """Rearranges "l b g d" to "m k t (s c)" and "l n b g" to "m k t (n s)"."""
        return Tokens(self.lanes(x), self.lanes(dt), self._lanes(B), self._lanes(C))

    def lanes(self, v: Sequence) -> Float[Array, "m k t sc"]:
        v = rearrange(v, "l b g (p c) -> l (b g p) c", p=self.parts)
        v = self._fill(v, tokens=0, scans=1)
        return rearrange(v, "(k t) (m s) c -> m k t (s c)", t=self.chunk, s=self.block)

    def _lanes(self, v: Matrix) -> Float[Array, "m k t ns"]:
        v = repeat(v, "l n b g -> l n (b g p)", p=self.parts)
        v = self._fill(v, tokens=0, scans=2)
        return rearrange(v, "(k t) n (m s) -> m k t (n s)", t=self.chunk, s=self.block)

    def tokens_back(self, v: Tokens) -> Tokens:
        return Tokens(*map(self.lanes_back, (v.x, v.dt)), *map(self._lanes_back, (v.B, v.C)))

    def lanes_back(self, v: Float[Array, "m k t sc"]) -> Sequence:
        v = rearrange(v, "m k t (s c) -> (k t) (m s) c", s=self.block)
        v = v[: self.length, : self.scans]
        return rearrange(v, "l (b g p) c -> l b g (p c)", **self.axes)

    def _lanes_back(self, v: Float[Array, "m k t ns"]) -> Matrix:
        v = rearrange(v, "m k t (n s) -> (k t) n (m s)", s=self.block)
        v = v[: self.length, :, : self.scans]
        return reduce(v, "l n (b g p) -> l n b g", "sum", **self.axes)

    def parameters(self, A: Rates) -> Float[Array, "m n s c"]:
        """Rearranges "n g d" to "m n s c", repeated along the batch."""
        return self.state(repeat(A, "n g d -> n b g d", b=self.batch))

    def state(self, h: State) -> Float[Array, "m n s c"]:
        """Rearranges "n b g d" to "m n s c"."""
        return self.states(h[None])[:, 0]

    def state_back(self, h: Float[Array, "m n s c"]) -> State:
        return self.states_back(h[:, None])[0]

    def states(self, h: States) -> Float[Array, "m k n s c"]:
        """Rearranges "k n b g d" to "m k n s c"."""
        h = self._fill(rearrange(h, "k n b g (p c) -> k n (b g p) c", p=self.parts), scans=2)
        return rearrange(h, "k n (m s) c -> m k n s c", s=self.block)

    def states_back(self, h: Float[Array, "m k n s c"]) -> States:
        h = rearrange(h, "m k n s c -> k n (m s) c")[:, :, : self.scans]
        return rearrange(h, "k n (b g p) c -> k n b g (p c)", **self.axes)

    def _fill(self, v: Array, *, scans: int, tokens: int | None = None) -> Array:
        missing = [0] * v.ndim
        missing[scans] = -self.scans % self.block
        if tokens is not None:
            missing[tokens] = -self.length % self.chunk
        return jnp.pad(v, [(0, n) for n in missing]) if any(missing) else v
