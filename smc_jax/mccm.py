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
from smc_jax.ssm import SSM, SSMParams, scan_channels, scan_tokens
from smc_jax.types import Features, Noise, Pooled


class Weights(NamedTuple):
    """Weights of e cross-modal Mamba experts; m counts the two modalities."""

    scale: Float[Array, "e m c"]
    shift: Float[Array, "e m c"]
    linear: Float[Array, "e m c c"]
    linear_bias: Float[Array, "e m c"]
    conv: Float[Array, "e m c c"]
    conv_bias: Float[Array, "e m c"]
    spatial: tuple[SSM, ...]
    """Of CM-Scan over the tokens: one a direction, with leading axes e and m."""
    channel: tuple[SSM, ...]
    """Of CM-Scan over the channels."""


class MCCM(nn.Module):
    """Fuses the features of two sources by experts and a gate. Attributes: see `config.Model`."""

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
        """Returns F_mf, the gate's routing and, in training, the output of every expert. For
        `pooled` and `noise` see `moe.Gate`."""
        routing = moe.Gate(self.experts, self.top_k, self.gate_window)(a, b, pooled, noise)
        weights = self._experts()

        def run(weights, a, b):
            return cross_modal_mamba(weights, a, b, order=self.order, method=self.scan_method)

        if self.remat:
            run = jax.checkpoint(run)
        if not train:
            return moe.chosen_experts(run, weights, a, b, routing), routing, None
        fused, outputs = moe.all_experts(run, weights, a, b, routing)
        return fused, routing, outputs

    def _experts(self) -> Weights:
        lead, width = (self.experts, 2), self.width
        init, ones, zeros = uniform(width), nn.initializers.ones, nn.initializers.zeros
        names = ("forward", "reverse") if self.bidirectional else ("forward",)
        names = names if self.cm_scan else ()
        spatial = [
            SSMParams(width, self.state, self.dt_rank, lead, name=f"spatial_{n}") for n in names
        ]
        channel = [
            SSMParams(1, self.channel_state, 1, lead, bias=True, name=f"channel_{n}") for n in names
        ]
        return Weights(
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
    weights: Weights, a: Features, b: Features, *, order: str, method: str
) -> Float[Array, "e b h w c"]:
    """Runs the same features through e experts (Algorithm 1). No scan without its weights."""
    sources = jnp.stack([a, b])
    mean = sources.mean(-1, keepdims=True)
    normal = (sources - mean) * lax.rsqrt(sources.var(-1, keepdims=True) + 1e-6)
    # The affine part of each expert's LayerNorm is folded into its linear layer.
    linear = weights.scale[..., None] * weights.linear
    shift = jnp.einsum("e m c, e m c d -> e m d", weights.shift, weights.linear)
    bias = shift + weights.linear_bias
    x = jnp.einsum("m b h w c, e m c d -> e m b h w d", normal, linear) + _bias(bias)
    gates = silu(x)
    x = silu(
        jnp.einsum("e m b h w c, e m c d -> e m b h w d", x, weights.conv)
        + _bias(weights.conv_bias)
    )
    if weights.spatial:
        x = _cm_scan(weights, x, order, method)
    return x[:, 0] * gates[:, 1] + x[:, 1] * gates[:, 0]


def _cm_scan(weights: Weights, x: Float[Array, "e 2 b h w c"], order: str, method: str):
    """CM-Scan(F_1, F_2) and CM-Scan(F_2, F_1): over the tokens of both, and over their channels."""
    cross = scan_orders.CROSSINGS[order]
    height = x.shape[3]
    first, second = x, x[:, ::-1]

    pattern = "e m b h w c -> (e m) b (h w) c"
    tokens, places = cross(rearrange(first, pattern), rearrange(second, pattern), -2)
    y = scan_tokens(weights.spatial, tokens, method)[..., places, :]

    pattern = "e m b h w c -> (e m) (b h w) c"
    tokens, places = cross(rearrange(first, pattern), rearrange(second, pattern), -1)
    z = scan_channels(weights.channel, tokens, method)[..., places]
    return rearrange(y, "(e m) b (h w) c -> e m b h w c", m=2, h=height) + z.reshape(x.shape)


def _bias(v: Float[Array, "e m c"]) -> Float[Array, "e m 1 1 1 c"]:
    return rearrange(v, "e m c -> e m 1 1 1 c")
