import numpy as np
import pytest
from scipy import ndimage

pytest.importorskip("skimage", reason="the sample is made from the photographs of scikit-image")

from data_prep import defocus, exposure, sample
from data_prep.folder import BuildError
from smc_jax import color, data_source, image_files, pairing


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folder with the pairs and data sets of two small scenes."""
    folder = tmp_path_factory.mktemp("sample")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sample, "SCENES", few())
        sample.write(folder / "pairs", folder / "data")
    return folder


def few():
    return [
        next(s for s in sample.SCENES if s.file == "coins.png"),
        next(s for s in sample.SCENES if s.file == "chelsea.png"),
    ]


def load(folder, task, split, name):
    return [
        image_files.read(folder / "pairs" / task / split / s / f"{name}.png")
        for s in ("a", "b", "gt")
    ]


def sharpness(image):
    """Local energy of the finest details."""
    grey = color.luma(image)
    return ndimage.gaussian_filter((grey - ndimage.gaussian_filter(grey, 1)) ** 2, 8)


# --- light


def test_a_noiseless_exposure_is_the_photograph():
    ramp = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    rng = np.random.default_rng(0)
    found = exposure.expose(exposure.linear(ramp), 0, 1e12, rng)
    np.testing.assert_array_equal(found, ramp)


def test_a_stop_doubles_the_light_and_clips():
    light = np.linspace(0, 1, 50, dtype=np.float32).reshape(5, 10, 1)
    rng = np.random.default_rng(0)
    found = exposure.expose(light, 1, 1e12, rng) / 255
    # The inverse of the sRGB curve by the constants of IEC 61966-2-1.
    back = np.where(found <= 0.04045, found / 12.92, ((found + 0.055) / 1.055) ** 2.4)
    np.testing.assert_allclose(back, np.minimum(1, 2 * light), atol=0.005)


def test_noise_is_that_of_counted_photons():
    level, full_well = 0.2, 2000
    light = np.full((300, 300, 1), level, np.float32)
    found = exposure.expose(light, 0, full_well, np.random.default_rng(0))
    electrons = exposure.linear(found) * full_well
    # Rounding to 8 bits adds a twelfth of a squared step.
    step = full_well * 2.4 / 1.055 * level ** (1.4 / 2.4) / 255
    expected = level * full_well + exposure.READ_NOISE**2 + step**2 / 12
    assert electrons.mean() == pytest.approx(level * full_well, rel=0.01)
    assert electrons.var() == pytest.approx(expected, rel=0.05)


# --- defocus


@pytest.mark.parametrize("radius", [1.3, 3.0, 6.6])
def test_a_point_becomes_a_disk(radius):
    point = np.zeros((41, 43, 1), np.float32)
    point[20, 21] = 1
    (spread,) = defocus.blur(point, [radius])
    y, x = np.mgrid[:41, :43]
    assert spread.sum() == pytest.approx(1, abs=1e-5)
    assert (spread[..., 0] * (y - 20)).sum() == pytest.approx(0, abs=1e-4)
    assert (spread[..., 0] * (x - 21)).sum() == pytest.approx(0, abs=1e-4)
    # The variance of a uniform disk along an axis is r^2 / 4, that of a pixel 1 / 12.
    variance = (spread[..., 0] * (y - 20) ** 2).sum()
    assert variance == pytest.approx(radius**2 / 4 + 1 / 12, rel=0.04)
    assert spread[..., 0][np.hypot(y - 20, x - 21) > radius + 0.75].max() < 1e-6
    inside = spread[..., 0][np.hypot(y - 20, x - 21) < radius - 0.75]
    np.testing.assert_allclose(inside, 1 / (np.pi * radius**2), rtol=0.05)


def test_no_blur_and_flat_light():
    light = np.random.default_rng(0).random((12, 17, 3), np.float32)
    np.testing.assert_allclose(next(defocus.blur(light, [0.0])), light, atol=1e-6)
    for image in defocus.blur(np.full_like(light, 0.3), [0.7, 5.2]):
        np.testing.assert_allclose(image, 0.3, atol=1e-6)


@pytest.mark.parametrize("render", [defocus.sloped, defocus.stepped])
def test_a_plane_is_blurred_as_a_whole(render):
    light = np.random.default_rng(0).random((40, 50, 1), np.float32)
    plane = np.full((40, 50), 0.5, np.float32)
    np.testing.assert_allclose(render(light, plane, 0.5, 2.0), light, atol=0.02)
    (expected,) = defocus.blur(light, [3.0])
    found = render(light, plane, 0.0, 6.0)
    assert np.abs(found - expected).mean() < 0.02
    assert found.mean() == pytest.approx(light.mean(), rel=0.01)


@pytest.fixture
def square():
    """Light and disparity of a near white square in front of a far black wall."""
    disparity = np.zeros((60, 60), np.float32)
    disparity[20:40, 20:40] = 1
    return disparity[..., None].copy(), disparity


def test_a_near_edge_in_focus_casts_no_halo(square):
    light, disparity = square
    found = defocus.stepped(light, disparity, 1.0, 6.0)[..., 0]
    distance = ndimage.distance_transform_edt(disparity == 0)
    assert found[distance > 3].max() < 0.002
    assert found[23:37, 23:37].min() > 0.998


def test_the_seam_that_mixes_both_sides_is_not_smeared(square):
    light, disparity = square
    distance = ndimage.distance_transform_edt(disparity == 0)
    light[(distance > 0) & (distance <= 2)] = 0.5
    found = defocus.stepped(light, disparity, 1.0, 6.0)[..., 0]
    assert found[distance > 3].max() < 0.005


def test_a_near_edge_out_of_focus_lets_the_wall_through(square):
    light, disparity = square
    found = defocus.stepped(light, disparity, 0.0, 6.0)[..., 0]
    # At the edge half of the disk sees past it, so the profile is point symmetric.
    profile = found[30, 10:30]
    assert (np.diff(profile) > -1e-3).all()
    np.testing.assert_allclose(profile + profile[::-1], 1, atol=0.02)
    assert profile[4] > 0.01
    assert found.sum() == pytest.approx(400, rel=0.01)


def test_a_slope_blurs_by_its_depth():
    light = np.random.default_rng(0).random((200, 200, 1), np.float32)
    slope = np.linspace(0, 1, 200, dtype=np.float32)[:, None].repeat(200, 1)
    found = defocus.sloped(light, slope, 0.0, 6.0)[..., 0]
    deviation = found.std(1) / light.std()
    # A disk averages pi r^2 independent pixels.
    for row, radius in ((100, 3.0), (150, 4.5), (190, 5.7)):
        expected = 1 / np.sqrt(np.pi * radius**2)
        assert deviation[row - 6 : row + 7].mean() == pytest.approx(expected, rel=0.25)
    assert deviation[:8].mean() > 0.9


# --- scenes


def test_scenes():
    assert len({s.file for s in sample.SCENES}) == len(sample.SCENES)
    assert {s.split for s in sample.SCENES} == {"train", "test"}
    # The left and right views show one scene; only one of them may be used.
    assert "motorcycle_right.png" not in {s.file for s in sample.SCENES}
    for file in (*(s.file for s in sample.SCENES), *sample.DISPARITY.values()):
        assert (sample._shipped() / file).is_file()


def test_measured_depth():
    photograph = image_files.read(sample._shipped() / "motorcycle_left.png")
    found = sample.measured_depth("motorcycle_disp.npz", photograph)
    assert found.shape == photograph.shape[:2]
    assert (found.min(), found.max()) == (0, 1)
    door, tank, headlight, floor = found[60, 240], found[210, 400], found[160, 535], found[490, 300]
    assert door < tank < headlight < floor + 0.2
    assert tank - door > 0.5
    raw = np.load(sample._shipped() / "motorcycle_disp.npz")["arr_0"]
    seen = np.isfinite(raw)
    assert np.corrcoef(raw[seen], found[seen])[0, 1] > 0.99


def test_depth_is_smooth_and_follows_the_tilt():
    for tilt, (dy, dx) in ((0, (1, 0)), (90, (0, 1)), (180, (-1, 0))):
        found = sample.depth((200, 300), tilt, np.random.default_rng(0))
        assert found.min() >= 0
        assert found.max() <= 1
        far = found[:, :100].mean() * dx + found[:60].mean() * dy
        near = found[:, -100:].mean() * dx + found[-60:].mean() * dy
        assert near > far + 0.3
        assert max(np.abs(np.diff(found, axis=axis)).max() for axis in (0, 1)) < 0.1


@pytest.mark.parametrize(("split", "name"), [("train", "coins_0"), ("test", "chelsea")])
def test_multi_focus(written, split, name):
    a, b, gt = load(written, "mfif", split, name)
    file = "coins.png" if name == "coins_0" else "chelsea.png"
    np.testing.assert_array_equal(gt, image_files.read(sample._shipped() / file))
    assert a.shape == b.shape == gt.shape
    near, far, whole = map(sharpness, (a, b, gt))
    blurred_a, blurred_b = near < 0.5 * whole, far < 0.5 * whole
    # Each source loses a good part of the scene, and together they lose little.
    assert 0.2 < blurred_a.mean() < 0.8
    assert 0.2 < blurred_b.mean() < 0.8
    assert (blurred_a & blurred_b).mean() < 0.2
    # Focus changes details, not brightness.
    for image in (a, b):
        assert color.luma(image).mean() == pytest.approx(color.luma(gt).mean(), abs=0.02)


@pytest.mark.parametrize(("split", "name"), [("train", "coins_1"), ("test", "chelsea")])
def test_multi_exposure(written, split, name):
    a, b, gt = (image.astype(int) for image in load(written, "meif", split, name))
    assert a.mean() < 0.65 * gt.mean()
    assert b.mean() > 1.3 * gt.mean()
    assert (b == 255).mean() > (gt == 255).mean() + 0.005
    assert not (a == 255).any()


def test_variants_differ(written):
    for task in sample.KINDS:
        first, second = (load(written, task, "train", f"coins_{n}")[0] for n in (0, 1))
        assert np.abs(first.astype(int) - second).mean() > 0.5


def test_written_folders(written):
    assert sorted(p.name for p in written.iterdir()) == ["data", "pairs"]
    for task in sample.KINDS:
        for split, names in (("train", ["coins_0", "coins_1"]), ("test", ["chelsea"])):
            pairs, problems = pairing.pairs(written / "pairs" / task / split)
            assert problems == []
            assert [p.name for p in pairs] == names
            source = data_source.open(str(written / "data"), f"sample_{task}", split)
            found = [data_source.pair(source, index) for index in range(len(source))]
            assert [e.name for e in found] == names
            for example in found:
                for image, expected in zip(
                    example[1:], load(written, task, split, example.name), strict=True
                ):
                    np.testing.assert_array_equal(image, expected)


def test_same_bytes_again(written, tmp_path, monkeypatch):
    monkeypatch.setattr(sample, "SCENES", few())
    sample.write(tmp_path / "again")
    files = sorted(p.relative_to(tmp_path / "again") for p in (tmp_path / "again").rglob("*.png"))
    assert len(files) == 18
    for file in files:
        assert (tmp_path / "again" / file).read_bytes() == (written / "pairs" / file).read_bytes()


def test_overwrite(tmp_path, monkeypatch):
    monkeypatch.setattr(sample, "SCENES", ())
    monkeypatch.setattr(sample, "samples", lambda: iter([("mfif", "train", "x", tiny())]))
    sample.write(tmp_path / "out")
    with pytest.raises(BuildError, match="out exists; add --overwrite"):
        sample.write(tmp_path / "out")
    (tmp_path / "out/mfif/train/a/old.png").write_bytes(b"old")
    sample.write(tmp_path / "out", overwrite=True)
    assert [p.name for p in (tmp_path / "out/mfif/train/a").iterdir()] == ["x.png"]
    (tmp_path / "mine/mfif/train/a").mkdir(parents=True)
    with pytest.raises(BuildError, match="mine exists and was not written by this command"):
        sample.write(tmp_path / "mine", overwrite=True)
    # Nothing is written if a data set is in the way.
    (tmp_path / "data/sample_meif").mkdir(parents=True)
    with pytest.raises(BuildError, match="sample_meif exists"):
        sample.write(tmp_path / "new", tmp_path / "data")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "mine", "out"]


def test_without_scikit_image(tmp_path, monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(sample.resources, "files", missing)
    with pytest.raises(BuildError, match=r"pip install '\.\[sample\]'"):
        sample.write(tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_broken_off_sample_leaves_nothing(tmp_path, monkeypatch):
    def break_off():
        yield "mfif", "train", "x", tiny()
        raise KeyboardInterrupt

    monkeypatch.setattr(sample, "samples", break_off)
    with pytest.raises(KeyboardInterrupt):
        sample.write(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def tiny():
    return sample.Sample(*(np.full((4, 4), v, np.uint8) for v in (1, 2, 3)))


def test_a_folder_that_holds_more_is_never_replaced(tmp_path):
    (tmp_path / sample.MARK).write_bytes(b"{}")
    (tmp_path / "run").mkdir()
    with pytest.raises(BuildError, match="holds run"):
        sample.write(tmp_path, overwrite=True)
    assert (tmp_path / "run").is_dir()


def test_exposures_do_not_depend_on_the_noise_before(written, monkeypatch):
    """How many random numbers a machine draws for it depends on its arithmetic."""
    focus = sample.multi_focus

    def noisier(*args, rng, **kwargs):
        found = focus(*args, rng=rng, **kwargs)
        rng.normal(size=7)
        return found

    monkeypatch.setattr(sample, "multi_focus", noisier)
    monkeypatch.setattr(sample, "SCENES", few())
    found = {name: pair for task, _, name, pair in sample.samples() if task == "meif"}
    expected = load(written, "meif", "test", "chelsea")
    for image, stored in zip(found["chelsea"], expected, strict=True):
        np.testing.assert_array_equal(image, stored)
