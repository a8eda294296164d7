"""The methods that define their own gradient, behind one `jax.custom_vjp`.

All of them keep the same residuals, the inputs and the states at chunk boundaries, so that `auto`
can be a different method on each platform. Axes that `jax.vmap` maps become more groups of the same
call.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax

from smc_jax.selective_scan import chunked, pallas, platforms, two_level
from smc_jax.selective_scan.mapping import joining
from smc_jax.selective_scan.shapes import Matrix, Rates, Sequence, State


class Method(NamedTuple):
    """The two passes of a method, both of which return tuples of arrays.

    In `METHODS`, `forward(x, dt, A, B, C, start)` returns y, the final state, and "k n b g d", the
    state that enters each of k chunks; `backward(x, dt, A, B, C, starts, dy, dend)` returns the
    gradients of the arguments of `forward`. Both also take the keywords `reverse` and `chunk`.
    """

    forward: Callable
    backward: Callable


METHODS = {
    "chunked": Method(chunked.forward, chunked.backward),
    "two_level": Method(two_level.forward, two_level.backward),
    "pallas": Method(pallas.forward, pallas.backward),
}
"""The methods that `scan` accepts, besides `auto`."""
# The axis of the groups in a sequence, a state and the states of all chunks; in x, dt, A, B and C.
_SEQUENCE, _STATE, _STATES = 2, 2, 3
_INPUTS = (_SEQUENCE, _SEQUENCE, 1, 3, 3)


def chunk_of(length: int, method: str) -> int:
    """Returns the number of tokens between two kept states.

    It is larger for long sequences, to save memory, but not for the kernels: a block cannot hold
    the states of more tokens at once, so larger chunks would be recomputed in parts.
    """
    kernels = method == "pallas" or (method == "auto" and platforms.has_kernels())
    return min(length, 64 if length < 2**15 or kernels else 256)


@functools.partial(jax.custom_vjp, nondiff_argnums=(6, 7, 8))
def scan(
    x: Sequence,
    dt: Sequence,
    A: Rates,
    B: Matrix,
    C: Matrix,
    start: State,
    method: str,
    reverse: bool,
    chunk: int,
) -> tuple[Sequence, State]:
    """Returns y and the final state, by one of `METHODS` or, with `auto`, the platform's own."""
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
