"""An infrared image whose darkest pixels are grey does not veil what the visible image has dark."""

import jax.numpy as jnp
import numpy as np
import pytest
import weight_files
from test_fusion import smooth

from smc_jax import black_level, fusion, model
from smc_jax.config import override


@pytest.fixture(scope="module")
def pair():
    """A grey first source, the second one dark, and both the other way round."""
    a, b = np.random.default_rng(0).random((2, 144, 248), np.float32)
    grey, dark = 0.3 + 0.4 * a, 0.05 + 0.9 * b
    return jnp.stack([grey, dark])[..., None], jnp.stack([dark, grey])[..., None]


def test_the_first_source_gets_the_black_level_of_the_second(pair):
    a, b = pair
    by = black_level.stretch(a, b)
    found = black_level.stretched(a, by)
    np.testing.assert_array_equal(found[1], a[1])

    def level(image, percent):
        return np.percentile(image, percent)

    assert level(a[0], 1) > level(b[0], 1) + 0.2
    np.testing.assert_allclose(level(found[0], 1), level(b[0], 1), atol=1e-6)
    assert found.min() >= 0


def test_a_bright_source_is_darkened_as_a_whole(pair):
    a, b = pair[0] + 0.25, pair[1] + 0.1
    by = black_level.stretch(a, b)
    np.testing.assert_array_equal(by.gain, 1.0)
    above = np.percentile(a[0], 1) - np.percentile(b[0], 1)
    np.testing.assert_allclose(by.offset, [-above, 0.0], atol=1e-6)


@pytest.mark.parametrize(("white", "kept"), [(0.45, 0.45), (0.6, 0.5)])
def test_targets_are_not_lost_in_the_dark(pair, white, kept):
    _, b = pair
    a = 0.3 + (white - 0.3) * (pair[0] - 0.3) / 0.4
    found = black_level.stretched(a, black_level.stretch(a, b))
    np.testing.assert_allclose(np.percentile(found[0], 99.9), kept, atol=1e-3)
    np.testing.assert_allclose(np.percentile(found[0], 1), np.percentile(b[0], 1), atol=1e-3)


def test_noise_is_not_stretched_without_limit(pair):
    _, b = pair
    flat = 0.4 + 0.01 * pair[0]
    gain, offset = black_level.stretch(flat, b)
    assert gain[0] == black_level.STEEPEST
    found = black_level.stretched(flat, black_level.Stretch(gain, offset))
    white = np.percentile(flat[0], 99.9)
    for percent in (0, 50, 100):
        expected = white + 3 * (np.percentile(flat[0], percent) - white)
        np.testing.assert_allclose(np.percentile(found[0], percent), expected, atol=1e-5)
    same = jnp.full_like(b, 0.4)
    np.testing.assert_allclose(black_level.stretched(same, black_level.stretch(same, b)), 0.4)


def test_a_few_hot_pixels_neither_count_nor_leave_the_range(pair):
    a, b = 0.3 + 0.2 * (pair[0] - 0.3), pair[1]
    hot = a.at[:, 70:73, 100:103].set(0.95)
    by = black_level.stretch(hot, b)
    np.testing.assert_allclose(by.gain, black_level.stretch(a, b).gain, rtol=0.02)
    assert black_level.stretched(hot, by).max() == 1.0


def test_the_network_sees_the_stretched_source(pair, tmp_path):
    a, b = (v[:, :32, :48] for v in pair)
    cfg, params = weight_files.make(tmp_path / "x.safetensors", mafe=False)
    plain, dark = (
        model.build(override(cfg, {"model.black_level": on}).model) for on in (False, True)
    )
    found, _ = dark.apply({"params": params}, a, b)
    by = black_level.stretch(a, b)
    expected, _ = plain.apply({"params": params}, black_level.stretched(a, by), b)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.abs(found - plain.apply({"params": params}, a, b)[0])[0].mean() > 0.01
    whole = np.asarray(a[0, ..., 0]), np.asarray(b[0, ..., 0])
    fuser = fusion.Fuser(override(cfg, {"model.black_level": True}), params)
    size = 32, 64  # as `fuse` pads it
    a, b = (np.pad(v, ((0, 0), (0, 16)), mode="reflect")[None, ..., None] for v in whole)
    expected, _ = dark.apply({"params": params}, jnp.asarray(a), jnp.asarray(b))
    assert expected.shape[1:3] == size
    np.testing.assert_allclose(fuser.luma(*whole), expected[0, :, :48, 0], atol=1e-5)


@pytest.mark.parametrize("values", [{"mafe": False, "glare": 1.5}, {}])
def test_tiles_are_stretched_as_the_whole_is(pair, tmp_path, values):
    """The upper half of the second source is white: a tile there would find no difference."""
    a, b = 0.3 + 0.15 * smooth(0, 144, 248), np.array(pair[1][0, ..., 0])
    b[:72] = 0.9 + 0.1 * b[:72]
    cfg, params = weight_files.make(tmp_path / "x.safetensors", black_level=True, **values)
    fuser = fusion.Fuser(cfg, params)
    off = np.abs(fuser.luma(a, b, max_memory=0) - fuser.luma(a, b))
    assert off.mean() < 0.1 / 255
