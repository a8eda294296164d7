"""Convolutions whose weights and biases begin as in PyTorch, the paper's framework: uniform in
+-1/sqrt(fan in).

With a bias of zero, a LayerNorm behind the convolution would remove the brightness of the image.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from smc_jax.types import Features


def uniform(fan_in: int) -> nn.initializers.Initializer:
    """An initialiser that draws from the uniform distribution over +-1/sqrt(fan_in)."""

    def init(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, -(fan_in**-0.5), fan_in**-0.5)

    return init


class Conv(nn.Module):
    """A convolution with stride 1, zero padding and a bias; size 1 works on any leading axes."""

    features: int
    size: int = 3

    @nn.compact
    def __call__(self, x: Float[Array, "... c"]) -> Float[Array, "... {self.features}"]:
        init = uniform(self.size**2 * x.shape[-1])
        if self.size == 1:
            return nn.Dense(self.features, kernel_init=init, bias_init=init)(x)
        return nn.Conv(self.features, (self.size, self.size), kernel_init=init, bias_init=init)(x)


class JointConv(nn.Module):
    """A 3x3 `Conv` of several concatenated features, computed as a sum of one convolution each.

    This saves writing the concatenation, and a GPU has faster kernels for fewer channels. In
    bfloat16 each of the terms is rounded.
    """

    features: int

    @nn.compact
    def __call__(self, parts: Sequence[Features]) -> Features:
        widths = [part.shape[-1] for part in parts]
        init = uniform(9 * sum(widths))
        kernel = self.param("kernel", init, (3, 3, sum(widths), self.features))
        bias = self.param("bias", init, (self.features,))
        kernels = jnp.split(kernel.astype(parts[0].dtype), np.cumsum(widths)[:-1], axis=2)
        return sum(map(_conv, parts, kernels), bias.astype(parts[0].dtype))


def _conv(x: Features, kernel: Float[Array, "3 3 c k"]) -> Features:
    return lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


class DepthwiseConv(nn.Module):
    """A depthwise 3x3 convolution with zero padding and a bias."""

    @nn.compact
    def __call__(self, x: Features) -> Features:
        channels = x.shape[-1]
        kernel = self.param("kernel", uniform(9), (3, 3, channels))
        bias = self.param("bias", uniform(9), (channels,))
        return _depthwise(x, kernel, bias)


@jax.custom_vjp
def _depthwise(x: Features, kernel: Float[Array, "3 3 c"], bias: Float[Array, "c"]) -> Features:
    # Nine shifted products fuse into one loop, while a grouped convolution is slow on a CPU.
    return sum((v * k for v, k in zip(_shifted(x), kernel.reshape(9, -1), strict=True)), bias)


def _depthwise_forward(x: Features, kernel: Array, bias: Array):
    return _depthwise(x, kernel, bias), (x, kernel, bias)


def _depthwise_backward(
    kept: tuple[Features, Array, Array], dy: Features
) -> tuple[Features, Array, Array]:
    """The gradient that JAX would derive, but faster: it would write the nine products of dx one by
    one, and a GPU would sum dkernel and dbias with only as many lanes as channels.
    """
    x, kernel, bias = kept
    dx = _depthwise(dy, kernel[::-1, ::-1], jnp.zeros_like(bias))
    rows = [(v * dy).sum((0, 1)) for v in _shifted(x)] + [dy.sum((0, 1))]
    # The barrier keeps XLA from merging the sums over rows with those over columns.
    *dkernel, dbias = (v.sum(0) for v in lax.optimization_barrier(rows))
    dkernel = jnp.stack(dkernel).reshape(kernel.shape).astype(kernel.dtype)
    return dx.astype(x.dtype), dkernel, dbias.astype(bias.dtype)


_depthwise.defvjp(_depthwise_forward, _depthwise_backward)


def _shifted(x: Features) -> list[Features]:
    """The image shifted so that each pixel sees itself and its eight neighbours, row by row."""
    height, width = x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
