"""The selective scan for a CPU: loops over tokens that keep little, with an analytic gradient.

The forward pass saves the state at chunk boundaries alone; the backward pass recomputes a chunk's
states from there and runs the adjoint recurrence over them. Independent scans (batch and groups)
lie side by side in blocks whose state stays in the first-level cache, block after block.

Shapes inside: m blocks, k chunks a block, t tokens a chunk, s scans side by side.
"""

import functools

import jax
import jax.numpy as jnp
from einops import rearrange, repeat
from jax import lax
from jaxtyping import Array, Float

# Numbers of state that one loop carries. Fewer: the loop's own cost shows; more: the gradient's
# six arrays of this size leave a 48 KiB cache.
BLOCK_STATE = 2048
CHUNK = 64


def scan(
    x: Float[Array, "b l g d"],
    dt: Float[Array, "b l g d"],
    A: Float[Array, "g d n"],
    B: Float[Array, "b l g n"],
    C: Float[Array, "b l g n"],
    *,
    reverse: bool,
    chunk: int | None,
) -> Float[Array, "b l g d"]:
    """Loops over tokens with a hand-written gradient; see `selective_scan`."""
    batch, length, groups, width = x.shape
    scans = batch * groups
    blocks = min(scans, -(-scans * width * A.shape[-1] // BLOCK_STATE))
    block = -(-scans // blocks)
    chunk = min(chunk or CHUNK, length)

    def lay_out(v, to):
        v = rearrange(v, "b l g ... -> l (b g) ...")
        # Zeros fill both axes: a token with dt = 0 and x = 0 leaves the state as it is.
        v = jnp.pad(v, ((0, -length % chunk), (0, -scans % block), (0, 0)))
        return rearrange(v, f"(k t) (m s) c -> m k t {to}", t=chunk, s=block)

    A = repeat(A, "g d n -> (b g) d n", b=batch)
    A = jnp.pad(A, ((0, -scans % block), (0, 0), (0, 0)))
    A = rearrange(A, "(m s) d n -> m n s d", s=block)
    x, dt = lay_out(x, "(s c)"), lay_out(dt, "(s c)")
    y = _scan(x, dt, A, lay_out(B, "(c s)"), lay_out(C, "(c s)"), reverse)
    y = rearrange(y, "m k t (s d) -> (k t) (m s) d", s=block)[:length, :scans]
    return rearrange(y, "l (b g) d -> b l g d", b=batch)


@functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
def _scan(
    x: Float[Array, "m k t sd"],
    dt: Float[Array, "m k t sd"],
    A: Float[Array, "m n s d"],
    B: Float[Array, "m k t ns"],
    C: Float[Array, "m k t ns"],
    reverse: bool,
) -> Float[Array, "m k t sd"]:
    """What loops read and write has its last two axes merged: an axis of length one (a single
    scan) would make the compiler copy the whole array.
    """
    return _scan_forward(x, dt, A, B, C, reverse)[0]


def _scan_forward(x, dt, A, B, C, reverse):
    def block(inputs):
        x, dt, A, B, C = inputs

        def step(h, token):
            x, dt, B, C = _split(A, *token)
            h = jnp.exp(dt * A) * h + (dt * x) * B
            return h, (h * C).sum(0).reshape(-1)

        def chunk(h, tokens):
            end, y = lax.scan(step, h, tokens, reverse=reverse)
            return end, (y, h)

        return lax.scan(chunk, jnp.zeros_like(A), (x, dt, B, C), reverse=reverse)[1]

    y, starts = _each(block, (x, dt, A, B, C))
    return y, (x, dt, A, B, C, starts)


def _scan_backward(reverse, residuals, dy):
    """With q the gradient that reaches a state from later tokens, g = q + C dy is its whole
    gradient, and a g, with a = exp(dt A), what it hands to the state before.
    """

    def block(inputs):
        x, dt, A, B, C, starts, dy = inputs

        def recompute(h, token):
            x, dt, B, _ = _split(A, *token)
            return jnp.exp(dt * A) * h + (dt * x) * B, h

        def step(carry, token):
            q, dA = carry
            *token, dy, before = token
            x, dt, B, C = _split(A, *token)
            dy = dy.reshape(x.shape)
            a = jnp.exp(dt * A)
            entering = dt * x
            g = q + C * dy
            kept = a * before
            h = kept + entering * B
            slope = g * kept
            through_B = (g * B).sum(0)
            gradients = (
                through_B * dt,
                (slope * A).sum(0) + through_B * x,
                (g * entering).sum(-1),
                (h * dy).sum(-1),
            )
            return (g * a, dA + slope * dt), [v.reshape(-1) for v in gradients]

        def chunk(carry, inputs):
            *tokens, dy, start = inputs
            _, before = lax.scan(recompute, start, tokens, reverse=reverse)
            return lax.scan(step, carry, (*tokens, dy, before), reverse=not reverse)

        nothing = jnp.zeros_like(A)
        (_, dA), (dx, ddt, dB, dC) = lax.scan(
            chunk, (nothing, nothing), (x, dt, B, C, dy, starts), reverse=not reverse
        )
        return dx, ddt, dA, dB, dC

    return _each(block, (*residuals, dy))


_scan.defvjp(_scan_forward, _scan_backward)


def _split(A, x, dt, B, C):
    """One token's x and dt as "s d", its B and C as "n s 1"."""
    states, scans, width = A.shape
    return (
        *(v.reshape(scans, width) for v in (x, dt)),
        *(v.reshape(states, scans, 1) for v in (B, C)),
    )


def _each(block, inputs):
    """`lax.map`, without the copies that a loop of one turn would cost."""
    if inputs[0].shape[0] > 1:
        return lax.map(block, inputs)
    return jax.tree.map(lambda v: v[None], block(jax.tree.map(lambda v: v[0], inputs)))
