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
    """What the gate decided for each image."""

    weights: Float[Array, "b e"]
    """W_exp (Eq. 18): they sum to 1; 0 for experts that were not chosen."""
    chosen: Int[Array, "b k"]
    importance: Float[Array, "b e"]
    """Softmax of the noise-free logits over all experts."""


def pool(a: Features, b: Features, window: int = 0) -> tuple[Pooled, Pooled]:
    """The mean and the maximum over the image of the features of both sources (Eq. 15).

    With a window (ours) it is the mean over all pixels of the maximum in each one's window of so
    many pixels squared. The maximum of a whole image is larger than those of the crops that the
    gate was trained on, by as much as the image is; this one is not.
    """
    features = jnp.concatenate([a, b], -1)
    return features.mean((1, 2)), largest(features, window)


def largest(features: Features, window: int) -> Float[Array, "b c"]:
    """The second of what `pool` gives, for features of any number of channels."""
    height, width = features.shape[1:3]
    if not window:
        return features.max((1, 2))
    window = min(window, max(height, width))
    margin = ((0, 0), (0, -height % window), (0, -width % window), (0, 0))
    wide = jnp.pad(features, margin, mode="edge")
    maxima = reduce(wide, "b (i h) (j w) c -> b i j c", "max", h=window, w=window)
    # Windows at the lower and right border may be cut off.
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
    """Mean and maximum of the features of both sources in each block. What `pool` gives of a large
    image can be put together of the blocks of its parts.

    Args:
      a: features of the first sources; height and width are multiples of `side`.
      b: features of the second sources.
      side: of a block, in pixels.
    """
    features = rearrange(
        jnp.concatenate([a, b], -1), "b (i h) (j w) c -> b i h j w c", h=side, w=side
    )
    return features.mean((2, 4)), features.max((2, 4))


class Gate(nn.Module):
    """Noisy top-k gate on globally pooled features (Eq. 15-18).

    Training gives it noise. The projections start at zero, so that at first the noise alone chooses
    and every expert learns.

    Attributes:
      experts: how many there are.
      top_k: how many are chosen.
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
        """`pooled` takes the place of the sum of both poolings of `a` and `b`; `noise` is drawn
        from the standard normal distribution (epsilon in Eq. 16)."""
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
    run: Experts, weights: Any, a: Features, b: Features, routing: Routing
) -> tuple[Features, Float[Array, "e b h w c"]]:
    """Runs every expert on every image.

    Args:
      run: maps the stacked weights of e experts, and the features of both sources, to e outputs.
      weights: of all experts, stacked along the first axis.

    Returns:
      F_mf, the weighted sum (Eq. 19), and the output of each expert.
    """
    outputs = run(weights, a, b)
    shares = routing.weights.astype(outputs.dtype)
    return jnp.einsum("e b h w c, b e -> b h w c", outputs, shares), outputs


def chosen_experts(
    run: Experts, weights: Any, a: Features, b: Features, routing: Routing
) -> Features:
    """Runs only the chosen experts of each image, one after the other; the arguments and the
    weighted sum are those of `all_experts`.
    """

    def image(inputs):
        a, b, weight, chosen = inputs

        def add(total, expert):
            one = jax.tree.map(lambda p: lax.dynamic_index_in_dim(p, expert), weights)
            return total + weight[expert] * run(one, a[None], b[None])[0, 0], None

        return lax.scan(add, jnp.zeros_like(a), chosen)[0]

    return lax.map(image, (a, b, routing.weights, routing.chosen))
