"""Defocus of a thin lens: a point that is not at the depth of focus is spread over a disk.

The disk's radius grows with the difference of the disparities (the inverse depths) of the point
and of the focus. All images are linear light: light adds up, its sRGB codes do not.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float
from scipy import fft, ndimage

from data_prep.exposure import Light

Map = Float[np.ndarray, "h w"]

STEP = 0.75
"""Step in radius between two blurred images, in pixels; radii in between are interpolated."""
MARGIN = 0.06
"""A disparity step larger than this, of a range of 1, is an edge that hides what is behind it."""
MIXED = 2
"""Width in pixels of the seam at such an edge where the photograph mixes both sides."""

SOFT = 0.7
"""Standard deviation in pixels of the blur of an edge in focus, as in any photograph."""


def blur(light: Light, radii: list[float]) -> Iterator[Light]:
    """Yields the light spread over disks of each radius, in pixels; borders are mirrored."""
    pad = int(np.ceil(max(radii))) + 1
    padded = np.pad(light, ((pad, pad), (pad, pad), (0, 0)), mode="symmetric")
    shape = [fft.next_fast_len(n, real=True) for n in padded.shape[:2]]
    spectrum = fft.rfft2(padded, shape, axes=(0, 1))
    h, w = light.shape[:2]
    for radius in radii:
        kernel = _disk(radius)
        transfer = fft.rfft2(kernel, shape)[..., None]
        # The kernel's corner, not its centre, is at the origin: the result is offset by its radius.
        start = pad + len(kernel) // 2
        whole = fft.irfft2(spectrum * transfer, shape, axes=(0, 1))
        # Rounding leaves black a little below 0.
        yield np.maximum(whole[start : start + h, start : start + w], 0)


def sloped(light: Light, disparity: Map, focus: float, strength: float) -> Light:
    """Defocus of a scene whose depth changes smoothly, so that nothing is hidden.

    Args:
      light: everything in focus.
      disparity: 0 (far) to 1 (near).
      focus: the disparity in focus.
      strength: radius of the disk in pixels at a difference of 1.
    """
    level = strength * np.abs(disparity - focus) / STEP
    levels = blur(light, [STEP * k for k in range(int(level.max()) + 2)])
    out = np.zeros_like(light)
    for k, image in enumerate(levels):
        out += np.maximum(0, 1 - np.abs(level - k))[..., None] * image
    return out


def stepped(light: Light, disparity: Map, focus: float, strength: float) -> Light:
    """Defocus of a scene whose objects hide each other; arguments as for `sloped`.

    Layers of depth are painted from far to near. Before it is blurred, a layer is continued with
    its nearest colours behind what hides it, as a lens sees round the edge of a near object.
    """
    count = max(1, int(np.ceil(strength / (STEP / 2))))
    out = np.zeros_like(light)
    for k in range(count):
        low, high = k / count, (k + 1) / count
        hidden = ndimage.binary_dilation(disparity > high + MARGIN, iterations=MIXED)
        if hidden.all():
            continue
        rows, columns = ndimage.distance_transform_edt(
            hidden, return_distances=False, return_indices=True
        )
        colors, depth = light[rows, columns], disparity[rows, columns]
        present = (depth >= low).astype(np.float32)[..., None]
        soft = _soften(present)
        # Beyond its edge a layer has its own colours, not those of the farther things there.
        own = _soften(colors * present) / np.maximum(soft, 1e-6)
        colors = np.where(depth[..., None] >= low - MARGIN, colors, own)
        layer = np.concatenate([colors * soft, soft], -1)
        (layer,) = blur(layer, [strength * abs((low + high) / 2 - focus)])
        cover = np.minimum(layer[..., -1:], 1)
        out = out * (1 - cover) + layer[..., :-1]
    return out


def _soften(image: Light) -> Light:
    return ndimage.gaussian_filter(image, (SOFT, SOFT, 0))


def _disk(radius: float) -> Map:
    """A disk of sum 1; pixels at its rim count by the fraction that is inside."""
    fine = 8
    reach = int(np.ceil(radius))
    side = (2 * reach + 1) * fine
    axis = (np.arange(side) + 0.5) / fine - side / fine / 2
    inside = axis[:, None] ** 2 + axis**2 <= max(radius, 0.5) ** 2
    disk = inside.reshape(side // fine, fine, -1, fine).sum((1, 3)).astype(np.float32)
    return disk / disk.sum()
