"""Pairs simulated from photographs of one's own."""

import numpy as np
import pytest
from scipy import ndimage

from data_prep import simulate
from data_prep.folder import BuildError
from smc_jax import color, pairing
from smc_jax.errors import InputError


def photograph(seed, size=(96, 128)):
    """Colour with details everywhere."""
    noise = np.random.default_rng(seed).normal(size=(*size, 3))
    image = sum(s * ndimage.gaussian_filter(noise, (s, s, 0)) for s in (0.7, 4))
    return np.clip(128 + 45 * image / image.std(), 0, 255).astype(np.uint8)


@pytest.fixture
def photos(tmp_path):
    for seed in range(2):
        color.write(tmp_path / "photos" / f"p{seed}.png", photograph(seed))
    return tmp_path / "photos"


def detail(image):
    grey = color.luma(image)
    return ndimage.gaussian_filter((grey - ndimage.gaussian_filter(grey, 1)) ** 2, 4)


def test_each_photograph_is_focused_near_and_far(photos, tmp_path):
    assert simulate.write(photos, "mfif", tmp_path / "out", each=3) == 6
    names = [f"p{p}_{k}" for p in range(2) for k in range(3)]
    for side in ("a", "b", "gt"):
        assert sorted(pairing.images(tmp_path / "out" / side)) == names
    for name in names:
        a, b, gt = (color.read(tmp_path / "out" / s / f"{name}.png") for s in ("a", "b", "gt"))
        np.testing.assert_array_equal(gt, color.read(photos / f"{name[:2]}.png"))
        near, far, whole = map(detail, (a, b, gt))
        for one, other in ((near, far), (far, near)):
            lost = one < 0.6 * whole
            assert 0.05 < lost.mean() < 0.95
            # What one has lost the other one has kept, but for what hides and seams.
            assert (other[lost] > one[lost]).mean() > 0.7
    first, second = (color.read(tmp_path / "out/a" / f"p0_{k}.png").astype(int) for k in (0, 1))
    assert np.abs(first - second).mean() > 0.5


def test_exposures_and_the_same_again(photos, tmp_path):
    for out in ("one", "two"):
        simulate.write(photos, "meif", tmp_path / out, each=1)
    dark, bright = (color.read(tmp_path / "one" / s / "p0_0.png") for s in ("a", "b"))
    assert dark.mean() < 0.7 * photograph(0).mean() < photograph(0).mean() < bright.mean()
    for file in (tmp_path / "one").rglob("*.png"):
        again = tmp_path / "two" / file.relative_to(tmp_path / "one")
        assert file.read_bytes() == again.read_bytes()


def test_objects_stand_out_of_a_smooth_background():
    for seed in range(5):
        disparity = simulate.objects((60, 80), np.random.default_rng(seed))
        assert 0 <= disparity.min() < disparity.max() <= 1
        near = disparity >= 0.6
        assert 0.05 < near.mean() < 0.95
        assert disparity[~near].max() <= 0.35


def test_bad_input(photos, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(BuildError, match="ivif cannot be simulated; it may be mfif, meif"):
        simulate.write(photos, "ivif", out)
    with pytest.raises(BuildError, match="each=0"):
        simulate.write(photos, "mfif", out, each=0)
    with pytest.raises(BuildError, match="missing is no folder"):
        simulate.write(tmp_path / "missing", "mfif", out)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BuildError, match="empty is no folder with image files"):
        simulate.write(tmp_path / "empty", "mfif", out)
    (photos / "p2.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"p2\.png"):
        simulate.write(photos, "meif", out, each=1)
    assert not out.exists()
    (photos / "p2.png").unlink()
    with pytest.raises(BuildError, match="exists and was not written by this command"):
        simulate.write(photos, "meif", photos)
    simulate.write(photos, "meif", out, each=1)
    with pytest.raises(BuildError, match="add --overwrite"):
        simulate.write(photos, "meif", out)
    with pytest.raises(BuildError, match="lies in --out"):
        simulate.write(out / "gt", "meif", out, overwrite=True)
    assert simulate.write(photos, "meif", out, each=2, overwrite=True) == 4
    # Pairs of the user's own are never replaced.
    color.write(tmp_path / "mine/a/x.png", photograph(0))
    color.write(tmp_path / "mine/b/x.png", photograph(1))
    with pytest.raises(BuildError, match="was not written by this command"):
        simulate.write(photos, "meif", tmp_path / "mine", overwrite=True)
