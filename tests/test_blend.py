"""Blending with weights for each pixel and band of detail, against SciPy and by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from smc_jax import blend

SIZE = 20, 33


@pytest.fixture(scope="module")
def sources():
    return jax.random.uniform(jax.random.key(3), (2, 1, *SIZE, 1), minval=blend.BLACK)


def logit(share):
    return np.log(share / (1 - share))


def weights(share=0.5, rest=0.0, shift=(0.0,) * 3, strength=(1.0,) * 3, trust=0.0, finer=0.0):
    values = [logit(share), rest, *shift, *(logit(s / 2) for s in strength), trust, finer]
    return jnp.broadcast_to(jnp.array(values, jnp.float32), (1, *SIZE, blend.CHANNELS))


def smoothed(image, first, end):
    for level in range(first, end):
        kernel = np.zeros(4 * 2**level + 1)
        kernel[:: 2**level] = blend.SPLINE
        for axis in (0, 1):
            image = ndimage.correlate1d(image, kernel, axis, mode="nearest")
    return image


def test_bands_are_those_of_scipy_and_add_up(sources):
    image = np.asarray(sources[0, 0, ..., 0], np.float64)
    found = blend.bands(sources[0])
    assert len(found) == blend.LEVELS + 1
    np.testing.assert_allclose(sum(found), sources[0], atol=1e-6)
    smooth = image
    for level in range(blend.LEVELS):
        before, smooth = smooth, smoothed(smooth, level, level + 1)
        np.testing.assert_allclose(found[level][0, ..., 0], before - smooth, atol=1e-6)
    np.testing.assert_allclose(found[-1][0, ..., 0], smooth, atol=1e-6)


def test_a_weighted_mean_and_a_residual(sources):
    a, b = sources
    for share, rest in ((0.5, 0.0), (0.9, 0.0), (0.2, 0.1)):
        found = blend.blend(a, b, weights(share, rest))
        expected = share * a + (1 - share) * b + rest
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_each_band_has_its_own_share_and_strength(sources):
    a, b = sources
    bands_a, bands_b = blend.bands(a), blend.bands(b)
    for level in range(blend.LEVELS):
        shift, strength = np.zeros(3), np.ones(3)
        shift[level], strength[level] = logit(0.8) - logit(0.3), 1.5
        found = blend.blend(a, b, weights(0.3, 0.0, shift, strength))
        mean = 0.3 * a + 0.7 * b
        own = 1.5 * (0.8 * bands_a[level] + 0.2 * bands_b[level])
        expected = mean - (0.3 * bands_a[level] + 0.7 * bands_b[level]) + own
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_black_in_both_stays_black_beside_light():
    a = jnp.zeros((1, *SIZE, 1)).at[:, :, 25:].set(0.8)
    found = blend.blend(a, 0 * a, weights(0.6, 0.2, (1.0, -1.0, 0.5), (1.5, 0.5, 1.0)))
    assert not found[:, :, :25].any()
    assert found[:, :, 25:].all()


def test_what_is_faint_goes_over_to_the_brighter_source():
    a = jnp.broadcast_to(jnp.arange(SIZE[1])[:, None] / 255, (1, *SIZE, 1))
    found = blend.blend(a, 0 * a, weights(0.25), faint=16.0)
    share = np.maximum(1 - 0.75 * np.arange(SIZE[1]) / 16, 0.25)
    np.testing.assert_allclose(found[0, ..., 0], share * a[0, ..., 0], atol=1e-7)


@pytest.fixture(scope="module")
def smoke():
    """A person in the first source, where the second is grey on the left and white elsewhere."""
    person = np.full((96, 240), 0.2)
    person[40:72, 170:184] = 0.9
    thick = np.where(np.arange(240) < 30, 0.4, 0.98) * np.ones((96, 1))
    thick += 0.02 * np.random.default_rng(0).random(thick.shape)
    return [image[None, ..., None].astype(np.float32) for image in (person, thick)]


def test_what_white_hides(smoke):
    logs, white = [], []
    for image in smoke:
        image = image[0, ..., 0].astype(float)
        texture = smoothed(image, 0, 1) - smoothed(image, 0, 6)
        logs.append(np.log(smoothed(texture**2, 0, 6) + (16 / 255) ** 2))
        white.append(np.clip((smoothed(image, 0, 3) - 0.8) / 0.2, 0, 1))
    assert white[0].any()
    more = logs[0] - logs[1]
    expected = white[1] * np.maximum(more, 0) + white[0] * np.minimum(more, 0)
    bands = [blend.bands(jnp.asarray(image)) for image in smoke]
    found = blend.hidden(*bands)
    np.testing.assert_allclose(found[0, ..., 0], expected, atol=1e-4)
    np.testing.assert_allclose(blend.hidden(*bands[::-1]), -found, atol=1e-6)
    assert found[0, 56, 177] > 1
    assert not found[0, :, :16].any()
    grain = 0.2 + 0.04 * np.random.default_rng(1).standard_normal(smoke[0].shape)
    assert np.abs(blend.hidden(blend.bands(jnp.asarray(grain)), bands[1])).max() < 0.1


def test_glare_shows_what_white_hides(smoke):
    a, b = map(jnp.asarray, smoke)
    plain = jnp.zeros((*a.shape[:3], blend.CHANNELS)).at[..., 0].set(-4.0)
    share = jax.nn.sigmoid(2 * blend.hidden(blend.bands(a), blend.bands(b)) - 4)
    found = blend.blend(a, b, plain, glare=2.0)
    np.testing.assert_allclose(found, b + share * (a - b), atol=1e-5)

    def seen(image):
        return image[0, 45:67, 172:182].mean() - image[0, 45:67, 192:198].mean()

    assert seen(blend.blend(a, b, plain)) < 0.03
    assert seen(found) > 0.1


def test_within_the_sources(sources):
    a, b, *_ = sources
    strong = weights(0.6, 0.3, (1.0, -1.0, 0.5), (1.9, 1.9, 1.9))
    free, found = (blend.blend(a, b, strong, within=within) for within in (False, True))
    least, most = jnp.minimum(a, b), jnp.maximum(a, b)
    assert ((free < least) | (free > most)).any()
    np.testing.assert_array_equal(found, jnp.clip(free, least, most))


def test_trust_chooses_what_has_contrast(sources):
    left = jnp.arange(SIZE[1])[:, None] < SIZE[1] // 2
    sharp, flat = sources[0], jnp.full_like(sources[0], 0.5)
    a, b = jnp.where(left, sharp, flat), jnp.where(left, flat, sharp)
    found = blend.blend(a, b, weights(trust=20.0))
    reach = slice(SIZE[1] // 2 - 3, SIZE[1] // 2 + 3)
    apart = jnp.abs(found - sharp).at[:, :, reach].set(0)
    assert apart.max() < 1e-3
    assert jnp.abs(found - sharp).max() > 0.05
    np.testing.assert_allclose(blend.blend(a, b, weights(trust=8.0), 12.0), found, atol=1e-6)


def test_detail_is_of_the_source_that_has_more_contrast(sources):
    """The brighter source is flat: light comes from it, texture from the other."""
    a, b = jnp.full_like(sources[0], 0.8), 0.5 * sources[0]
    *detail, rest = blend.bands(b)
    expected = 0.9 * a + 0.1 * rest + sum(detail)
    for given, constant in ((20.0, 0.0), (8.0, 12.0)):
        found = blend.blend(a, b, weights(0.9, finer=given), 0.0, constant)
        np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(("noise", "least", "most"), [(1.0, 0.95, 1.05), (10.0, 0.0, 0.9)])
def test_contrast_is_the_log_of_a_quotient_of_variances(sources, monkeypatch, noise, least, most):
    a, b = (0.5 + scale * (sources[0] - 0.5) for scale in (1.0, 0.1))
    found = blend.contrast(blend.bands(a), blend.bands(b), noise)
    share = found / (2 * np.log(10))
    assert least < share.min()
    assert share.max() < most
    # The variances are taken in windows of three sizes, and that of the noise is added.
    expected = []
    for image in (a, b):
        variance = sum(blend.bands(image)[:2]) ** 2
        for levels in (2, 3, 4):
            with monkeypatch.context() as patch:
                patch.setattr(blend, "LEVELS", levels)
                expected.append(np.log(blend.bands(variance)[-1] + (noise / 255) ** 2))
    np.testing.assert_allclose(found, sum(expected[:3]) / 3 - sum(expected[3:]) / 3, atol=1e-4)
    np.testing.assert_allclose(blend.contrast(blend.bands(a), blend.bands(a)), 0.0)
