import math

import numpy as np
import pytest
from scenes import scene, triples
from scipy import signal, stats
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from smc_jax import metrics
from smc_jax.metrics import gradient, information, mef, similarity, vif

# Float64 definitions, as directly as they can be written.


def entropy(f):
    return stats.entropy(np.bincount(f.ravel(), minlength=256), base=2)


def mutual_information(x, y):
    joint = np.zeros((256, 256))
    np.add.at(joint, (x.ravel(), y.ravel()), 1)
    parts = (joint.sum(0), joint.sum(1))
    return sum(stats.entropy(p) for p in parts) - stats.entropy(joint.ravel())


def spatial_frequency(f):
    f = f.astype(float)
    return np.sqrt(np.mean((f[1:] - f[:-1]) ** 2) + np.mean((f[:, 1:] - f[:, :-1]) ** 2))


def average_gradient(f):
    gy, gx = np.gradient(f.astype(float))
    return np.mean(np.sqrt((gx**2 + gy**2) / 2))


def pearson(x, y):
    return np.corrcoef(x.astype(float).ravel(), y.astype(float).ravel())[0, 1]


def scd(a, b, f):
    a, b, f = (x.astype(float) for x in (a, b, f))
    return pearson(f - b, a) + pearson(f - a, b)


def vifp(reference, distorted):
    x, y = reference.astype(float), distorted.astype(float)
    kept = there = 0.0
    for scale in range(1, 5):
        n = 2 ** (5 - scale) + 1
        u = np.arange(n) - n // 2
        window = np.exp(-(u[:, None] ** 2 + u[None] ** 2) / (2 * (n / 5) ** 2))
        window /= window.sum()

        def blur(image, window=window):
            return signal.convolve2d(image, window, "valid")

        if scale > 1:
            x, y = blur(x)[::2, ::2], blur(y)[::2, ::2]
        if min(x.shape) < n:
            break
        for s1, s2, s12 in zip(
            np.maximum(blur(x * x) - blur(x) ** 2, 0).ravel(),
            np.maximum(blur(y * y) - blur(y) ** 2, 0).ravel(),
            (blur(x * y) - blur(x) * blur(y)).ravel(),
            strict=True,
        ):
            g = s12 / (s1 + 1e-10)
            sv = s2 - g * s12
            if s1 < 1e-10:
                g, sv, s1 = 0.0, s2, 0.0
            if s2 < 1e-10:
                g, sv = 0.0, 0.0
            if g < 0:
                g, sv = 0.0, s2
            sv = max(sv, 1e-10)
            kept += math.log10(1 + g * g * s1 / (sv + 2))
            there += math.log10(1 + s1 / 2)
    return kept / there


def qabf(a, b, f):
    x_kernel = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    y_kernel = np.array([[1, 2, 1], [0, 0, 0], [-1, -2, -1]])

    def edges(image):
        x = signal.convolve2d(image.astype(float), x_kernel, "same")
        y = signal.convolve2d(image.astype(float), y_kernel, "same")
        strength, angle = np.sqrt(x * x + y * y), np.full(x.shape, math.pi / 2)
        angle[x != 0] = np.arctan(y[x != 0] / x[x != 0])
        return strength, angle

    def kept(source, fused):
        (gs, angle_s), (gf, angle_f) = source, fused
        ratio = np.empty_like(gs)
        ratio[gs > gf] = gf[gs > gf] / gs[gs > gf]
        ratio[gs < gf] = gs[gs < gf] / gf[gs < gf]
        ratio[gs == gf] = gf[gs == gf]
        angle = 1 - np.abs(angle_s - angle_f) / (math.pi / 2)
        return (
            0.9994 / (1 + np.exp(-15 * (ratio - 0.5))) * 0.9879 / (1 + np.exp(-22 * (angle - 0.8)))
        )

    a, b, f = edges(a), edges(b), edges(f)
    return np.sum(kept(a, f) * a[0] + kept(b, f) * b[0]) / np.sum(a[0] + b[0])


def nabf(a, b, f):
    """Pixel by pixel, as in Shreyamsha Kumar's program."""

    def edges(image):
        image = np.pad(image.astype(float), 1, mode="reflect")
        v = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 8
        return (signal.correlate2d(image, k, "valid") for k in (v, v.T))

    (va, ha), (vb, hb), (vf, hf) = (edges(x) for x in (a, b, f))
    added = total = 0.0
    for at in np.ndindex(a.shape):
        gf, losses, weights = math.hypot(vf[at], hf[at]), [], []
        stronger = True
        for v, h in ((va[at], ha[at]), (vb[at], hb[at])):
            g = math.hypot(v, h)
            ratio = 0.0 if g == 0 or gf == 0 else min(g, gf) / max(g, gf)

            def angle(v, h):
                return math.copysign(math.pi / 2, v) if h == 0 != v else math.atan(v / (h or 1))

            turn = abs(abs(angle(v, h) - angle(vf[at], hf[at])) - math.pi / 2) * 2 / math.pi
            strength = 0.9999 / (1 + math.exp(-19 * (ratio - 0.5)))
            losses.append(1 - math.sqrt(strength * 0.9995 / (1 + math.exp(-22 * (turn - 0.5)))))
            weights.append(g**1.5 if g >= 2 else 0.001)
            stronger &= gf > g
        added += stronger * (losses[0] * weights[0] + losses[1] * weights[1])
        total += sum(weights)
    return added / total


def mef_ssim(a, b, f, scales=3):
    """Patch by patch, as in Ma's program, over the scales that fit."""
    u = np.arange(11) - 5
    window = np.exp(-(u[:, None] ** 2 + u[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    scores, weights = [], np.array([0.0448, 0.2856, 0.3001])
    a, b, f = (x.astype(float) for x in (a, b, f))
    while len(scores) < scales and min(a.shape) >= 11:
        patches = [np.lib.stride_tricks.sliding_window_view(x, (11, 11)) for x in (a, b, f)]
        q = []
        for at in np.ndindex(patches[0].shape[:2]):
            x, y, z = (p[at] for p in patches)
            x, y = x - x.mean(), y - y.mean()
            lengths = np.array([np.linalg.norm(x), np.linalg.norm(y)])
            eps = np.finfo(float).eps
            r = (np.linalg.norm(x + y) + eps) / (lengths.sum() + eps)
            p = min(math.tan(math.pi / 2 * min(r, 1 - eps)), 10)
            ed = lengths + 0.001
            w = (ed / 11) ** p + eps
            w /= w.sum()
            wished = w[0] * x / ed[0] + w[1] * y / ed[1]
            if np.linalg.norm(wished) > 0:
                wished *= ed.max() / np.linalg.norm(wished)
            wished = wished - np.sum(window * wished)
            z = z - np.sum(window * z)
            c = (0.03 * 255) ** 2
            top = 2 * np.sum(window * wished * z) + c
            q.append(top / (np.sum(window * wished**2) + np.sum(window * z**2) + c))
        scores.append(np.mean(q))
        padded = [np.pad(x, ((0, 1), (0, 1)), mode="edge") for x in (a, b, f)]
        a, b, f = (signal.convolve2d(x, np.ones((2, 2)) / 4, "valid")[::2, ::2] for x in padded)
    weights = weights[: len(scores)] / weights[: len(scores)].sum()
    return np.prod(np.maximum(scores, 0) ** weights)  # negative scores turn complex in the program


def ssim(x, y, data_range=2):
    return structural_similarity(x.astype(float), y.astype(float), data_range=data_range)


DEFINITIONS = {
    "EN": lambda a, b, f: entropy(f),
    "SD": lambda a, b, f: np.std(f.astype(float)),
    "SF": lambda a, b, f: spatial_frequency(f),
    "AG": lambda a, b, f: average_gradient(f),
    "MI": lambda a, b, f: mutual_information(f, a) + mutual_information(f, b),
    "CC": lambda a, b, f: (pearson(a, f) + pearson(b, f)) / 2,
    "SCD": scd,
    "VIF": lambda a, b, f: vifp(a, f) + vifp(b, f),
    "Qabf": qabf,
    "Nabf": nabf,
    "SSIM": lambda a, b, f: ssim(a, f) + ssim(b, f),
    "MS_SSIM": mef_ssim,
}


@pytest.mark.parametrize(("a", "b", "f"), triples())
def test_equals_the_definition_in_float64(a, b, f):
    scores = metrics.score(a, b, f)
    assert list(scores) == list(DEFINITIONS) == list(metrics.SETS["paper"])
    for name, definition in DEFINITIONS.items():
        assert scores[name] == pytest.approx(definition(a, b, f), rel=3e-6, abs=3e-6), name


def test_mef_ssim_of_one_scale():
    a, b, f = (scene(seed, 40, 33) for seed in (1, 2, 3))
    assert float(mef.mef_ssim(a, b, f)) == pytest.approx(mef_ssim(a, b, f, scales=1), rel=3e-6)


def test_edges_of_equal_strength_are_found_on_integers():
    # Gradients (3, 4) and (5, 0) are equally strong: Qabf's quirk depends on an exact tie.
    y, x = np.mgrid[:40, :40]
    a, f = (3 * x + 4 * y).astype(np.uint8) // 2, (5 * x).astype(np.uint8) // 2
    for fused in (f, a, f.T.copy()):
        assert float(gradient.qabf(a, f, fused)) == pytest.approx(qabf(a, f, fused), abs=1e-6)


def test_float_levels_count_as_bytes():
    a, b, f = (scene(seed, 40, 30) for seed in (4, 5, 6))
    for name in ("EN", "MI", "SD", "CC", "Qabf"):
        of_bytes = metrics.METRICS[name].fn(a, b, f)
        of_floats = metrics.METRICS[name].fn(*(x.astype(np.float32) for x in (a, b, f)))
        assert float(of_floats) == pytest.approx(float(of_bytes), rel=1e-6), name


def test_truth():
    truth, f = scene(1, 48, 52), scene(2, 48, 52)
    scores = metrics.score(f, f, f, truth)
    assert scores["PSNR_GT"] == pytest.approx(peak_signal_noise_ratio(truth, f), rel=1e-6)
    assert scores["SSIM_GT"] == pytest.approx(ssim(truth, f, 255), abs=1e-6)
    same = metrics.score(f, f, f, f)
    assert same["PSNR_GT"] == 100
    assert same["SSIM_GT"] == pytest.approx(1, abs=1e-6)


def flat(level):
    return np.full((48, 52), level, np.uint8)


@pytest.mark.parametrize("level", [0, 77, 255])
def test_all_flat(level):
    scores = metrics.score(flat(level), flat(level), flat(level))
    expected = dict.fromkeys(("EN", "SD", "SF", "AG", "MI", "Nabf"), 0.0)
    expected |= {"VIF": 2.0, "SSIM": 2.0, "MS_SSIM": 1.0}
    if level:
        # Zero padding makes an edge at the border, except for black images, which have no Qabf.
        expected["Qabf"] = 0.97533
    # CC and SCD are undefined.
    assert scores == pytest.approx(expected, abs=1e-5)
    assert math.copysign(1, scores["EN"]) == 1


def test_flat_fused_or_flat_source():
    a, b = scene(1, 48, 52), scene(2, 48, 52)
    lost = metrics.score(a, b, flat(0))
    assert lost["VIF"] == pytest.approx(0, abs=1e-6)
    assert lost["Qabf"] == pytest.approx(0, abs=1e-4)
    assert lost["MI"] == pytest.approx(0, abs=1e-6)
    assert lost["SCD"] == pytest.approx(2 * pearson(a, -b.astype(int)), abs=1e-6)
    assert set(metrics.SETS["paper"]) - set(lost) == {"CC"}
    one_flat = metrics.score(a, flat(137), a)
    assert set(metrics.SETS["paper"]) - set(one_flat) == {"CC", "SCD"}
    assert one_flat["VIF"] == pytest.approx(2, abs=1e-5)
    assert all(math.isfinite(x) for s in (lost, one_flat) for x in s.values())


def test_large_image_keeps_its_digits():
    # 2 megapixels with a bright mean, over which a plain float32 sum drifts.
    f = (200 + np.random.default_rng(0).integers(0, 9, (1200, 1700))).astype(np.uint8)
    assert float(gradient.standard_deviation(f)) == pytest.approx(np.std(f.astype(float)), rel=1e-5)
    assert float(gradient.spatial_frequency(f)) == pytest.approx(spatial_frequency(f), rel=1e-5)
    assert float(gradient.average_gradient(f)) == pytest.approx(average_gradient(f), rel=1e-5)
    assert float(information.entropy(f)) == pytest.approx(entropy(f), abs=1e-5)
    assert float(similarity.ssim(f, f[::-1], data_range=2.0)) == pytest.approx(
        ssim(f, f[::-1]), abs=1e-5
    )


def test_vif_needs_its_widest_window():
    small = scene(1, 16, 60)
    with pytest.raises(ValueError, match="at least 17 pixels"):
        vif.vif(small, small, small)
