"""MCCM, the multiplex consensus of cross-modal Mamba experts (Eq. 15-19, Algorithm 1)."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange
from jax import lax
from jax.nn import silu
from jaxtyping import Array, Float

from smc_jax import moe, scan_orders
from smc_jax.conv import uniform
from smc_jax.ssm import SelectiveSSM, SSMParams, direction_names, scan_channels, scan_tokens
from smc_jax.types import Features, Noise, Pooled


class ExpertParams(NamedTuple):
    """Parameters of e cross-modal Mamba experts; m counts the two modalities."""

    scale: Float[Array, "e m c"]
    shift: Float[Array, "e m c"]
    linear: Float[Array, "e m c c"]
    linear_bias: Float[Array, "e m c"]
    conv: Float[Array, "e m c c"]
    conv_bias: Float[Array, "e m c"]
    spatial: tuple[SSMParams, ...]
    """For CM-Scan over the tokens, one per direction, each with leading axes e and m."""
    channel: tuple[SSMParams, ...]
    """For CM-Scan over the channels, one per direction."""


class MCCM(nn.Module):
    """Fuses the features of two sources by experts and a gate.

    Attributes are those of `config.Model`; `order` is its `cross_order`.
    """

    width: int
    state: int
    channel_state: int
    dt_rank: int
    experts: int
    top_k: int
    gate_window: int = 0
    cm_scan: bool = True
    bidirectional: bool = True
    order: str = "interleave"
    scan_method: str = "auto"
    remat: bool = False

    @nn.compact
    def __call__(
        self,
        a: Features,
        b: Features,
        pooled: Pooled | None = None,
        noise: Noise | None = None,
        *,
        train: bool = False,
    ) -> tuple[Features, moe.Routing, Float[Array, "e b h w c"] | None]:
        """Fuses the features of two sources.

        Args:
          a: features of the first sources.
          b: features of the second sources.
          pooled: see `moe.Gate`.
          noise: see `moe.Gate`.
          train: run every expert instead of the chosen ones alone.

        Returns:
          F_mf, the gate's routing and, in training, the output of every expert.
        """
        routing = moe.Gate(self.experts, self.top_k, self.gate_window)(a, b, pooled, noise)
        params = self._params()

        def run(params, a, b):
            return cross_modal_mamba(params, a, b, order=self.order, method=self.scan_method)

        if self.remat:
            run = jax.checkpoint(run)
        if not train:
            return moe.chosen_experts(run, params, a, b, routing), routing, None
        fused, outputs = moe.all_experts(run, params, a, b, routing)
        return fused, routing, outputs

    def _params(self) -> ExpertParams:
        lead, width = (self.experts, 2), self.width
        init, ones, zeros = uniform(width), nn.initializers.ones, nn.initializers.zeros
        names = direction_names(self.bidirectional) if self.cm_scan else ()
        spatial = [
            SelectiveSSM(width, self.state, self.dt_rank, lead, name=f"spatial_{n}") for n in names
        ]
        channel = [
            SelectiveSSM(1, self.channel_state, 1, lead, bias=True, name=f"channel_{n}")
            for n in names
        ]
        return ExpertParams(
            scale=self.param("scale", ones, (*lead, width), jnp.float32),
            shift=self.param("shift", zeros, (*lead, width), jnp.float32),
            linear=self.param("linear", init, (*lead, width, width)),
            linear_bias=self.param("linear_bias", init, (*lead, width)),
            conv=self.param("conv", init, (*lead, width, width)),
            conv_bias=self.param("conv_bias", init, (*lead, width)),
            spatial=tuple(ssm() for ssm in spatial),
            channel=tuple(ssm() for ssm in channel),
        )


def cross_modal_mamba(
    params: ExpertParams, a: Features, b: Features, *, order: str, method: str
) -> Float[Array, "e b h w c"]:
    """Runs the same features through e experts (Algorithm 1).

    Args:
      params: the experts; those without scan parameters skip CM-Scan.
      a: features of the first sources.
      b: features of the second sources.
      order: one of `scan_orders.CROSSINGS`.
      method: see `smc_jax.selective_scan`.
    """
    sources = jnp.stack([a, b])
    mean = sources.mean(-1, keepdims=True)
    normal = (sources - mean) * lax.rsqrt(sources.var(-1, keepdims=True) + 1e-6)
    # The affine part of each expert's LayerNorm is folded into its linear layer.
    linear = params.scale[..., None] * params.linear
    shift = jnp.einsum("e m c, e m c d -> e m d", params.shift, params.linear)
    bias = shift + params.linear_bias
    x = jnp.einsum("m b h w c, e m c d -> e m b h w d", normal, linear) + _bias(bias)
    gates = silu(x)
    x = silu(
        jnp.einsum("e m b h w c, e m c d -> e m b h w d", x, params.conv) + _bias(params.conv_bias)
    )
    if params.spatial:
        x = _cm_scan(params, x, order, method)
    return x[:, 0] * gates[:, 1] + x[:, 1] * gates[:, 0]


def _cm_scan(params: ExpertParams, x: Float[Array, "e 2 b h w c"], order: str, method: str):
    """CM-Scan(F_1, F_2) and CM-Scan(F_2, F_1): over the tokens of both, and over their channels."""
    cross = scan_orders.CROSSINGS[order]
    height = x.shape[3]
    first, second = x, x[:, ::-1]

    pattern = "e m b h w c -> (e m) b (h w) c"
    tokens, places = cross(rearrange(first, pattern), rearrange(second, pattern), -2)
    y = scan_tokens(params.spatial, tokens, method)[..., places, :]

    pattern = "e m b h w c -> (e m) (b h w) c"
    tokens, places = cross(rearrange(first, pattern), rearrange(second, pattern), -1)
    z = scan_channels(params.channel, tokens, method)[..., places]
    return rearrange(y, "(e m) b (h w) c -> e m b h w c", m=2, h=height) + z.reshape(x.shape)


def _bias(v: Float[Array, "e m c"]) -> Float[Array, "e m 1 1 1 c"]:
    return rearrange(v, "e m c -> e m 1 1 1 c")
