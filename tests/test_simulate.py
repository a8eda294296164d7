"""Pairs simulated from the user's own photographs."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from data_prep import checks, exposure, simulate
from data_prep.folder import BuildError
from smc_jax import color, image_files, pairing
from smc_jax.errors import InputError


def photograph(seed, size=(96, 128)):
    """A colour image with details everywhere."""
    noise = np.random.default_rng(seed).normal(size=(*size, 3))
    image = sum(s * ndimage.gaussian_filter(noise, (s, s, 0)) for s in (0.7, 4))
    return np.clip(128 + 45 * image / image.std(), 0, 255).astype(np.uint8)


@pytest.fixture
def photos(tmp_path):
    for seed in range(2):
        image_files.write(tmp_path / "photos" / f"p{seed}.png", photograph(seed))
    return tmp_path / "photos"


def detail(image):
    grey = color.luma(image)
    return ndimage.gaussian_filter((grey - ndimage.gaussian_filter(grey, 1)) ** 2, 4)


def test_each_photograph_is_focused_near_and_far(photos, tmp_path):
    assert simulate.write(photos, "mfif", tmp_path / "out", each=3) == 6
    names = [f"p{p}_{k}" for p in range(2) for k in range(3)]
    for side in ("a", "b", "gt"):
        assert sorted(pairing.images(tmp_path / "out" / side)) == names
    shares = []
    for name in names:
        a, b, gt = (
            image_files.read(tmp_path / "out" / s / f"{name}.png") for s in ("a", "b", "gt")
        )
        np.testing.assert_array_equal(gt, image_files.read(photos / f"{name[:2]}.png"))
        near, far, whole = map(detail, (a, b, gt))
        assert max(map(abs, checks.shift(color.luma(a), color.luma(b)))) <= checks.SHIFTED
        for one, other in ((near, far), (far, near)):
            lost = one < 0.6 * whole
            # What one source loses the other keeps, except at seams and around near objects. The
            # defocus drawn for a small image may be so weak that nothing is lost.
            shares.append(lost.mean())
            assert (other[lost] > one[lost]).sum() >= 0.7 * lost.sum()
    assert 0.3 < np.mean(shares) < max(shares) < 0.95
    first, second = (
        image_files.read(tmp_path / "out/a" / f"p0_{k}.png").astype(int) for k in (0, 1)
    )
    assert np.abs(first - second).mean() > 0.5


def test_exposures_and_the_same_again(photos, tmp_path):
    for out in ("one", "two"):
        simulate.write(photos, "meif", tmp_path / out, each=1)
    dark, bright = (image_files.read(tmp_path / "one" / s / "p0_0.png") for s in ("a", "b"))
    assert dark.mean() < 0.7 * photograph(0).mean() < photograph(0).mean() < bright.mean()
    for file in (tmp_path / "one").rglob("*.png"):
        again = tmp_path / "two" / file.relative_to(tmp_path / "one")
        assert file.read_bytes() == again.read_bytes()


def test_objects_stand_out_of_a_smooth_background():
    for seed in range(5):
        disparity = simulate.objects((60, 80), np.random.default_rng(seed))
        near = disparity == disparity.max()
        assert 0.6 <= disparity.max() <= 1
        # The nearest 15 % of the pixels set the near focus, the farthest 15 % the far focus.
        assert 0.16 < near.mean() < 0.84
        assert 0 <= disparity[~near].min() < disparity[~near].max() <= 0.15


@pytest.mark.parametrize("hides", [False, True])
def test_the_first_source_is_focused_near(hides):
    disparity = np.zeros((96, 128), np.float32)
    disparity[:, :64] = 1
    rng = np.random.default_rng(0)
    a, b, _ = simulate.multi_focus(photograph(0), disparity, hides=hides, rng=rng, strength=0.04)
    near, far = detail(a), detail(b)
    assert (near > 2 * far)[:, :50].all()
    assert (far > 2 * near)[:, 80:].all()


def test_some_scenes_hide_and_some_do_not(monkeypatch):
    drawn = set()
    for name in ("stepped", "sloped"):
        draw = getattr(simulate.defocus, name)
        monkeypatch.setattr(
            simulate.defocus, name, lambda *a, n=name, d=draw: drawn.add(n) or d(*a)
        )
    for seed in range(8):
        simulate.focus_pair(photograph(0, (32, 40)), np.random.default_rng(seed))
    assert drawn == {"stepped", "sloped"}


def test_exposures_are_apart_by_stops_and_as_noisy_as_those_of_a_small_camera():
    grey = np.full((96, 128), 60, np.uint8)
    light = exposure.linear(np.atleast_3d(grey)).mean()
    for seed in range(5):
        a, b, _ = simulate.multi_exposure(grey, np.random.default_rng(seed))
        dark, bright = (exposure.linear(np.atleast_3d(v)) for v in (a, b))
        assert 2 <= -np.log2(dark.mean() / light) <= 3
        assert 1.5 <= np.log2(bright.mean() / light) <= 2.5
        # A pixel counts electrons, so the noise is the square root of their number.
        assert bright.std() == pytest.approx(np.sqrt(bright.mean() / simulate.SMALL), rel=0.1)


def test_exposures_are_apart_by_unequal_stops():
    grey = np.full((96, 128), 90, np.uint8)
    given = exposure.linear(np.atleast_3d(grey)).mean()
    stops = []
    for seed in range(40):
        pair = simulate.exposure_pair(grey, np.random.default_rng(seed))
        dark, bright, scene = (exposure.linear(np.atleast_3d(v)).mean() for v in pair)
        stops.append([np.log2(given / scene), np.log2(scene / dark), np.log2(bright / scene)])
    darkened, less, more = np.transpose(stops)
    near = 0.05
    assert -near <= darkened.min() < 0.3
    assert 0.7 < darkened.max() <= simulate.DARKENED + near
    for found, (least, most) in ((less, simulate.LESS), (more, simulate.MORE)):
        assert least - near <= found.min() < least + 0.5
        assert found.max() <= most + near
    assert less.max() > 3
    assert more.max() > 2.5


def test_equal_photographs_make_unlike_pairs(tmp_path):
    for name in ("one", "two"):
        image_files.write(tmp_path / "photos" / f"{name}.png", photograph(0))
    simulate.write(tmp_path / "photos", "mfif", tmp_path / "out", each=1)
    one, two = (image_files.read(tmp_path / f"out/a/{n}_0.png").astype(int) for n in ("one", "two"))
    assert np.abs(one - two).mean() > 0.5


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
    # The user's own pairs are never replaced, nor files put beside the pairs of this command.
    for side in ("a", "b", "gt"):
        image_files.write(tmp_path / f"mine/{side}/x_0.png", photograph(0))
    with pytest.raises(BuildError, match="was not written by this command"):
        simulate.write(photos, "meif", tmp_path / "mine", overwrite=True)
    (out / "notes.txt").write_text("x")
    with pytest.raises(BuildError, match=r"out holds notes\.txt, not of this command"):
        simulate.write(photos, "meif", out, overwrite=True)
    image_files.write(photos / "p3.png", photograph(0)[:20])
    with pytest.raises(BuildError, match=r"p3\.png is 128x20; it needs 32x32 at least"):
        simulate.write(photos, "meif", tmp_path / "small")


def test_the_folder_that_one_is_in(photos, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    simulate.write(photos, "meif", tmp_path / "here/pairs", each=1)
    monkeypatch.chdir(tmp_path / "here/pairs")
    assert simulate.write(photos, "meif", Path(), each=2, overwrite=True) == 4
    assert len(list((tmp_path / "here/pairs/gt").iterdir())) == 4
