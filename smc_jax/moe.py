"""The gate over the experts, and the two ways to run them: all, or the chosen ones alone."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange, reduce
from jax import lax
from jaxtyping import Array, Float, Int

from smc_jax.types import Features, Noise, Pooled


class Routing(NamedTuple):
    """The gate's decision for each image."""

    weights: Float[Array, "b e"]
    """W_exp (Eq. 18): they sum to 1 and are 0 for experts that were not chosen."""
    chosen: Int[Array, "b k"]
    importance: Float[Array, "b e"]
    """Softmax of the noise-free logits over all experts."""


def pool(a: Features, b: Features, window: int = 0) -> tuple[Pooled, Pooled]:
    """The mean and the maximum over the image of the features of both sources (Eq. 15-16).

    With a window (ours) the maximum is taken in windows of `window` x `window` pixels and
    averaged over the image. A global maximum grows with the image, so that the gate would see
    values at inference that it never saw on training crops; windowed maxima do not.
    """
    features = jnp.concatenate([a, b], -1)
    return features.mean((1, 2)), largest(features, window)


def largest(features: Features, window: int) -> Float[Array, "b c"]:
    """The maximum that `pool` returns, for features with any number of channels."""
    height, width = features.shape[1:3]
    if not window:
        return features.max((1, 2))
    window = min(window, max(height, width))
    margin = ((0, 0), (0, -height % window), (0, -width % window), (0, 0))
    wide = jnp.pad(features, margin, mode="edge")
    maxima = reduce(wide, "b (i h) (j w) c -> b i j c", "max", h=window, w=window)
    # Windows at the lower and right border may be cut off: each counts by its pixels.
    rows, columns = (
        jnp.array(
            [min(window, extent - start) / extent for start in range(0, extent, window)],
            jnp.float32,
        )
        for extent in (height, width)
    )
    return jnp.einsum("b i j c, i, j -> b c", maxima, rows, columns)


def blocks(
    a: Features, b: Features, side: int
) -> tuple[Float[Array, "b i j p"], Float[Array, "b i j p"]]:
    """Mean and maximum of the features of both sources in each block, from which `pool` of a large
    image can be assembled tile by tile.

    Args:
      a: features of the first sources; height and width are multiples of `side`.
      b: features of the second sources.
      side: the side of a block, in pixels.
    """
    features = rearrange(
        jnp.concatenate([a, b], -1), "b (i h) (j w) c -> b i h j w c", h=side, w=side
    )
    return features.mean((2, 4)), features.max((2, 4))


class Gate(nn.Module):
    """Noisy top-k gate on globally pooled features (Eq. 15-18).

    Noise is passed in training only. The projections start at zero, so that at first the noise
    alone chooses and every expert learns.

    Attributes:
      experts: number of experts.
      top_k: number of experts chosen for each image.
      window: see `pool`.
    """

    experts: int
    top_k: int
    window: int = 0

    @nn.compact
    def __call__(
        self,
        a: Features,
        b: Features,
        pooled: Pooled | None = None,
        noise: Noise | None = None,
    ) -> Routing:
        """Chooses the experts for each pair.

        Args:
          a: features of the first sources.
          b: features of the second sources.
          pooled: used instead of F_g (Eq. 16), the sum of both poolings of `a` and `b`.
          noise: the standard normal factor of epsilon (Eq. 17); None: epsilon is 0.
        """
        if pooled is None:
            mean, most = pool(a, b, self.window)
            pooled = mean + most
        zeros = nn.initializers.zeros
        clean = nn.Dense(self.experts, use_bias=False, kernel_init=zeros, name="gate")(pooled)
        strength = nn.Dense(self.experts, use_bias=False, kernel_init=zeros, name="noise")(pooled)
        logits = clean
        if noise is not None:
            logits += noise * nn.softplus(strength)
        _, chosen = lax.top_k(logits, self.top_k)
        kept = jax.nn.one_hot(chosen, self.experts).sum(1) > 0
        weights = nn.softmax(logits, where=kept)
        return Routing(weights, chosen, nn.softmax(clean))


Experts = Callable[[Any, Features, Features], Float[Array, "e b h w c"]]


def all_experts(
    run: Experts, params: Any, a: Features, b: Features, routing: Routing
) -> tuple[Features, Float[Array, "e b h w c"]]:
    """Runs every expert on every image.

    Args:
      run: maps the stacked parameters of e experts, and the features of both sources, to e outputs.
      params: the parameters of all experts, stacked along the first axis.
      a: features of the first sources.
      b: features of the second sources.
      routing: the decision of the gate.

    Returns:
      F_mf, the weighted sum (Eq. 19), and the output of each expert.
    """
    outputs = run(params, a, b)
    shares = routing.weights.astype(outputs.dtype)
    return jnp.einsum("e b h w c, b e -> b h w c", outputs, shares), outputs


def chosen_experts(
    run: Experts, params: Any, a: Features, b: Features, routing: Routing
) -> Features:
    """Runs only the chosen experts of each image, one after the other.

    Takes the arguments of `all_experts` and returns the same weighted sum.
    """

    def image(inputs):
        a, b, weight, chosen = inputs

        def add(total, expert):
            one = jax.tree.map(lambda p: lax.dynamic_index_in_dim(p, expert), params)
            return total + weight[expert] * run(one, a[None], b[None])[0, 0], None

        return lax.scan(add, jnp.zeros_like(a), chosen)[0]

    return lax.map(image, (a, b, routing.weights, routing.chosen))
