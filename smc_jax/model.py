"""SMC-Mamba: shallow features, MAFE for each source, MCCM and decoder (the paper's Figure 1)."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from smc_jax import black_level, blend, config
from smc_jax.conv import Conv
from smc_jax.mafe import MAFE, Shallow
from smc_jax.mccm import MCCM
from smc_jax.types import Aux, Coarse, Features, Image, Noise, Pooled, Scalar


class Decoder(nn.Module):
    """I_mf = Conv(F_mf): 3x3 convolutions down to an image.

    The paper draws one box: their number and SiLU between them are ours.
    """

    width: int
    layers: int
    channels: int

    @nn.compact
    def __call__(self, features: Features) -> Float[Array, "b h w _"]:
        for _ in range(self.layers - 1):
            features = nn.silu(Conv(self.width)(features))
        return Conv(self.channels)(features)


@jax.custom_vjp
def saturate(image: Image) -> Image:
    """Clips to [0, 1]. Outside, only gradients whose descent leads back inside pass: with a plain
    clip, a pixel that has left the range would never return.
    """
    return image.clip(0.0, 1.0)


def _saturate_backward(image: Image, gradient: Image) -> tuple[Image]:
    outward = ((image > 1) & (gradient < 0)) | ((image < 0) & (gradient > 0))
    return (jnp.where(outward, 0.0, gradient),)


saturate.defvjp(lambda image: (saturate(image), image), _saturate_backward)


class Encoder(nn.Module):
    """Encodes one source as F_m: shallow features, then MAFE unless it is None."""

    width: int
    mafe: MAFE | None

    @nn.compact
    def __call__(self, image: Image, coarse: Coarse | None = None) -> tuple[Features, Scalar]:
        """Returns F_m and the largest amplitude after FR-Scan; for `coarse` see
        `mafe.FrequencyRotation`.
        """
        features = Shallow(self.width, name="shallow")(image)
        return (features, jnp.zeros(())) if self.mafe is None else self.mafe(features, coarse)


class SMCMamba(nn.Module):
    """The whole network.

    Attributes are the fields of `config.Model`, where each is explained, and `dtype`, the type of
    the features; None takes that of the images.
    """

    width: int = 32
    state: int = 16
    channel_state: int = 4
    dt_rank: int = 2
    experts: int = 4
    top_k: int = 2
    gate_window: int = 0
    mafe: bool = True
    share_mafe: bool = False
    local: bool = True
    local_halo: bool = True
    sc_scan: bool = True
    fr_scan: bool = True
    mccm: bool = True
    cm_scan: bool = True
    bidirectional: bool = True
    frequency_order: str = "ring"
    cross_order: str = "interleave"
    decoder_layers: int = 3
    black_level: bool = False
    output: str = "image"
    trust: float = 0.0
    detail_trust: float = 0.0
    contrast_noise: float = 1.0
    glare: float = 0.0
    faint: float = 0.0
    within: bool = False
    scan_method: str = "auto"
    remat: bool = False
    dtype: Any = None

    @nn.compact
    def __call__(
        self,
        a: Image,
        b: Image,
        pooled: Pooled | None = None,
        noise: Noise | None = None,
        *,
        coarse: tuple[Coarse, Coarse] | None = None,
        behind: Image | None = None,
        train: bool = False,
    ) -> tuple[Image, Aux]:
        """Fuses pairs of images of any size from 16x16 up.

        Args:
          a: the first sources.
          b: the second sources.
          pooled: what the gate sees instead of the pooled features of these images: for tiles,
            those of the whole image, so that all tiles have the same experts.
          noise: standard normal numbers that perturb the gate's logits in training.
          coarse: for tiles, the features that the frequency branch of each source gives there for
            the whole image, see `mafe.FrequencyRotation`.
          behind: for tiles, what `glare.behind_white` gives there for the whole image.
          train: run every expert; otherwise only the chosen ones run, with the same result.

        Returns:
          The fused images, saturated in training too (losses that see values above white blow
          bright regions out), and the features that losses and figures need.
        """
        if self.black_level:
            a = black_level.stretched(a, black_level.stretch(a, b))
        encoder = nn.remat(Encoder) if self.remat else Encoder
        first = encoder(self.width, self._mafe(), name="source_a")
        second = first if self.share_mafe else encoder(self.width, self._mafe(), name="source_b")
        coarse_a, coarse_b = coarse or (None, None)
        features_a, amplitude_a = first(a.astype(self.dtype or a.dtype), coarse_a)
        features_b, amplitude_b = second(b.astype(self.dtype or b.dtype), coarse_b)
        if self.mccm:
            fused, routing, experts = self._mccm()(
                features_a, features_b, pooled, noise, train=train
            )
            weights, importance = routing.weights, routing.importance
        else:
            fused, experts, weights, importance = features_a + features_b, None, None, None
        channels = blend.CHANNELS if self.output == "blend" else 1
        decoded = Decoder(self.width, self.decoder_layers, channels, name="decoder")(fused)
        if self.output == "residual":
            image = (a + b) / 2 + decoded
        elif self.output == "blend":
            image = blend.blend(
                a,
                b,
                decoded,
                self.trust,
                self.detail_trust,
                noise=self.contrast_noise,
                glare=self.glare,
                behind=behind,
                faint=self.faint,
                within=self.within,
            )
        else:
            image = nn.sigmoid(decoded)
        return saturate(image), Aux(
            features_a=features_a,
            features_b=features_b,
            features_fused=fused,
            experts=experts,
            weights=weights,
            importance=importance,
            amplitude=jnp.maximum(amplitude_a, amplitude_b),
        )

    def _mafe(self) -> MAFE | None:
        if not self.mafe:
            return None
        return MAFE(
            width=self.width,
            state=self.state,
            channel_state=self.channel_state,
            dt_rank=self.dt_rank,
            local=self.local,
            local_halo=self.local_halo,
            sc_scan=self.sc_scan,
            fr_scan=self.fr_scan,
            bidirectional=self.bidirectional,
            frequency_order=self.frequency_order,
            scan_method=self.scan_method,
            parent=None,
        )

    def _mccm(self) -> MCCM:
        return MCCM(
            width=self.width,
            state=self.state,
            channel_state=self.channel_state,
            dt_rank=self.dt_rank,
            experts=self.experts,
            top_k=self.top_k,
            gate_window=self.gate_window,
            cm_scan=self.cm_scan,
            bidirectional=self.bidirectional,
            order=self.cross_order,
            scan_method=self.scan_method,
            remat=self.remat,
            name="mccm",
        )


def build(model: config.Model) -> SMCMamba:
    """Builds the network that a configuration describes."""
    return SMCMamba(**dataclasses.asdict(model))
