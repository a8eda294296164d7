"""An infrared image whose darkest pixels are grey does not veil what the visible image has dark."""

import jax.numpy as jnp
import numpy as np
import pytest
import weight_files

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
    found = black_level.above(a, b)
    levels = [np.quantile(np.asarray(v).reshape(2, -1), 0.01, axis=1) for v in (a, b)]
    np.testing.assert_allclose(found, [levels[0][0] - levels[1][0], 0.0], atol=1e-6)
    darker = black_level.lowered(a, found)
    np.testing.assert_array_equal(darker[1], a[1])
    np.testing.assert_allclose(darker[0], np.maximum(a[0] - found[0], 0), atol=1e-6)
    assert darker[0].min() >= 0


def test_the_network_sees_the_darker_source(pair, tmp_path):
    a, b = (v[:, :32, :48] for v in pair)
    cfg, params = weight_files.make(tmp_path / "x.safetensors", mafe=False)
    plain, dark = (
        model.build(override(cfg, {"model.black_level": on}).model) for on in (False, True)
    )
    found, _ = dark.apply({"params": params}, a, b)
    by = black_level.above(a, b)
    expected, _ = plain.apply({"params": params}, black_level.lowered(a, by), b)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.abs(found - plain.apply({"params": params}, a, b)[0])[0].mean() > 0.01
    given, _ = dark.apply({"params": params}, a, b, above=jnp.zeros(2))
    np.testing.assert_allclose(given, plain.apply({"params": params}, a, b)[0], atol=1e-6)


@pytest.mark.parametrize("values", [{"mafe": False, "glare": 1.5}, {}])
def test_tiles_are_lowered_as_the_whole_is(pair, tmp_path, values):
    """The upper half of the second source is bright: a tile there would find no difference."""
    a, b = (np.array(v[0, ..., 0]) for v in pair)
    b[:72] = 0.6 + 0.4 * b[:72]
    cfg, params = weight_files.make(tmp_path / "x.safetensors", black_level=True, **values)
    fuser = fusion.Fuser(cfg, params)
    off = np.abs(fuser.luma(a, b, max_memory=0) - fuser.luma(a, b))
    assert off.mean() < 0.05 / 255
