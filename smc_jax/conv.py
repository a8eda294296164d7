"""Convolutions with the paper's framework's initialisation: weights and biases in +-1/sqrt(fan in).

A bias that starts at zero would hide the brightness of an image from a LayerNorm behind it.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from smc_jax.types import Features


def uniform(fan_in: int) -> nn.initializers.Initializer:
    """The uniform distribution over +-1/sqrt(fan_in)."""

    def init(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, -(fan_in**-0.5), fan_in**-0.5)

    return init


class Conv(nn.Module):
    """Convolution with stride 1, zero padding and a bias; size 1 works on any leading axes."""

    features: int
    size: int = 3

    @nn.compact
    def __call__(self, x: Float[Array, "... c"]) -> Float[Array, "... {self.features}"]:
        init = uniform(self.size**2 * x.shape[-1])
        if self.size == 1:
            return nn.Dense(self.features, kernel_init=init, bias_init=init)(x)
        return nn.Conv(self.features, (self.size, self.size), kernel_init=init, bias_init=init)(x)


class DepthwiseConv(nn.Module):
    """3x3 convolution of each channel by itself, with zero padding and a bias."""

    @nn.compact
    def __call__(self, x: Features) -> Features:
        height, width, channels = x.shape[1:]
        kernel = self.param("kernel", uniform(9), (3, 3, channels))
        bias = self.param("bias", uniform(9), (channels,))
        # Nine shifted products fuse into one loop; a grouped convolution is slow on a CPU.
        padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        shifted = [
            padded[:, i : i + height, j : j + width] * kernel[i, j]
            for i in range(3)
            for j in range(3)
        ]
        return sum(shifted, bias)
