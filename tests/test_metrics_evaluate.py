"""What holds for all metrics: batches, sizes, flat images, ranges, dialects and pinned values."""

import inspect
import math

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import average, scene

from smc_jax import metrics
from smc_jax.errors import ConfigError, ImageError

H, W = 21, 24
A, B = scene(1, H, W), scene(2, H, W)


def everything(a, b, f, dialect="cddfuse"):
    return metrics.evaluate(a, b, f, "all", dialect)


def test_a_batch_is_its_images():
    a, b, f = (np.stack([scene(seed + i, H, W) for i in range(3)]) for seed in (1, 4, 7))
    batch = everything(a, b, f)
    assert list(batch) == list(metrics.METRICS)
    for i in range(3):
        alone = everything(a[i], b[i], f[i])
        pair = everything(a[i:], b[i:], f[i:])
        for name, score in alone.items():
            assert score.shape == ()
            assert batch[name].shape == (3,)
            # Bit by bit.
            np.testing.assert_array_equal(batch[name][i], score, name)
            np.testing.assert_array_equal(pair[name][0], score, name)


@pytest.mark.parametrize("name", ["MI", "Qabf", "VIF", "FMI_pixel", "Q_CB"])
def test_each_function_takes_a_batch(name):
    fn = metrics.METRICS[name].fn
    a, b, f = (np.stack([scene(seed + i, H, W) for i in range(3)]) for seed in (1, 4, 7))
    expected = [float(fn(*images)) for images in zip(a, b, f, strict=True)]
    np.testing.assert_allclose(fn(a, b, f), expected, rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(fn)(a, b, f), expected, rtol=1e-6)


def test_levels_as_floats():
    f = average(A, B)
    floats = (x.astype(np.float32) + np.float32(0.3) for x in (A, B, f))
    of_floats = everything(*floats)
    for name, score in everything(A, B, f).items():
        np.testing.assert_array_equal(of_floats[name], score, name)


IMAGES = st.integers(0, 2**32 - 1).map(np.random.default_rng)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(IMAGES, st.sampled_from([2, 3, 9, 256]), st.sampled_from([1, 3]))
def test_ranges_and_symmetry(rng, levels, size):
    """Few levels and large pixels give many ties and flat windows."""

    def image():
        x = rng.integers(0, levels, (-(-H // size), -(-W // size))) * 255 // (levels - 1)
        return np.kron(x, np.ones((size, size), int))[:H, :W].astype(np.uint8)

    a, b, f = image(), image(), image()
    scores, swapped = everything(a, b, f), everything(b, a, f)
    for name, score in scores.items():
        low, high = metrics.METRICS[name].range
        assert np.isnan(score) or low - 1e-5 <= score <= high + 1e-5, (name, score)
        if name not in ("Q_C", "VIFF"):  # Their definitions treat A and B differently in ties.
            np.testing.assert_allclose(swapped[name], score, rtol=1e-4, atol=1e-5, err_msg=name)


def test_a_fused_image_that_equals_both_sources():
    scores = everything(A, A, A)
    best = dict.fromkeys(("CC", "MS_SSIM", "MEF_SSIM", "Q_S", "Q_W", "Q_E", "Q_Y", "Q_C"), 1)
    best |= dict.fromkeys(("VIFF", "FMI_pixel", "FMI_gradient", "FMI_edge", "Q_CB"), 1)
    best |= dict.fromkeys(("VIF", "SSIM", "NMI"), 2)
    best |= dict.fromkeys(("MSE", "CE", "Nabf", "Q_CV"), 0)
    assert {name: float(scores[name]) for name in best} == pytest.approx(best, abs=1e-5)
    assert np.isnan(scores["PSNR"])


UNDEFINED = {
    # The images that are flat, and the metrics that are then undefined, at 21 x 24 pixels.
    "fused": ["CC", "Q_C", "Q_CB", "Q_CV"],
    "a": ["CC", "SCD", "Q_CB", "Q_CV"],
    "a, b": ["CC", "SCD", "Q_TE", "Q_Y", "Q_C", "Q_CB", "Q_CV"],
    "a, b, fused": ["CC", "SCD", "NMI", "PSNR", "Q_TE", "Q_Y", "Q_C", "Q_CB", "Q_CV"],
}


@pytest.mark.parametrize("which", UNDEFINED)
@pytest.mark.parametrize("level", [0, 77])
def test_flat_images_give_no_false_numbers(which, level):
    images = {"a": A, "b": B, "fused": average(A, B)}
    images |= dict.fromkeys(which.split(", "), np.full((H, W), level, np.uint8))
    scores = {name: float(score) for name, score in everything(*images.values()).items()}
    undefined = {"MS_SSIM_sum", *UNDEFINED[which]}
    if level == 0 and which == "fused":
        undefined.add("PSNR")
    if level == 0 and "b" in which:
        undefined.add("Qabf")
    assert {name for name, score in scores.items() if math.isnan(score)} == undefined
    assert not any(map(math.isinf, scores.values()))
    assert set(metrics.score(*images.values(), metrics="all")) == set(scores) - undefined


@pytest.mark.parametrize("shape", [(17, 17), (18, 35)])
def test_small_and_odd_sizes(shape):
    a, b = scene(1, *shape), scene(2, *shape)
    for name, score in everything(a, b, average(a, b)).items():
        assert np.isfinite(score) == (name != "MS_SSIM_sum"), name


def test_under_x64():
    expected = everything(A, B, average(A, B))
    with jax.enable_x64(True):
        found = everything(A, B, average(A, B))
    for name, score in found.items():
        assert float(score) == pytest.approx(float(expected[name]), rel=1e-3, nan_ok=True), name


def test_too_small():
    with pytest.raises(ImageError, match="grey images of at least 17 pixels a side, not 24x16"):
        metrics.evaluate(A[:16], B[:16], A[:16], metrics=["EN"])


def test_shapes_that_differ():
    # Without the type checks that the tests add, which would fail first.
    evaluate = inspect.unwrap(metrics.evaluate)
    with pytest.raises(ImageError, match=r"of one shape, .* not \(\d+, \d+\), \(17, 20\), "):
        evaluate(A, A[:17, :20], A)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (A / 255, r"fused is in \[0, 1\]; metrics need grey levels: multiply by 255"),
        (
            A.astype(np.uint16) * 257,
            r"fused goes from \d+ to 65535; metrics need grey levels 0..255",
        ),
        (
            A.astype(np.float32) * -9,
            r"fused goes from -[\d.]+ to -?[\d.]+; metrics need grey levels",
        ),
        (A > 90, "fused is of bool; metrics need grey levels 0..255"),
        (np.zeros((0, *A.shape)), r"images of one shape, \(h, w\) or \(b, h, w\), not"),
        (A[None, None], r"images of one shape, \(h, w\) or \(b, h, w\), not"),
        (A[0], r"images of one shape, \(h, w\) or \(b, h, w\), not"),
        ("fused.png", "fused is the name of a file; metrics need arrays of grey levels"),
    ],
)
def test_what_is_not_in_grey_levels(image, message):
    sources = (A, B) if np.ndim(image) in (0, 2) else (image, image)
    with pytest.raises(ImageError, match=message):
        inspect.unwrap(metrics.evaluate)(*sources, image, metrics=["EN"])


def test_any_number_that_holds_grey_levels():
    expected = metrics.evaluate(A, B, A, metrics=["EN", "VIF"])
    for kind in (np.uint16, np.int32, ">f4", np.float64):
        found = inspect.unwrap(metrics.evaluate)(
            *(v.astype(kind) for v in (A, B, A)), ["EN", "VIF"]
        )
        np.testing.assert_allclose(list(found.values()), list(expected.values()), rtol=1e-5)


def test_what_is_no_number_is_undefined():
    f = A.astype(np.float32)
    f[3, 4] = np.nan
    scores = metrics.evaluate(A, B, f, metrics=["EN", "MI", "VIF", "Qabf", "SSIM"])
    assert np.isnan(list(scores.values())).all()
    assert metrics.score(A, B, f, metrics=["EN", "MI"]) == {}


def test_wrong_names():
    with pytest.raises(ConfigError, match="no metric VIP, but EN, "):
        metrics.evaluate(A, B, A, metrics=["EN", "VIP"])
    with pytest.raises(ConfigError, match=r"no metric most, but EN, .* and the sets paper, "):
        metrics.evaluate(A, B, A, metrics="most")
    with pytest.raises(ConfigError, match="no dialect octave, but cddfuse, tang, vifb, mefb"):
        metrics.evaluate(A, B, A, dialect="octave")


def test_dialects():
    for metric in metrics.METRICS.values():
        assert set(metric.dialects) <= {"tang", "vifb", "mefb"}
    for names in metrics.SETS.values():
        assert set(names) <= set(metrics.METRICS)
    tang = metrics.evaluate(A, B, average(A, B), dialect="tang")
    assert list(tang) == list(metrics.SETS["paper"])
    ours = metrics.evaluate(A, B, average(A, B))
    differ = {name for name in ours if not np.isclose(ours[name], tang[name], rtol=1e-6)}
    assert differ == {"AG", "MI", "Nabf", "SSIM"}


def pattern():
    """Three images from integer formulas, identical on every machine."""
    y, x = np.mgrid[:H, :W]
    a = (x * y + 7 * x) % 200
    b = (x - 10) ** 2 + (y - 15) ** 2 // 2
    b[y > 15] = 0
    f = np.maximum(a, b) - (x * 7 + y * 13) % 9
    return (np.clip(z, 0, 255).astype(np.uint8) for z in (a, b, f))


PINNED = {
    "cddfuse": {
        "EN": 7.231458,
        "SD": 53.09171,
        "SF": 53.64779,
        "AG": 20.46761,
        "MI": 6.83777,
        "CC": 0.5818812,
        "SCD": 1.44556,
        "VIF": 0.3697553,
        "Qabf": 0.6486129,
        "Nabf": 0.02677779,
        "SSIM": 0.8685984,
        "MS_SSIM": 0.9147948,
        "MEF_SSIM": 0.9306828,
        "NMI": 1.43781,
        "MSE": 4123.648,
        "PSNR": 11.97799,
        "VIFF": 0.02185703,
        "Labf": 0.2531935,
        "FMI_pixel": 0.5087991,
        "FMI_gradient": 0.2738353,
        "FMI_edge": 0.7825735,
        "EI": 191.9929,
        "CE": 0.929144,
        "Q_G": 0.6751822,
        "Q_Y": 0.8798832,
        "Q_C": 0.8180771,
        "Q_S": 0.7957565,
        "Q_W": 0.8683026,
        "Q_E": 0.7636413,
        "Q_CB": 0.5055206,
        "Q_CV": 216.7816,
        "Q_NCIE": 0.8601975,
        "Q_TE": 0.5475091,
    },
    "tang": {
        "AG": 22.42538,
        "MI": 9.864816,
        "Nabf": 0.1178109,
        "SSIM": 0.4323739,
        "MSE": 0.06341635,
        "PSNR": 60.1088,
        "FMI_pixel": 0.7825735,
    },
    "vifb": {
        "SF": 52.45158,
        "AG": 22.42538,
        "SSIM": 0.9447972,
        "PSNR": 43.61983,
    },
    "mefb": {
        "SF": 52.45158,
        "AG": 22.42538,
        "VIF": 0.02185703,
        "MEF_SSIM": 0.9147948,
        "PSNR": 43.61983,
        "Q_W": 0.8794644,
        "Q_TE": 66.37267,
    },
}


def test_pinned():
    images = list(pattern())
    for dialect, expected in PINNED.items():
        chosen = "all" if dialect == "cddfuse" else tuple(expected)
        scores = metrics.score(*images, metrics=chosen, dialect=dialect)
        assert scores == pytest.approx(expected, rel=1e-5)
