"""The selective scan of scalar tokens, whose step size, B and C are affine in the token itself.

Each token expands into 1 + 2n inputs of the recurrence besides itself, so computing, moving and
keeping them costs far more than the recurrence. No method keeps them for the gradient. The kernels,
and the loops of `chunked`, compute B and C token by token and never write them to memory; the other
methods compute them for some sequences at a time.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange, repeat
from jax import lax
from jaxtyping import Array, Float

from smc_jax.selective_scan import pallas, platforms, scalar_loops
from smc_jax.selective_scan.analytic import Method
from smc_jax.selective_scan.mapping import joining, vary_alike
from smc_jax.selective_scan.recurrence import check_method, recurrence
from smc_jax.selective_scan.shapes import Affine, ScalarRates, Skips
from smc_jax.selective_scan.softplus import softplus

# State elements in the scans that run together, where B and C are computed for whole sequences. On
# a CPU, B and C of this many stay in the cache; on a GPU, a larger number would hold B and C of a
# whole large image in memory.
CPU_STATE = 2**11
GPU_STATE = 2**24
# State size up to which a lane of the kernels has enough registers.
STATES = 16

Tokens = Float[Array, "g p l"]


class ScalarSSM(NamedTuple):
    """g SSMs of scalar tokens with n states, for r directions: forward, then reverse."""

    slope: Affine
    """Factors of a token in dt (before softplus), B and C: k = 1 + 2n."""
    constant: Affine
    """What is added to the products."""
    A: ScalarRates
    D: Skips


def scan(x: Tokens, ssm: ScalarSSM, method: str = "auto") -> Tokens:
    """Runs p sequences of l scalar tokens through each SSM and sums over its directions.

    Args:
      method: see `selective_scan`; `auto` is `pallas` where the kernels run, up to `STATES` states.
    """
    check_method(method)
    if method in _DIFFERENTIABLE:
        return _by_recurrence(x, *ssm, method=method)
    return _scan(*vary_alike(x, *ssm), method)


@functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
def _scan(
    x: Tokens, slope: Affine, constant: Affine, A: ScalarRates, D: Skips, method: str
) -> Tokens:
    (y,) = _function("forward", method)(x, slope, constant, A, D)
    return y


def _scan_forward(x, slope, constant, A, D, method):
    return _scan(x, slope, constant, A, D, method), (x, slope, constant, A, D)


def _scan_backward(method, kept, dy):
    return _function("backward", method)(*kept, dy)


_scan.defvjp(_scan_forward, _scan_backward)


@functools.cache
def _function(name: str, method: str) -> Callable:
    kernel = getattr(KERNELS, name)
    gpu, loops = (jax.jit(getattr(one, name)) for one in (_TWO_LEVEL, _LOOPS))

    def choose(*args):
        fits = args[1].shape[-1] <= 1 + 2 * STATES
        return platforms.choose(*args, kernel=kernel if fits else gpu, gpu=gpu, other=loops)

    run = {"auto": choose, "chunked": loops, "two_level": gpu, "pallas": kernel}[method]
    inputs = (0, 1, 1, 1, 1)
    if name == "forward":
        return joining(jax.jit(run), inputs, (0,))
    return joining(jax.jit(run), (*inputs, 0), inputs)


def _forward(x: Tokens, slope: Affine, constant: Affine, A: ScalarRates, D: Skips) -> tuple[Tokens]:
    return (_by_recurrence(x, slope, constant, A, D, method="two_level"),)


def _backward(
    x: Tokens,
    slope: Affine,
    constant: Affine,
    A: ScalarRates,
    D: Skips,
    dy: Tokens,
    *,
    method: str = "two_level",
) -> tuple[Array, ...]:
    run = functools.partial(_by_recurrence, method=method)
    return jax.vjp(run, x, slope, constant, A, D)[1](dy)


def _kernel_forward(
    x: Tokens, slope: Affine, constant: Affine, A: ScalarRates, D: Skips, *, interpret: Any = None
) -> tuple[Tokens]:
    from smc_jax.selective_scan import scalar_kernels  # Imported here as in pallas.forward.

    filled = _fill(pallas.checked(x, interpret), 2 * pallas.WARPGROUP)
    y = scalar_kernels.outputs(filled, _numbers(slope, constant, A, D), interpret=interpret)
    return (_empty(y, x.shape[1]),)


def _kernel_backward(
    x: Tokens,
    slope: Affine,
    constant: Affine,
    A: ScalarRates,
    D: Skips,
    dy: Tokens,
    *,
    interpret: Any = None,
) -> tuple[Array, ...]:
    from smc_jax.selective_scan import scalar_kernels

    if not scalar_kernels.fits(x.shape[2], A.shape[-1]):
        return _backward(x, slope, constant, A, D, dy, method="pallas")
    filled, dy = (_fill(v, pallas.WARPGROUP) for v in (pallas.checked(x, interpret), dy))
    numbers = _numbers(slope, constant, A, D)
    dx, sums = scalar_kernels.gradients(filled, numbers, dy, interpret=interpret)
    ends = (slope.shape[-1], 2 * slope.shape[-1], numbers.shape[-1] - 1)
    *sums, dD = jnp.split(rearrange(sums.sum(-1), "r m g -> r g m"), ends, -1)
    return _empty(dx, x.shape[1]), *sums, dD[..., 0]


def _numbers(slope: Affine, constant: Affine, A: ScalarRates, D: Skips) -> Float[Array, "r g m"]:
    return jnp.concatenate([slope, constant, A, D[..., None]], -1)


def _fill(v: Tokens, of: int) -> Float[Array, "l g q"]:
    """Fills the last block of lanes with sequences of zeros, and moves the tokens first."""
    return jnp.pad(rearrange(v, "g p l -> l g p"), ((0, 0), (0, 0), (0, -v.shape[1] % of)))


def _empty(v: Float[Array, "l g q"], sequences: int) -> Tokens:
    return rearrange(v[..., :sequences], "l g p -> g p l")


_LOOPS = Method(scalar_loops.forward, scalar_loops.backward)
_TWO_LEVEL = Method(_forward, _backward)
KERNELS = Method(_kernel_forward, _kernel_backward)
# Methods that JAX differentiates, any number of times.
_DIFFERENTIABLE = ("reference", "associative")


def _by_recurrence(
    x: Tokens, slope: Affine, constant: Affine, A: ScalarRates, D: Skips, *, method: str
) -> Tokens:
    groups, sequences, _ = x.shape
    on_cpu = method in _DIFFERENTIABLE and jax.default_backend() == "cpu"
    budget = CPU_STATE if on_cpu else GPU_STATE
    size = min(sequences, max(1, budget // (groups * A.shape[-1])))
    x = jnp.pad(x, ((0, 0), (0, -sequences % size), (0, 0)))

    # Recomputing B and C of some sequences for the gradient is cheaper than keeping those of all.
    @jax.checkpoint
    def block(x):
        directions = zip(slope, constant, A, D, strict=True)
        return sum(
            _direction(x, *ssm, reverse=bool(i), method=method) for i, ssm in enumerate(directions)
        )

    y = lax.map(block, rearrange(x, "g (m p) l -> m l g p", p=size))
    return rearrange(y, "m l g p -> g (m p) l")[:, :sequences]


def _direction(
    x: Float[Array, "l g p"],
    slope: Float[Array, "g k"],
    constant: Float[Array, "g k"],
    A: Float[Array, "g n"],
    D: Float[Array, "g"],
    *,
    reverse: bool,
    method: str,
) -> Float[Array, "l g p"]:
    """Runs one direction; sequences are adjacent in every array, as they are inside the scan."""
    state, sequences = A.shape[-1], x.shape[2]
    # In the gradient of these, the barrier keeps the sum over tokens apart from the sum over
    # sequences: a CPU adds whole rows of sequences many times faster than single numbers.
    slope, constant, D = (
        lax.optimization_barrier(repeat(v, "g k -> k g p", p=sequences))
        for v in (slope, constant, D[:, None])
    )
    # One by one, because in the gradient of x a sum over them as an axis would be slow too.
    dt, *BC = (x * slope[i] + constant[i] for i in range(1 + 2 * state))
    B, C = (jnp.stack(v, 1) for v in (BC[:state], BC[state:]))
    y, _ = recurrence(
        rearrange(x, "l g p -> l 1 (g p) 1"),
        rearrange(softplus(dt), "l g p -> l 1 (g p) 1"),
        repeat(A, "g n -> n (g p) 1", p=sequences),
        rearrange(B, "l n g p -> l n 1 (g p)"),
        rearrange(C, "l n g p -> l n 1 (g p)"),
        reverse=reverse,
        method=method,
    )
    return rearrange(y, "l 1 (g p) 1 -> l g p", p=sequences) + D[0] * x
