"""The methods that bring their own gradient, behind one `jax.custom_vjp`.

All of them keep the same of the forward pass, the state at chunk boundaries, so that each platform
may take another one. What `jax.vmap` adds becomes more groups of the same call.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
from jaxtyping import Array, Float

from smc_jax.selective_scan import chunked, pallas, platforms, two_level
from smc_jax.selective_scan.mapping import joining


class Method(NamedTuple):
    """The two passes of a method, both of which give tuples of arrays."""

    forward: Callable
    backward: Callable


METHODS = {
    "chunked": Method(chunked.forward, chunked.backward),
    "two_level": Method(two_level.forward, two_level.backward),
    "pallas": Method(pallas.forward, pallas.backward),
}
"""`forward(x, dt, A, B, C, start)` gives y, the end state, and "k n b g d", the state that enters
each of k chunks; `backward(x, dt, A, B, C, starts, dy, dend)` the gradients of what `forward` was
called with. Both are told `reverse` and `chunk` as well."""
# Where the groups are, in x, dt, A, B, C and a state or the states of all chunks.
_SEQUENCE, _STATE, _STATES = 2, 2, 3
_INPUTS = (_SEQUENCE, _SEQUENCE, 1, 3, 3)


def chunk_of(length: int, method: str) -> int:
    """Tokens between two kept states: of a long sequence few are kept, for the memory's sake.

    Not so for the kernels: a block of them holds no more at once, and would recompute the others.
    """
    kernels = method == "pallas" or (method == "auto" and platforms.has_kernels())
    return min(length, 64 if length < 2**15 or kernels else 256)


@functools.partial(jax.custom_vjp, nondiff_argnums=(6, 7, 8))
def scan(
    x: Float[Array, "l b g d"],
    dt: Float[Array, "l b g d"],
    A: Float[Array, "n g d"],
    B: Float[Array, "l n b g"],
    C: Float[Array, "l n b g"],
    start: Float[Array, "n b g d"],
    method: str,
    reverse: bool,
    chunk: int,
) -> tuple[Float[Array, "l b g d"], Float[Array, "n b g d"]]:
    """y and the end state, by a name of `METHODS`, or `auto`: what suits the platform."""
    return _scan_forward(x, dt, A, B, C, start, method, reverse, chunk)[0]


def _scan_forward(x, dt, A, B, C, start, method, reverse, chunk):
    run = _function("forward", method, reverse, chunk)
    y, end, starts = run(x, dt, A, B, C, start)
    return (y, end), (x, dt, A, B, C, starts)


def _scan_backward(method, reverse, chunk, kept, gradients):
    return _function("backward", method, reverse, chunk)(*kept, *gradients)


scan.defvjp(_scan_forward, _scan_backward)


@functools.cache
def _function(name: str, method: str, reverse: bool, chunk: int) -> Callable:
    functions = {
        key: jax.jit(functools.partial(getattr(one, name), reverse=reverse, chunk=chunk))
        for key, one in METHODS.items()
    }

    def choose(*args):
        fits = args[2].shape[0] <= pallas.STATES
        kernel = functions["pallas" if fits else "two_level"]
        gpu, other = functions["two_level"], functions["chunked"]
        return platforms.choose(*args, kernel=kernel, gpu=gpu, other=other)

    run = jax.jit(choose) if method == "auto" else functions[method]
    if name == "forward":
        return joining(run, (*_INPUTS, _STATE), (_SEQUENCE, _STATE, _STATES))
    return joining(run, (*_INPUTS, _STATES, _SEQUENCE, _STATE), (*_INPUTS, _STATE))
