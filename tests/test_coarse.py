"""The coarse result of the frequency branch for a whole image, which its tiles use."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import weight_files
from scipy import ndimage
from test_fusion import smooth

from smc_jax import coarse, fusion, mafe, memory, model, tiles
from smc_jax.coarse import Overview

STEP = 4


def pooled(v, step=STEP):
    b, h, w, c = v.shape
    return np.asarray(v).reshape(b, h // step, step, w // step, step, c).mean((2, 4))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return weight_files.make(tmp_path_factory.mktemp("weights") / "x.safetensors")


@pytest.mark.parametrize(
    ("pixels", "most", "step"),
    [(512 * 512, 256 * 256, 2), (512 * 512 + 1, 256 * 256, 4), (2160 * 3840, 256**2, 16)],
)
def test_no_more_coarse_pixels_than_there_is_room_for(pixels, most, step):
    assert coarse.step(pixels, most) == step


def test_of_a_larger_image_a_coarse_pixel_is_as_large_as_tiles_allow():
    assert coarse.step(10**9, 128**2) == tiles.UNIT


def test_tiles_add_up_to_the_whole(made):
    cfg, params = made
    overview = functools.partial(Overview(cfg.model), params["source_a"])
    image = smooth(0, 256, 320)
    whole = tiles.cover(*image.shape, (320, 320))
    parts = tiles.cover(*image.shape, (128, 128))
    assert (len(whole), len(parts)) == (1, 9)
    expected = overview(image, whole, STEP)
    assert expected.shape == (1, 64, 80, cfg.model.width)
    np.testing.assert_allclose(overview(image, parts, STEP), expected, atol=1e-4)


def test_fewer_pixels_tell_what_becomes_of_low_frequencies(made):
    cfg, params = made
    noise = np.random.default_rng(0).normal(size=(1, 128, 160, cfg.model.width))
    features = ndimage.gaussian_filter(noise, (0, 4, 4, 0), mode="wrap").astype(np.float32)
    features /= features.std()
    enhance = Overview(cfg.model)._enhance
    expected = pooled(enhance(params["source_a"], features, 1))
    found = enhance(params["source_a"], pooled(features), STEP)
    np.testing.assert_allclose(found.mean((1, 2)), expected.mean((1, 2)), atol=1e-4)
    assert np.abs(found - expected).mean() < 0.25 * np.abs(expected - expected.mean((1, 2))).mean()


def test_memory_of_an_overview_is_what_the_compiler_says(made):
    cfg, params = made
    mean = jax.ShapeDtypeStruct((1, 64, 96, cfg.model.width), np.float32)
    program = Overview(cfg.model)._enhance.lower(params["source_a"], mean, 2).compile()
    # Besides the temporaries there are its input, and its output for each of the two sources.
    arrays = program.memory_analysis().temp_size_in_bytes + 3 * 4 * np.prod(mean.shape)
    pixels = 64 * 96
    room = memory.per_pixel(cfg.model) * pixels / memory.overview(pixels) * pixels
    assert arrays / 1.2 < room < 1.5 * arrays


def test_what_a_tile_knows_itself_changes_nothing(made):
    cfg, params = made
    network, image = model.build(cfg.model), jnp.asarray(smooth(0, 64, 64))[None, ..., None]
    plain, found = network.apply(
        {"params": params},
        image,
        image,
        capture_intermediates=lambda _, method: method == "enhance",
    )
    found = found["intermediates"]
    whole = [
        found[source]["mafe"][mafe.FREQUENCY]["enhance"][0][0]
        for source in ("source_a", "source_b")
    ]
    same, kept = network.apply(
        {"params": params},
        image,
        image,
        coarse=tuple(whole),
        capture_intermediates=lambda _, method: method == "enhance",
    )
    np.testing.assert_array_equal(same[0], plain[0])
    assert not kept
    own = [jnp.asarray(pooled(v)) for v in whole]
    same, _ = network.apply({"params": params}, image, image, coarse=tuple(own))
    np.testing.assert_allclose(same, plain[0], atol=1e-5)
    other, _ = network.apply(
        {"params": params}, image, image, coarse=(jnp.asarray(own[0] + 1), jnp.asarray(own[1]))
    )
    assert np.abs(other - same).max() > 1e-3


@pytest.mark.parametrize("values", [{}, {"mafe": False}, {"fr_scan": False}, {"share_mafe": True}])
def test_tiles_come_out_as_the_whole(tmp_path, values):
    cfg, params = weight_files.make(tmp_path / "x.safetensors", **values)
    fuser, (a, b) = fusion.Fuser(cfg, params), (smooth(i, 144, 248) for i in range(2))
    off = np.abs(fuser.luma(a, b, max_memory=0) - fuser.luma(a, b))
    assert 0 < off.mean() < 0.1 / 255
    assert off.max() < 1 / 255


def test_an_overview_is_as_fine_as_memory_allows(made, monkeypatch):
    """The budget limits its pixels, not the size of the tiles, which may be less than allowed."""
    cfg, params = made
    fuser, steps = fusion.Fuser(cfg, params), []
    image = smooth(0, 320, 224)
    assert math.prod(tiles.shape(*image.shape, 0)) < image.size / 4.5 < tiles.AREA

    def overview(params, image, parts, step):
        steps.append(step)
        return np.zeros((1, *(s // step for s in image.shape), cfg.model.width), np.float32)

    monkeypatch.setattr(fuser, "_overview", overview)
    fuser.luma(image, image, max_memory=0)
    assert steps == [1, 1]
