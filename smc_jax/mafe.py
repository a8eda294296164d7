"""MAFE, the modality-agnostic feature enhancement: a local, a spatial-channel and a frequency
branch side by side (Eq. 1-14).
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange, reduce
from jaxtyping import Array, Float

from smc_jax import scan_orders
from smc_jax.conv import Conv, DepthwiseConv, JointConv
from smc_jax.ssm import SelectiveSSM, direction_names, scan_channels, scan_tokens
from smc_jax.types import Coarse, Features, Image, Scalar

FREQUENCY = "FrequencyRotation_0"
"""The name under which `MAFE` stores the parameters of its frequency branch."""

NO_PHASE = 1e-8
"""Amplitude below which the phase is rounding noise."""


class Shallow(nn.Module):
    """F_s = LN(Conv3x3(I)) (Eq. 1)."""

    width: int

    @nn.compact
    def __call__(self, image: Image) -> Features:
        return nn.LayerNorm()(Conv(self.width)(image))


class Local(nn.Module):
    """A depthwise convolution of each quadrant, gated by itself (Eq. 2-4).

    Attributes:
      halo: let each quadrant see one pixel across its seams, which is the convolution of the whole
        image; False: zero-pad each quadrant by itself, as the paper's patches are. An odd height
        or width is then extended by its last row or column, which is cut off again (ours).
    """

    halo: bool = True

    @nn.compact
    def __call__(self, features: Features) -> Features:
        depthwise = DepthwiseConv()
        seen = depthwise(features) if self.halo else _by_quadrants(depthwise, features)
        return nn.gelu(Conv(seen.shape[-1], size=1)(seen), approximate=False) * seen


class SpatialChannel(nn.Module):
    """The spatial-channel SSM (Eq. 5-7): scans over the pixels and over the channels, summed."""

    state: int
    channel_state: int
    dt_rank: int
    bidirectional: bool = True
    scan_method: str = "auto"

    @nn.compact
    def __call__(self, features: Features) -> Features:
        channels = features.shape[-1]
        x = nn.silu(DepthwiseConv()(Conv(channels, size=1)(features)))
        names = direction_names(self.bidirectional)
        spatial = [
            SelectiveSSM(channels, self.state, self.dt_rank, name=f"spatial_{n}") for n in names
        ]
        across = [
            SelectiveSSM(1, self.channel_state, 1, bias=True, name=f"channel_{n}") for n in names
        ]

        tokens = rearrange(x, "b h w c -> () b (h w) c")
        y = scan_tokens(tuple(ssm() for ssm in spatial), tokens, self.scan_method)
        pixels = rearrange(x, "b h w c -> () (b h w) c")
        z = scan_channels(tuple(ssm() for ssm in across), pixels, self.scan_method)
        return nn.LayerNorm()(y.reshape(x.shape) + z.reshape(x.shape)) * nn.silu(features)


class FrequencyRotation(nn.Module):
    """The frequency-rotation SSM (Eq. 8-12): amplitude and phase, each scanned ring by ring.

    The scan sees log(1 + amplitude) of the orthonormal spectrum, and its output is the new
    amplitude, which may be negative (ours: the raw amplitude at frequency 0 would be
    thousands of times the others). Amplitude and phase each have their own depthwise convolution
    and SSM (ours).
    """

    state: int
    dt_rank: int
    bidirectional: bool = True
    order: str = "ring"
    scan_method: str = "auto"

    def __call__(self, features: Features, coarse: Coarse | None = None) -> tuple[Features, Scalar]:
        """Returns the enhanced features and the largest amplitude after the scan.

        Args:
          features: those of an image or of a tile.
          coarse: for a tile, what `enhance` returns there for the whole image, averaged over
            squares of pixels. If it has one entry per pixel, no scan runs and the amplitude is 0.
        """
        if coarse is not None and coarse.shape == features.shape:
            return coarse.astype(features.dtype) * nn.silu(features), jnp.zeros(())
        enhanced, amplitude = self.enhance(features)
        if coarse is not None:
            side = features.shape[1] // coarse.shape[1]
            own = reduce(enhanced, "b (h i) (w j) c -> b h w c", "mean", i=side, j=side)
            enhanced += jax.image.resize(coarse - own, enhanced.shape, "linear")
        return enhanced.astype(features.dtype) * nn.silu(features), amplitude

    @nn.compact
    def enhance(self, features: Features) -> tuple[Features, Scalar]:
        """Returns the enhanced features before gating, and the largest amplitude after the scan."""
        height, width, channels = features.shape[1:]
        # There is no Fourier transform in bfloat16.
        spectrum = _spectrum(features.astype(jnp.promote_types(features.dtype, jnp.float32)))
        polar = jnp.log1p(_amplitude(spectrum)), _phase(spectrum)
        x = jnp.stack([nn.silu(DepthwiseConv()(v)) for v in polar])

        # Without the barrier XLA recomputes all of this for every token that is gathered.
        x = jax.lax.optimization_barrier(x)
        order = scan_orders.GRIDS[self.order](height, width)
        directions = tuple(
            SelectiveSSM(channels, self.state, self.dt_rank, groups=(2,), name=f"polar_{name}")()
            for name in direction_names(self.bidirectional)
        )
        y = scan_tokens(directions, scan_orders.to_tokens(x, order), self.scan_method)
        amplitude, phase = scan_orders.to_grid(y, order, height)

        spectrum = jax.lax.complex(amplitude * jnp.cos(phase), amplitude * jnp.sin(phase))
        enhanced = jnp.fft.irfft2(spectrum, s=(height, width), axes=(1, 2), norm="ortho")
        return enhanced, jnp.abs(amplitude).max()


class MAFE(nn.Module):
    """The three branches side by side, closed by a 3x3 convolution (Eq. 13-14; the convolution is
    ours).

    Attributes are those of `config.Model`.
    """

    width: int
    state: int
    channel_state: int
    dt_rank: int
    local: bool = True
    local_halo: bool = True
    sc_scan: bool = True
    fr_scan: bool = True
    bidirectional: bool = True
    frequency_order: str = "ring"
    scan_method: str = "auto"

    @nn.compact
    def __call__(self, features: Features, coarse: Coarse | None = None) -> tuple[Features, Scalar]:
        """Returns F_m and the largest amplitude after FR-Scan (0 without that branch). For
        `coarse` see `FrequencyRotation`."""
        branches, amplitude = [], jnp.zeros((), jnp.float32)
        scan = {"bidirectional": self.bidirectional, "scan_method": self.scan_method}
        if self.local:
            branches.append(Local(self.local_halo)(features))
        if self.sc_scan:
            spatial_channel = SpatialChannel(self.state, self.channel_state, self.dt_rank, **scan)
            branches.append(spatial_channel(features))
        if self.fr_scan:
            frequency = FrequencyRotation(
                self.state, self.dt_rank, order=self.frequency_order, **scan, name=FREQUENCY
            )
            enhanced, amplitude = frequency(features, coarse)
            branches.append(enhanced)
        # Each branch ends in a loop that suits its own layout; fused into one, all are slow.
        branches = jax.lax.optimization_barrier(branches)
        return JointConv(self.width)(branches), amplitude


def _by_quadrants(function: Callable[[Features], Features], x: Features) -> Features:
    height, width = x.shape[1:3]
    x = jnp.pad(x, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    x = function(rearrange(x, "b (i h) (j w) c -> (b i j) h w c", i=2, j=2))
    return rearrange(x, "(b i j) h w c -> b (i h) (j w) c", i=2, j=2)[:, :height, :width]


def _spectrum(x: Features) -> Array:
    """The orthonormal half-plane spectrum.

    Frequencies that are their own conjugate are made exactly real: otherwise rounding noise in
    their imaginary part would choose between the phases pi and -pi.
    """
    height, width = x.shape[1:3]
    spectrum = jnp.fft.rfft2(x, axes=(1, 2), norm="ortho")
    rows = np.arange(height) * 2 % height == 0
    columns = np.arange(width // 2 + 1) * 2 % width == 0
    real = (rows[:, None] & columns)[..., None]
    return jax.lax.complex(spectrum.real, jnp.where(real, 0.0, spectrum.imag))


def _amplitude(z: Array) -> Float[Array, "..."]:
    """|z|, with gradient 0 where |z|^2 underflows to 0."""
    power = z.real**2 + z.imag**2
    return jnp.where(power > 0, jnp.sqrt(jnp.where(power > 0, power, 1.0)), 0.0)


def _phase(z: Array) -> Float[Array, "..."]:
    """The angle of z; 0, with gradient 0, where |z| < `NO_PHASE`."""
    zero = z.real**2 + z.imag**2 < NO_PHASE**2
    return jnp.where(zero, 0.0, jnp.arctan2(z.imag, jnp.where(zero, 1.0, z.real)))
