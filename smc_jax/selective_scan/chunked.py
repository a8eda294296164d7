"""The selective scan for a CPU: loops over tokens that keep little, with an analytic gradient.

The forward pass saves the state at chunk boundaries alone; the backward pass recomputes a chunk's
states from there and runs the adjoint recurrence over them. Independent scans (batch and groups)
lie side by side in blocks whose state stays in the first-level cache, block after block.

Shapes inside: m blocks, k chunks a block, t tokens a chunk, s scans side by side.
"""

import jax.numpy as jnp
from einops import rearrange, repeat
from jax import lax

from smc_jax.selective_scan import tokens
from smc_jax.selective_scan.tokens import Tokens

# Numbers of state that one loop carries. Fewer: the loop's own cost shows; more: its arrays of
# this size, six in the gradient, leave a 48 KiB cache.
FORWARD_STATE = 8192
BACKWARD_STATE = 2048


def forward(x, dt, A, B, C, start, *, reverse: bool, chunk: int):
    """See `analytic.Method`."""
    fold = _Fold(x.shape, A.shape[-1], chunk, FORWARD_STATE)

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


def backward(x, dt, A, B, C, starts, dy, dend, *, reverse: bool, chunk: int):
    """See `analytic.Method`."""
    fold = _Fold(x.shape, A.shape[-1], chunk, BACKWARD_STATE)

    def block(inputs):
        A, dend, *sequence = inputs

        def one_chunk(carry, inputs):
            start, part, dy = inputs
            return tokens.gradients(carry, start, A, part, dy, reverse=reverse)

        carry = dend, jnp.zeros_like(A)
        return lax.scan(one_chunk, carry, tuple(sequence), reverse=not reverse)

    inputs = (
        fold.parameters(A),
        fold.state(dend),
        fold.states(starts),
        fold.tokens(x, dt, B, C),
        fold.lanes(dy),
    )
    (dstart, dA), found = tokens.in_turn(block, inputs)
    dx, ddt = (fold.lanes_back(v) for v in (found.x, found.dt))
    dB, dC = (fold.lanes_back(v, "(c s)") for v in (found.B, found.C))
    return dx, ddt, fold.state_back(dA).sum(0), dB, dC, fold.state_back(dstart)


class _Fold:
    """Lays scans out in blocks and chunks, and back. Zeros fill both: a token with dt = 0 and
    x = 0 leaves the state as it is.
    """

    def __init__(self, shape: tuple[int, ...], states: int, chunk: int, block_state: int):
        self.batch, self.length, groups, width = shape
        self.scans = self.batch * groups
        blocks = min(self.scans, -(-self.scans * width * states // block_state))
        self.block = -(-self.scans // blocks)
        self.chunk = chunk

    def tokens(self, x, dt, B, C) -> Tokens:
        """Each "b l g c" as "m k t (s c)", B and C as "m k t (c s)"."""
        return Tokens(*map(self.lanes, (x, dt)), *(self.lanes(v, "(c s)") for v in (B, C)))

    def lanes(self, v, lanes: str = "(s c)"):
        v = rearrange(v, "b l g c -> l (b g) c")
        v = jnp.pad(v, ((0, -self.length % self.chunk), (0, -self.scans % self.block), (0, 0)))
        return rearrange(v, f"(k t) (m s) c -> m k t {lanes}", t=self.chunk, s=self.block)

    def lanes_back(self, v, lanes: str = "(s c)"):
        v = rearrange(v, f"m k t {lanes} -> (k t) (m s) c", s=self.block)
        return rearrange(v[: self.length, : self.scans], "l (b g) c -> b l g c", b=self.batch)

    def parameters(self, A):
        """ "g d n" as "m n s d", again for each of the batch."""
        return self.state(repeat(A, "g d n -> b g d n", b=self.batch))

    def state(self, h):
        """ "b g d n" as "m n s d"."""
        return self.states(h[:, None])[:, 0]

    def state_back(self, h):
        return self.states_back(h[:, None])[:, 0]

    def states(self, h):
        """ "b k g d n" as "m k n s d"."""
        h = rearrange(h, "b k g d n -> (b g) k d n")
        h = jnp.pad(h, ((0, -self.scans % self.block), (0, 0), (0, 0), (0, 0)))
        return rearrange(h, "(m s) k d n -> m k n s d", s=self.block)

    def states_back(self, h):
        h = rearrange(h, "m k n s d -> (m s) k d n")[: self.scans]
        return rearrange(h, "(b g) k d n -> b k g d n", b=self.batch)
