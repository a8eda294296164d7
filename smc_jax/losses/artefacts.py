"""What the fused image has and neither source does: halos above all; not in the paper."""

import jax.numpy as jnp
from einops import reduce
from jaxtyping import Array, Float

from smc_jax.losses.edges import FAINT, sobel
from smc_jax.types import Image, Scalar

SIDES = (2, 4, 8)
"""Pixels a side of the squares whose means are looked at, as far as images hold three of them: a
halo is as wide as some."""


def artefact_loss(fused: Image, a: Image, b: Image) -> Scalar:
    """By how much the slopes of F are steeper than those of both sources, in units of a step from
    one square to the next, mean over the image and over squares of `SIDES`.

    Where F passes from one source to the other, it has a slope that neither has: at an object that
    is bright in one of them before a sky that is bright in the other, a dark outline. Measures of
    the edges that are kept (`edge_loss`, VIF) like it, Nabf does not see its width.
    """
    sides = [side for side in SIDES if 3 * side <= min(fused.shape[1:3])]
    excess = jnp.zeros((), fused.dtype)
    for side in sides:
        of_f, of_a, of_b = (_steepness(_means(image, side)) for image in (fused, a, b))
        excess += jnp.maximum(of_f - jnp.maximum(of_a, of_b), 0).mean()
    return excess / len(sides)


def _means(image: Image, side: int) -> Float[Array, "b i j 1"]:
    """Of whole squares; what is left over at the lower and right border is left out."""
    height, width = (extent - extent % side for extent in image.shape[1:3])
    inside = image[:, :height, :width]
    return reduce(inside, "b (h i) (w j) c -> b h w c", "mean", i=side, j=side)


def _steepness(image: Image) -> Float[Array, "b i j 1"]:
    across, down = sobel(image)
    return jnp.sqrt(across**2 + down**2 + FAINT**2)
