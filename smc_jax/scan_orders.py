"""Orders in which the tokens of a grid, or of two modalities, are scanned.

The paper says what a scan should relate and leaves the orders open. These are our readings; config
fields choose among them by name.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import Array, Float, Int


def raster(height: int, width: int) -> None:
    """Row by row, as the pixels lie in memory: None, for no permutation."""
    del height, width


@functools.cache
def ring(height: int, width: int) -> Int[np.ndarray, "l"]:
    """From the lowest frequency outward, ring by ring and by angle within a ring (ours).

    The width of a ring is one frequency step of the longer side; angles go from -pi/2 to pi/2.

    Args:
      height: rows of the image, and of its half-plane spectrum (`rfft2`).
      width: columns of the image; its spectrum has width // 2 + 1.

    Returns:
      For each position in the sequence, the index of its token in the raster of the spectrum.
    """
    y = np.fft.fftfreq(height)[:, None]
    x = np.fft.rfftfreq(width)[None]
    radius = np.rint(np.hypot(y, x) * max(height, width))
    angle = np.arctan2(y, np.broadcast_to(x, radius.shape))
    return np.lexsort((angle.ravel(), radius.ravel())).astype(np.int32)


GRIDS = {"raster": raster, "ring": ring}


def to_tokens(
    grid: Float[Array, "*g h w c"], order: Int[np.ndarray, "l"] | None
) -> Float[Array, "*g l c"]:
    """Turns a grid into a sequence of tokens in `order`; None: row by row."""
    tokens = rearrange(grid, "... h w c -> ... (h w) c")
    return tokens if order is None else _gather(tokens, order)


def to_grid(
    tokens: Float[Array, "*g l c"], order: Int[np.ndarray, "l"] | None, height: int
) -> Float[Array, "*g h w c"]:
    """Inverts `to_tokens` for a grid of `height` rows."""
    if order is not None:
        tokens = _gather(tokens, np.argsort(order))
    return rearrange(tokens, "... (h w) c -> ... h w c", h=height)


def _gather(tokens: Float[Array, "*g l c"], order: Int[np.ndarray, "l"]) -> Float[Array, "*g l c"]:
    """Gathers whole tokens. Without the barrier, XLA on a GPU gathers single numbers in the layout
    that the next operation wants.
    """
    shape = tokens.shape
    tokens = rearrange(jnp.take(tokens, order, axis=-2), "... l c -> ... (l c)")
    return jax.lax.optimization_barrier(tokens).reshape(shape)


def interleave(first: Array, second: Array, axis: int) -> tuple[Array, slice]:
    """Joins two sequences by taking tokens from each in turn.

    Args:
      first: a sequence along `axis`.
      second: another one of the same shape.
      axis: the axis of the tokens, negative.

    Returns:
      The joint sequence, and the positions of the tokens of `first` in it.
    """
    shape = list(first.shape)
    shape[axis] *= 2
    return jnp.stack([first, second], axis).reshape(shape), slice(0, None, 2)


def concatenate(first: Array, second: Array, axis: int) -> tuple[Array, slice]:
    """Puts the second sequence before the first: the tokens of `first` see all of `second` in the
    forward scan, and none of it in the reverse scan.

    Arguments and results are those of `interleave`.
    """
    return jnp.concatenate([second, first], axis), slice(second.shape[axis], None)


CROSSINGS = {"interleave": interleave, "concatenate": concatenate}
