"""The selective scan of scalar tokens for a CPU: loops over tokens that compute B and C on the fly.

Neither B and C nor their gradients are written to memory: the gradients of the slopes and constants
that they are computed from are summed token by token. Sequences lie side by side in blocks; blocks
and SSMs run one after another, so a loop has little work if an SSM has few sequences.

Shapes: g SSMs for r directions, n states, k = 1 + 2n; blocks of p sequences of l tokens.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange
from jax import lax
from jaxtyping import Array, Float

from smc_jax.selective_scan.chunked import BLOCK_STATE
from smc_jax.selective_scan.shapes import Affine, ScalarRates, Skips
from smc_jax.selective_scan.softplus import with_slope

Sequences = Float[Array, "g q l"]
Block = Float[Array, "l p"]
State = Float[Array, "n p"]


class _SSM(NamedTuple):
    """One SSM of one direction, or the gradients of its numbers."""

    slope: Float[Array, "k"]
    constant: Float[Array, "k"]
    A: Float[Array, "n"]
    D: Float[Array, ""]


def forward(
    x: Sequences,
    slope: Affine,
    constant: Affine,
    A: ScalarRates,
    D: Skips,
) -> tuple[Sequences]:
    """See `scalars.scan`."""

    def block(x, ssm):
        found = [_outputs(x.T, one, reverse=i > 0) for i, one in enumerate(ssm)]
        return functools.reduce(jnp.add, found).T

    def group(inputs):
        blocks, *ssm = inputs
        return lax.map(lambda x: block(x, _directions(ssm)), blocks)

    y = lax.map(group, (_blocks(x, A), *_groups_first(slope, constant, A, D)))
    return (_join(y, x.shape),)


def backward(
    x: Sequences,
    slope: Affine,
    constant: Affine,
    A: ScalarRates,
    D: Skips,
    dy: Sequences,
) -> tuple[Array, ...]:
    """Returns the gradients of the arguments of `forward`."""

    def block(x, dy, ssm):
        found = [_gradients(x.T, dy.T, one, reverse=i > 0) for i, one in enumerate(ssm)]
        dx, ssms = zip(*found, strict=True)
        return functools.reduce(jnp.add, dx).T, _SSM(*map(jnp.stack, zip(*ssms, strict=True)))

    def group(inputs):
        blocks, *ssm = inputs

        def step(total, blocks):
            x, dy = blocks
            dx, found = block(x, dy, _directions(ssm))
            return jax.tree.map(jnp.add, total, found), dx

        return lax.scan(step, _SSM(*map(jnp.zeros_like, ssm)), blocks)

    blocks = _blocks(x, A), _blocks(dy, A)
    ssm, dx = lax.map(group, (blocks, *_groups_first(slope, constant, A, D)))
    return _join(dx, x.shape), *_groups_first(*ssm)


def _outputs(x: Block, ssm: _SSM, *, reverse: bool) -> Block:
    (to_B, to_C), (base_B, base_C) = _halves(ssm.slope), _halves(ssm.constant)
    rates = ssm.A[:, None]

    def step(h, token):
        x, dt = token
        h = jnp.exp(dt * rates) * h + (dt * x) * (x * to_B + base_B)
        return h, (h * (x * to_C + base_C)).sum(0)

    _, y = lax.scan(step, _empty(x, ssm), (x, _step_sizes(x, ssm)[0]), reverse=reverse)
    return y + ssm.D * x


def _gradients(x: Block, dy: Block, ssm: _SSM, *, reverse: bool) -> tuple[Block, _SSM]:
    (to_B, to_C), (base_B, base_C) = _halves(ssm.slope), _halves(ssm.constant)
    rates = ssm.A[:, None]
    dt, steepness = _step_sizes(x, ssm)

    def recompute(h, token):
        x, dt = token
        return jnp.exp(dt * rates) * h + (dt * x) * (x * to_B + base_B), h

    def step(carry, token):
        # As in tokens.slopes, with B and C computed from x.
        q, (dA, dB, xdB, dC, xdC) = carry
        x, dt, dy, before = token
        B, C = x * to_B + base_B, x * to_C + base_C
        a = jnp.exp(dt * rates)
        entering = dt * x
        g = q + C * dy
        kept = a * before
        slope = g * kept
        through_B = (g * B).sum(0)
        to_entry, to_exit = g * entering, (kept + entering * B) * dy
        dx = through_B * dt + (to_entry * to_B + to_exit * to_C).sum(0)
        ddt = (slope * rates).sum(0) + through_B * x
        sums = dA + slope * dt, dB + to_entry, xdB + x * to_entry, dC + to_exit, xdC + x * to_exit
        return (g * a, sums), (dx, ddt)

    empty = _empty(x, ssm)
    _, before = lax.scan(recompute, empty, (x, dt), reverse=reverse)
    tokens = x, dt, dy, before
    (_, sums), (dx, ddt) = lax.scan(step, (empty, (empty,) * 5), tokens, reverse=not reverse)
    dA, dB, xdB, dC, xdC = (v.sum(-1) for v in sums)
    ddt *= steepness
    found = _SSM(
        slope=jnp.concatenate([(ddt * x).sum()[None], xdB, xdC]),
        constant=jnp.concatenate([ddt.sum()[None], dB, dC]),
        A=dA,
        D=(dy * x).sum(),
    )
    return dx + ddt * ssm.slope[0] + dy * ssm.D, found


def _step_sizes(x: Block, ssm: _SSM) -> tuple[Block, Block]:
    """Returns dt of the tokens, and its derivative with respect to the argument of softplus."""
    return with_slope(x * ssm.slope[0] + ssm.constant[0])


def _halves(numbers: Float[Array, "k"]) -> list[Float[Array, "n 1"]]:
    """Returns the numbers of B and those of C."""
    return jnp.split(numbers[1:, None], 2)


def _empty(x: Block, ssm: _SSM) -> State:
    # Made from these so that, inside `jax.shard_map`, it varies over the same mesh axes.
    return jnp.zeros_like(ssm.A[:, None] * x[0])


def _directions(ssm) -> list[_SSM]:
    return [_SSM(*numbers) for numbers in zip(*ssm, strict=True)]


def _groups_first(*numbers):
    """Transposes "r g ..." to "g r ...", or back."""
    return [v.swapaxes(0, 1) for v in numbers]


def _blocks(x: Float[Array, "g q l"], A) -> Float[Array, "g m p l"]:
    """Splits the sequences into blocks, the last filled with sequences of zeros."""
    blocks = -(-x.shape[1] * A.shape[-1] // BLOCK_STATE)
    size = -(-x.shape[1] // blocks)
    x = jnp.pad(x, ((0, 0), (0, size * blocks - x.shape[1]), (0, 0)))
    return rearrange(x, "g (m p) l -> g m p l", p=size)


def _join(y: Float[Array, "g m p l"], shape) -> Float[Array, "g q l"]:
    return rearrange(y, "g m p l -> g (m p) l")[:, : shape[1]]
