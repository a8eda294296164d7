"""Blending with weights for each pixel and band of detail, against SciPy and by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_atrous import smoothed

from smc_jax import atrous, blend

SIZE = 20, 33


@pytest.fixture(scope="module")
def sources():
    return jax.random.uniform(jax.random.key(3), (2, 1, *SIZE, 1), minval=blend.BLACK)


def logit(share):
    return np.log(share / (1 - share))


def weights(share=0.5, rest=0.0, shift=(0.0,) * 3, strength=(1.0,) * 3, trust=0.0, finer=0.0):
    values = [logit(share), rest, *shift, *(logit(s / 2) for s in strength), trust, finer]
    return jnp.broadcast_to(jnp.array(values, jnp.float32), (1, *SIZE, blend.CHANNELS))


def test_a_weighted_mean_and_a_residual(sources):
    a, b = sources
    for share, rest in ((0.5, 0.0), (0.9, 0.0), (0.2, 0.1)):
        found = blend.blend(a, b, weights(share, rest))
        expected = share * a + (1 - share) * b + rest
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_each_band_has_its_own_share_and_strength(sources):
    a, b = sources
    bands_a, bands_b = atrous.bands(a), atrous.bands(b)
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
    *detail, rest = atrous.bands(b)
    expected = 0.9 * a + 0.1 * rest + sum(detail)
    for given, constant in ((20.0, 0.0), (8.0, 12.0)):
        found = blend.blend(a, b, weights(0.9, finer=given), 0.0, constant)
        np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(("noise", "least", "most"), [(1.0, 0.95, 1.05), (10.0, 0.0, 0.9)])
def test_contrast_is_the_log_of_a_quotient_of_variances(sources, noise, least, most):
    a, b = (0.5 + scale * (sources[0] - 0.5) for scale in (1.0, 0.1))
    found = blend.contrast(atrous.bands(a), atrous.bands(b), noise)
    share = found / (2 * np.log(10))
    assert least < share.min()
    assert share.max() < most
    # The variances are taken in windows of three sizes, and that of the noise is added.
    expected = []
    for image in (a, b):
        variance = np.asarray(sum(atrous.bands(image)[:2]))[0, ..., 0] ** 2
        for levels in (2, 3, 4):
            expected.append(np.log(smoothed(variance, 0, levels) + (noise / 255) ** 2))
    more = sum(expected[:3]) / 3 - sum(expected[3:]) / 3
    np.testing.assert_allclose(found[0, ..., 0], more, atol=1e-4)
    np.testing.assert_allclose(blend.contrast(atrous.bands(a), atrous.bands(a)), 0.0)
