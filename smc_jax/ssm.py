"""Selective state space models: they project features to the inputs of the selective scan.

`SSMParams` is a plain tuple of arrays, with leading axes for models that run side by side
(modalities, experts); `SelectiveSSM` is the Linen module that owns one. Each direction of a scan
has its own parameters.
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


class SSMParams(NamedTuple):
    """Parameters of selective SSMs over d channels with n states and a step size of rank r."""

    A_log: Float[Array, "*g d n"]
    D: Float[Array, "*g d"]
    x_proj: Float[Array, "*g d k"]
    """Projects x to the step size (r), B (n) and C (n): k = r + 2n."""
    x_bias: Float[Array, "*g k"]
    dt_proj: Float[Array, "*g r d"]
    dt_bias: Float[Array, "*g d"]


class SelectiveSSM(nn.Module):
    """Owns the parameters of selective SSMs, initialised as in Mamba (Gu and Dao 2023).

    Attributes:
      width: number of channels d.
      state: state size n per channel.
      rank: rank r of the projection to the step size.
      groups: shape of the leading axes.
      bias: add a bias to the projection to step size, B and C (ours). Scalar tokens need it:
        without a bias only their square would reach the output.
    """

    width: int
    state: int
    rank: int
    groups: tuple[int, ...] = ()
    bias: bool = False

    @nn.compact
    def __call__(self) -> SSMParams:
        g, d, n, r = self.groups, self.width, self.state, self.rank
        k = r + 2 * n
        x_bias = jnp.zeros((*g, k), jnp.float32)
        if self.bias:
            x_bias = self.param("x_bias", uniform(d), (*g, k))
        return SSMParams(
            A_log=self.param("A_log", _log_counting, (*g, d, n)),
            D=self.param("D", nn.initializers.ones, (*g, d), jnp.float32),
            x_proj=self.param("x_proj", uniform(d), (*g, d, k)),
            x_bias=x_bias,
            dt_proj=self.param("dt_proj", uniform(r), (*g, r, d)),
            dt_bias=self.param("dt_bias", _step_bias, (*g, d)),
        )


def direction_names(bidirectional: bool) -> tuple[str, ...]:
    """The names of a scan's directions, by which their parameters are stored."""
    return ("forward", "reverse") if bidirectional else ("forward",)


def _log_counting(_, shape):
    """Gives each channel the decay rates -1, -2, ..., -n."""
    return jnp.broadcast_to(jnp.log(jnp.arange(1, shape[-1] + 1, dtype=jnp.float32)), shape)


def _step_bias(key, shape):
    """Draws a bias whose softplus is log-uniform between 0.001 and 0.1."""
    low, high = math.log(1e-3), math.log(1e-1)
    step = jnp.exp(jax.random.uniform(key, shape, jnp.float32, low, high))
    return jnp.log(jnp.expm1(step))


def scan_tokens(
    directions: tuple[SSMParams, ...], x: Float[Array, "g b l d"], method: str = "auto"
) -> Float[Array, "g b l d"]:
    """Runs each of g sequences of d-channel tokens through its own model; sums over directions.

    Args:
      directions: the models of the forward scan and, if there is a second entry, of the reverse
        scan.
      x: the sequences.
      method: see `smc_jax.selective_scan`.
    """
    kind, x = x.dtype, _wide(x)
    y = _scan(directions[0], x, reverse=False, method=method)
    for ssm in directions[1:]:
        y += _scan(ssm, x, reverse=True, method=method)
    return y.astype(kind)


def scan_channels(
    directions: tuple[SSMParams, ...], x: Float[Array, "g p l"], method: str = "auto"
) -> Float[Array, "g p l"]:
    """Runs the l channels of each pixel as a sequence of scalar tokens; sums over directions.

    Args:
      directions: as in `scan_tokens`, but models of width 1 and rank 1.
      x: p pixels for each of the g models.
      method: see `smc_jax.selective_scan`.
    """
    groups, wide = x.shape[0], _wide(x)
    ssms = [_scalar(_merge(ssm, groups)) for ssm in directions]
    stacked = (jnp.stack(v).astype(wide.dtype) for v in zip(*ssms, strict=True))
    return scalars.scan(wide, ScalarSSM(*stacked), method).astype(x.dtype)


def _wide(x: Array) -> Array:
    """Casts to float32 at least: states accumulate over thousands of tokens, so neither they nor
    what they are computed from may be narrower.
    """
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _scalar(ssm: SSMParams) -> ScalarSSM:
    """Rewrites one direction for scalar tokens: every input of the scan is affine in x."""
    return ScalarSSM(
        slope=ssm.x_proj[:, 0].at[:, :1].multiply(ssm.dt_proj[:, 0]),
        constant=ssm.x_bias.at[:, :1].multiply(ssm.dt_proj[:, 0]).at[:, :1].add(ssm.dt_bias),
        A=-jnp.exp(ssm.A_log[:, 0]),
        D=ssm.D[:, 0],
    )


def _scan(ssm: SSMParams, x: Float[Array, "g b l d"], *, reverse: bool, method: str):
    ssm = _merge(ssm, x.shape[0])
    state, rank = ssm.A_log.shape[-1], ssm.dt_proj.shape[-2]
    ends = rank, rank + state
    to_step, *to_BC = jnp.split(ssm.x_proj, ends, axis=-1)
    step_bias, *BC_bias = jnp.split(ssm.x_bias, ends, axis=-1)
    # Fold the two small factors first: the tokens then need one matrix product for dt.
    to_step = jnp.einsum("g d r, g r e -> g d e", to_step, ssm.dt_proj)
    step_bias = jnp.einsum("g r, g r d -> g d", step_bias, ssm.dt_proj) + ssm.dt_bias
    weights, biases = (to_step, *to_BC), (step_bias, *BC_bias)
    # Without the barrier XLA joins the products that share x and copies each out of the result.
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
    # An einsum, whose gradient is one too: XLA's CPU compiler is slow at sums over products.
    skipped = jnp.einsum("g b l d, g d -> g b l d", x, ssm.D, precision="highest")
    return rearrange(y, "l b g d -> g b l d") + skipped


def _affine(x: Float[Array, "g b l d"], weights: Float[Array, "g d k"], bias: Float[Array, "g k"]):
    return jnp.einsum("g b l d, g d k -> g b l k", x, weights) + rearrange(bias, "g k -> g 1 1 k")


def _merge(ssm: SSMParams, groups: int) -> SSMParams:
    """Flattens all leading axes into one of length `groups`."""
    lead = ssm.D.ndim - 1
    return jax.tree.map(lambda v: v.reshape(groups, *v.shape[lead:]), ssm)
