"""The contrastive ratios against loops over maps, in float64."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smc_jax.losses import contrastive


def images():
    return tuple(jax.random.uniform(jax.random.key(0), (3, 2, 24, 24, 1)))


def features():
    return tuple(jax.random.uniform(jax.random.key(1), (3, 2, 8, 6, 4)) - 0.3)


# Bands are lists of maps, so that no tiling is needed.


def channel_bands(x):
    """The fine and coarse maps of Algorithm 2 for one example, with Haar."""
    first, second = np.split(np.asarray(x, np.float64), 2, -1)
    return [second - first], [(first + second) / 2]


def spatial_bands(x):
    p, q, r, s = (np.asarray(x, np.float64)[i::2, j::2] for i in (0, 1) for j in (0, 1))
    return [(q - p + s - r) / 2, (r - p + s - q) / 2, s - r - q + p], [(p + q + r + s) / 4]


def contrast(fused, a, b, bands, eps=1e-4):
    def distance(anchors, sources):
        pairs = itertools.product(anchors, sources)
        return np.mean([np.abs(x - y).mean() for x, y in pairs]) ** 2

    ratios = []
    for f, x, y in zip(fused, a, b, strict=True):
        (high, low), (high_x, low_x), (high_y, low_y) = bands(f), bands(x), bands(y)
        partners = [*zip(high, high_x, strict=True), *zip(high, high_y, strict=True)]
        near_high = np.mean([np.abs(v - w).mean() for v, w in partners])
        ratios.append(
            near_high**2 / (distance(high, low_x + low_y) + eps)
            + distance(low, low_x + low_y) / (distance(low, high_x + high_y) + eps)
        )
    return np.mean(ratios)


def test_feature_contrast_of_channel_halves():
    ours = contrastive.feature_contrast(*features())
    assert float(ours) == pytest.approx(contrast(*features(), channel_bands), rel=1e-5)


def test_feature_contrast_of_space():
    ours = contrastive.feature_contrast(*features(), split="spatial", eps=0.01)
    assert float(ours) == pytest.approx(contrast(*features(), spatial_bands, eps=0.01), rel=1e-5)


def test_pixel_contrast():
    ours = contrastive.pixel_contrast(*images())
    assert float(ours) == pytest.approx(contrast(*images(), spatial_bands), rel=1e-5)


def test_pixel_contrast_of_flat_images():
    f, a, b = (jnp.full((1, 8, 8, 1), v) for v in (0.5, 0.2, 0.4))
    # There are no fine bands; |f - a| and |f - b| are 0.3 and 0.1, and the far distance is f.
    expected = 0.2**2 / (0.5**2 + 1e-4)
    assert float(contrastive.pixel_contrast(f, a, b)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["cdf53", "cdf97"])
def test_contrast_takes_other_wavelets(name):
    x, y, z = features()
    for split in ("channel", "spatial"):
        assert float(contrastive.feature_contrast(x, x, x, split=split, wavelet=name)) == 0
        ours, haar = (
            contrastive.feature_contrast(x, y, z, split=split, wavelet=w) for w in (name, "haar")
        )
        assert abs(float(ours) / float(haar) - 1) > 1e-3
