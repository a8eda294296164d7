"""The à trous wavelet against SciPy."""

import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from smc_jax import atrous


def smoothed(image, first, end):
    for level in range(first, end):
        kernel = np.zeros(4 * 2**level + 1)
        kernel[:: 2**level] = atrous.SPLINE
        for axis in (0, 1):
            image = ndimage.correlate1d(image, kernel, axis, mode="nearest")
    return image


def test_bands_are_those_of_scipy_and_add_up():
    image = np.random.default_rng(0).random((20, 33))
    found = atrous.bands(jnp.asarray(image[None, ..., None], jnp.float32))
    assert len(found) == atrous.LEVELS + 1
    np.testing.assert_allclose(sum(found)[0, ..., 0], image, atol=1e-6)
    smooth = image
    for level in range(atrous.LEVELS):
        before, smooth = smooth, smoothed(smooth, level, level + 1)
        np.testing.assert_allclose(found[level][0, ..., 0], before - smooth, atol=1e-6)
    np.testing.assert_allclose(found[-1][0, ..., 0], smooth, atol=1e-6)
