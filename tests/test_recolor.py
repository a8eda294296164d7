import numpy as np
import pytest

from smc_jax import color
from smc_jax.recolor import recolor

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (5, 7), dtype=np.uint8)
RGB = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (5, 7), dtype=np.uint16)


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("grey", [GREY, np.stack([GREY] * 3, -1)])
def test_recolor_takes_the_color_source(grey, swap):
    sources = (RGB, grey) if swap else (grey, RGB)
    # With the luma of the colour source, the result must be that source.
    np.testing.assert_array_equal(recolor(color.luma(RGB), *sources), RGB)


def test_recolor_of_two_grey_sources():
    y = np.float32([[0, 0.5, 1, 1.2, -0.1]])
    a = np.zeros((1, 5), np.uint8)
    found = recolor(y, a, np.zeros((1, 5, 3), np.uint8))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, [[0, 128, 255, 255, 0]])
    found = recolor(y, a, a.astype(np.uint16))
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, [[0, 32768, 65535, 65535, 0]])


def test_recolor_of_two_color_sources():
    # Muted colours and a middle luma: nothing is clipped.
    a, b = (RNG.integers(100, 150, (4, 6, 3), dtype=np.uint8) for _ in range(2))
    y = RNG.uniform(0.4, 0.6, (4, 6)).astype(np.float32)
    found = recolor(y, a, b)
    for r, c in np.ndindex(y.shape):
        fused = []
        for weights in ((-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312)):
            ca, cb = (float(np.dot(image[r, c], weights)) for image in (a, b))
            strong = abs(ca) + abs(cb)
            fused.append((ca * abs(ca) + cb * abs(cb)) / strong if strong > 1e-6 else 0)
        blue, red = fused
        level = 255 * y[r, c]
        rgb = [level + 1.402 * red, level - 0.344136 * blue - 0.714136 * red, level + 1.772 * blue]
        np.testing.assert_allclose(found[r, c], rgb, atol=0.6)


def test_recolor_of_focus_settings():
    """Pixels taken over from a source keep their colour; the mean luma gets the mean colour."""
    a, b = (RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(2))
    from_a = RNG.random((64, 64)) < 0.5
    y = np.where(from_a, color.luma(a), color.luma(b))
    taken = np.where(from_a[..., None], a, b)
    apart = np.abs(color.luma(a) - color.luma(b)) > 4 / 255
    np.testing.assert_array_equal(recolor(y, a, b, "mfif")[apart], taken[apart])
    assert (recolor(y, a, b)[apart] != taken[apart]).any(-1).mean() > 0.9
    mean = recolor((color.luma(a) + color.luma(b)) / 2, a, b, "mfif")
    np.testing.assert_allclose(mean, (a.astype(float) + b) / 2, atol=1)
    np.testing.assert_array_equal(recolor(y, a, a, "mfif")[from_a], a[from_a])


def test_recolor_keeps_luma_that_cannot_be_shown_in_full_colour():
    """Where the luma is bright or dark, a strong colour is weakened but keeps its hue."""
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 255
    grey = np.zeros((8, 8), np.uint8)
    y = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    found = recolor(y, grey, red)
    assert np.abs(color.luma(found) - y).max() < 1 / 255
    assert (found[..., 1] == found[..., 2]).all()
    assert (found[..., 0] >= found[..., 1]).all()
    assert (np.ptp(found, axis=-1)[1:-1] > 0).all()


def test_recolor_of_exposures():
    scene = RNG.uniform(0.2, 0.8, (16, 24, 3)).astype(np.float32)
    dark, bright = 0.4 * scene, np.minimum(2.5 * scene, 1)
    y = color.luma(scene)

    def error(*sources, task="general"):
        return np.abs(recolor(y, *sources, task) - scene).mean()

    assert error(dark, bright, task="meif") < error(dark, bright) / 2
    # Sources that are as bright as the result already have its colour.
    assert error(scene, scene, task="meif") < 1e-6
    # A clipped source counts little, whether it shows a false hue or none.
    yellow = np.ones_like(scene) * [1, 1, 0.5]
    for clipped in (yellow, np.ones_like(scene)):
        assert error(dark, clipped, task="meif") < error(dark, clipped) / 2


def test_recolor_of_exposures_that_are_too_bright_for_their_colour():
    """When brightened, the red around a lamp turns orange, and a blue sky does not turn violet."""
    white = np.uint8([[[255, 252, 240]]])
    for dark, y in (([60, 20, 0], 0.8), ([100, 135, 185], 0.85)):
        found = recolor(np.float32([[y]]), np.uint8([[dark]]), white, "meif")
        assert np.abs(color.luma(found) - y).max() < 1 / 255
        red, green, blue = found[0, 0].astype(int)
        assert (abs(red - green) < 0.8 * (green - blue)) if red > blue else green > red + 20
    # Twice the light, as a sensor would record it.
    light = RNG.uniform(0.1, 0.9, (16, 24, 3)).astype(np.float32)
    longer = np.minimum(2 * light, 1)
    found = recolor(color.luma(longer), light, np.ones_like(light), "meif")
    assert np.abs(found - longer).mean() < 0.025


def test_recolor_makes_no_colour_of_noise():
    """In the dark, a chroma becomes less than three times as strong."""
    dark = RNG.uniform(0, 0.02, (16, 24, 3)).astype(np.float32)
    y = np.full((16, 24), 0.5, np.float32)
    found = color.chroma(recolor(y, dark, np.ones_like(dark), "meif"))
    assert np.abs(found).max() < 3 * np.abs(color.chroma(dark)).max()


def test_recolor_leaves_no_grey_where_a_colour_is_made_no_stronger():
    """Around a lamp, one source is too dark for a strong colour, and red clips in the other."""
    dark, bright = np.uint8([[[53, 17, 6]]]), np.uint8([[[254, 154, 35]]])
    red, _, blue = recolor(np.float32([[0.45]]), dark, bright, "meif")[0, 0]
    assert blue < 0.25 * red


def test_recolor_keeps_sixteen_bits_and_luma():
    y = RNG.uniform(0.45, 0.55, (5, 7)).astype(np.float32)
    muted = (RGB // 8 + 112).astype(np.uint8)
    found = recolor(y, DEEP, muted)
    assert found.dtype == np.uint16
    assert found.shape == (5, 7, 3)
    np.testing.assert_allclose(color.luma(found), y, atol=2e-5)
