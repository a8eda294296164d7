"""What white hides, against SciPy, in the blend and in parts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import weight_files
from test_atrous import smoothed

from smc_jax import atrous, blend, config, fusion, glare, memory


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
    bands = [atrous.bands(jnp.asarray(image)) for image in smoke]
    found = glare.behind_white(*bands)
    np.testing.assert_allclose(found[0, ..., 0], expected, atol=1e-4)
    np.testing.assert_allclose(glare.behind_white(*bands[::-1]), -found, atol=1e-6)
    assert found[0, 56, 177] > 1
    assert not found[0, :, :16].any()
    grain = 0.2 + 0.04 * np.random.default_rng(1).standard_normal(smoke[0].shape)
    assert np.abs(glare.behind_white(atrous.bands(jnp.asarray(grain)), bands[1])).max() < 0.1


def test_glare_shows_what_white_hides(smoke):
    a, b = map(jnp.asarray, smoke)
    plain = jnp.zeros((*a.shape[:3], blend.CHANNELS)).at[..., 0].set(-4.0)
    share = jax.nn.sigmoid(2 * glare.behind_white(atrous.bands(a), atrous.bands(b)) - 4)
    found = blend.blend(a, b, plain, glare=2.0)
    np.testing.assert_allclose(found, b + share * (a - b), atol=1e-5)

    def seen(image):
        return image[0, 45:67, 172:182].mean() - image[0, 45:67, 192:198].mean()

    assert seen(blend.blend(a, b, plain)) < 0.03
    assert seen(found) > 0.1


def test_parts_of_a_large_pair_give_what_the_whole_gives():
    rng = np.random.default_rng(0)
    coarse = rng.uniform(size=(20, 60)), rng.uniform(0.7, 1.2, (20, 60))
    a, b = (np.kron(v, np.ones((40, 20))).clip(0, 1).astype(np.float32) for v in coarse)
    assert min(a.shape) > 3 * glare.REACH
    expected = glare.whole(a, b, glare.parts(a.shape, a.size**2))
    assert np.abs(expected).max() > 1
    parts = glare.parts(a.shape, 0)
    assert len(parts) > 1
    np.testing.assert_allclose(glare.whole(a, b, parts), expected, atol=1e-5)


def test_tiles_know_what_white_hides(tmp_path):
    cfg, params = weight_files.make(tmp_path / "x.safetensors", mafe=False, glare=1.5)
    person, white = np.full((2, 144, 248), [[[0.2]], [[0.95]]], np.float32)
    person[56:88, 200:214] = 0.9
    fuser = fusion.Fuser(cfg, params)
    off = np.abs(fuser.luma(person, white, max_memory=0) - fuser.luma(person, white))
    assert off.mean() < 0.1 / 255
    assert off.max() < 2 / 255


def test_memory_of_a_part_is_what_the_compiler_says():
    image = jax.ShapeDtypeStruct((1, 320, 512, 1), np.float32)
    found = glare._of_pair.lower(image, image).compile().memory_analysis()
    arrays = found.temp_size_in_bytes + found.argument_size_in_bytes + found.output_size_in_bytes
    model, pixels = config.Model(), 320 * 512
    room = memory.per_pixel(model) * pixels / memory.glare(model, pixels) * pixels
    assert arrays / 1.2 < room < 1.5 * arrays
