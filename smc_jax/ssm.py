"""Selective state space models: what turns features into the inputs of the selective scan.

A model here is a `SSM`, a plain tuple of arrays with leading axes for models that run side by side
(modalities, experts); `SSMParams` is the Linen module that owns one. Both directions of a scan have
parameters of their own.
"""

import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float

from smc_jax.conv import uniform
from smc_jax.selective_scan import scalars
from smc_jax.selective_scan.recurrence import recurrence
from smc_jax.selective_scan.scalars import ScalarSSM
from smc_jax.selective_scan.softplus import softplus


class SSM(NamedTuple):
    """Parameters of selective SSMs over d channels with n states and a step size of rank r."""

    A_log: Float[Array, "*g d n"]
    D: Float[Array, "*g d"]
    x_proj: Float[Array, "*g d k"]
    """To the step size (r), B (n) and C (n): k = r + 2n."""
    x_bias: Float[Array, "*g k"]
    dt_proj: Float[Array, "*g r d"]
    dt_bias: Float[Array, "*g d"]


class SSMParams(nn.Module):
    """Owns the parameters of selective SSMs, initialised as in Mamba (Gu and Dao 2023).

    Attributes:
      width: channels d.
      state: state numbers n a channel.
      rank: rank r of the step size.
      groups: shape of the leading axes.
      bias: give the step size, B and C a bias (ours). Scalar tokens need one: without it only
        their square would reach the output.
    """

    width: int
    state: int
    rank: int
    groups: tuple[int, ...] = ()
    bias: bool = False

    @nn.compact
    def __call__(self) -> SSM:
        g, d, n, r = self.groups, self.width, self.state, self.rank
        k = r + 2 * n
        x_bias = jnp.zeros((*g, k), jnp.float32)
        if self.bias:
            x_bias = self.param("x_bias", uniform(d), (*g, k))
        return SSM(
            A_log=self.param("A_log", _log_counting, (*g, d, n)),
            D=self.param("D", nn.initializers.ones, (*g, d), jnp.float32),
            x_proj=self.param("x_proj", uniform(d), (*g, d, k)),
            x_bias=x_bias,
            dt_proj=self.param("dt_proj", uniform(r), (*g, r, d)),
            dt_bias=self.param("dt_bias", _step_bias, (*g, d)),
        )


def _log_counting(_, shape):
    """The n decay rates of a channel are -1, -2, ..., -n."""
    return jnp.broadcast_to(jnp.log(jnp.arange(1, shape[-1] + 1, dtype=jnp.float32)), shape)


def _step_bias(key, shape):
    """softplus of this is log-uniform between 0.001 and 0.1."""
    low, high = math.log(1e-3), math.log(1e-1)
    step = jnp.exp(jax.random.uniform(key, shape, jnp.float32, low, high))
    return jnp.log(jnp.expm1(step))


def scan_tokens(
    directions: tuple[SSM, ...], x: Float[Array, "g b l d"], method: str = "auto"
) -> Float[Array, "g b l d"]:
    """Runs g sequences of d-channel tokens through a model each: sum over the directions.

    Args:
      directions: the models of the forward scan and, if there is a second, of the reverse scan.
      x: the sequences.
      method: see `selective_scan`.
    """
    kind, x = x.dtype, _wide(x)
    y = _scan(directions[0], x, reverse=False, method=method)
    for ssm in directions[1:]:
        y += _scan(ssm, x, reverse=True, method=method)
    return y.astype(kind)


def scan_channels(
    directions: tuple[SSM, ...], x: Float[Array, "g p l"], method: str = "auto"
) -> Float[Array, "g p l"]:
    """Runs the channels of every pixel as a sequence of l scalar tokens; sums over the directions.

    Args:
      directions: as in `scan_tokens`; models of width 1 and rank 1.
      x: g times p pixels.
      method: see `selective_scan`.
    """
    groups, wide = x.shape[0], _wide(x)
    ssms = [_scalar(_merge(ssm, groups)) for ssm in directions]
    stacked = (jnp.stack(v).astype(wide.dtype) for v in zip(*ssms, strict=True))
    return scalars.scan(wide, ScalarSSM(*stacked), method).astype(x.dtype)


def _wide(x: Array) -> Array:
    """States add up over thousands of tokens: they, and all that they depend on, are float32."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _scalar(ssm: SSM) -> ScalarSSM:
    """Of one direction: every input of its recurrence is a multiple of x plus a constant."""
    return ScalarSSM(
        slope=ssm.x_proj[:, 0].at[:, :1].multiply(ssm.dt_proj[:, 0]),
        constant=ssm.x_bias.at[:, :1].multiply(ssm.dt_proj[:, 0]).at[:, :1].add(ssm.dt_bias),
        A=-jnp.exp(ssm.A_log[:, 0]),
        D=ssm.D[:, 0],
    )


def _scan(ssm: SSM, x: Float[Array, "g b l d"], *, reverse: bool, method: str):
    ssm = _merge(ssm, x.shape[0])
    state, rank = ssm.A_log.shape[-1], ssm.dt_proj.shape[-2]
    ends = rank, rank + state
    to_step, *to_BC = jnp.split(ssm.x_proj, ends, axis=-1)
    step_bias, *BC_bias = jnp.split(ssm.x_bias, ends, axis=-1)
    # One product of the tokens gives their step sizes, that of its two factors is small.
    to_step = jnp.einsum("g d r, g r e -> g d e", to_step, ssm.dt_proj)
    step_bias = jnp.einsum("g r, g r d -> g d", step_bias, ssm.dt_proj) + ssm.dt_bias
    weights, biases = (to_step, *to_BC), (step_bias, *BC_bias)
    # Without the barrier, products of one x are joined, and each is copied out of the whole.
    xs, weights = jax.lax.optimization_barrier(((x, x, x), weights))
    dt, B, C = map(_affine, xs, weights, biases)
    dt = softplus(dt)
    y, _ = recurrence(
        rearrange(x, "g b l d -> l b g d"),
        rearrange(dt, "g b l d -> l b g d"),
        rearrange(-jnp.exp(ssm.A_log), "g d n -> n g d"),
        rearrange(B, "g b l n -> l n b g"),
        rearrange(C, "g b l n -> l n b g"),
        reverse=reverse,
        method=method,
    )
    # By einsum, whose gradient is one too: XLA's CPU compiler is slow in sums over products.
    skipped = jnp.einsum("g b l d, g d -> g b l d", x, ssm.D, precision="highest")
    return rearrange(y, "l b g d -> g b l d") + skipped


def _affine(x: Float[Array, "g b l d"], weights: Float[Array, "g d k"], bias: Float[Array, "g k"]):
    return jnp.einsum("g b l d, g d k -> g b l k", x, weights) + rearrange(bias, "g k -> g 1 1 k")


def _merge(ssm: SSM, groups: int) -> SSM:
    """All leading axes as one of length `groups`."""
    lead = ssm.D.ndim - 1
    return jax.tree.map(lambda v: v.reshape(groups, *v.shape[lead:]), ssm)
