"""The metrics beyond the paper's, and the dialects, against independent float64 definitions."""

import functools
import math

import numpy as np
import pytest
from scenes import average, scene, triples
from scipy import ndimage, signal, stats
from skimage.metrics import structural_similarity

from smc_jax import metrics

# Information: histograms, the joint ones as dense tables.


def table(x, y):
    joint = np.zeros((256, 256))
    np.add.at(joint, (x.ravel(), y.ravel()), 1 / x.size)
    return joint


def nats(p):
    return stats.entropy(np.ravel(p))


def mutual(x, y):
    return nats(table(x, x)) + nats(table(y, y)) - nats(table(x, y))


def mi_tang(a, b, f):
    def shared(x, y):
        merged = table(np.minimum(x, 254), np.minimum(y, 254))
        return nats(table(x, x)) + nats(table(y, y)) - nats(merged)

    return (shared(a, f) + shared(b, f)) / math.log(2)


def nmi(a, b, f):
    return sum(2 * mutual(x, f) / (nats(table(x, x)) + nats(table(f, f))) for x in (a, b))


def stretch(x):
    """Stretches levels to 0..255, in Python floats: the published code computes in doubles too."""
    low, high = int(x.min()), int(x.max())
    levels = {v: math.floor((v - low) / (high - low) * 255 + 0.5) for v in range(low, high + 1)}
    return np.vectorize(levels.get)(x)


def tsallis(x, y, q):
    joint = table(stretch(x), stretch(y))
    swapped = np.outer(joint.sum(0), joint.sum(1))
    there = swapped > 0
    return (1 - np.sum(joint[there] ** q / swapped[there] ** (q - 1))) / (1 - q)


def q_te(a, b, f):
    q = 0.43137
    whole = sum((nats(table(x, x)) / math.log(2)) ** q for x in (a, b)) + tsallis(a, b, q)
    return (tsallis(a, f, q) + tsallis(b, f, q)) / whole


def q_ncie(a, b, f):
    images = (a, b, f)
    matrix = [[1 if x is y else mutual(x, y) / math.log(256) for x in images] for y in images]
    share = np.linalg.eigvalsh(np.array(matrix)) / 3
    return 1 + sum(s * math.log(s, 256) for s in share if s > 1e-12)


def cross_entropy(a, b, f):
    p_f = np.bincount(f.ravel(), minlength=256) / f.size
    total = 0.0
    for x in (a, b):
        p = np.bincount(x.ravel(), minlength=256) / x.size
        total += sum(s * math.log2(s / t) for s, t in zip(p, p_f, strict=True) if s and t)
    return total / 2


# Distances.


def mse(a, b, f):
    a, b, f = (x.astype(float) for x in (a, b, f))
    return (np.mean((a - f) ** 2) + np.mean((b - f) ** 2)) / 2


def psnr_vifb(a, b, f):
    roots = [np.linalg.norm(x.astype(float) - f) / f.size for x in (a, b)]
    return 20 * math.log10(255 / math.sqrt(np.mean(roots)))


# Similarity.


def gaussian_ssim(x, y, data_range=255.0):
    return structural_similarity(
        x.astype(float),
        y.astype(float),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=data_range,
    )


def ssim_tang(a, b, f):
    # scikit-image leaves out 5 pixels at the border; MATLAB repeats the border.
    a, b, f = (np.pad(x, 5, mode="edge") for x in (a, b, f))
    return (gaussian_ssim(a, f, 1.0) + gaussian_ssim(b, f, 1.0)) / 2


# Features.


def sobel(x, mode):
    x = x.astype(float)
    kernel = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    return (ndimage.correlate(x, k, mode=mode) for k in (kernel, kernel.T))


def edge_intensity(f):
    return np.mean(np.hypot(*sobel(f, "nearest")))


def sf_vifb(f):
    f = f.astype(float)
    return math.sqrt(sum(np.sum(np.diff(f, axis=k) ** 2) for k in (0, 1)) / f.size)


def ag_tang(f):
    gy, gx = np.gradient(f.astype(float))
    h, w = f.shape
    return np.sum(np.sqrt((gx**2 + gy**2) / 2)) / ((h - 1) * (w - 1))


def q_g(a, b, f):
    """Pixel by pixel, as in the published code."""

    def edges(x):
        gx, gy = sobel(x, "constant")
        return np.hypot(gx, gy), np.arctan(gy / (gx + 1e-5 * (gx == 0)))

    (ga, ta), (gb, tb), (gf, tf) = (edges(x) for x in (a, b, f))
    q = np.zeros(f.shape)
    for at in np.ndindex(f.shape):
        kept, weights = 0.0, 0.0
        strength_f = gf[at] or 1e-5
        for g, t in ((ga[at], ta[at]), (gb[at], tb[at])):
            g = g or 1e-5
            strength = strength_f / g if g > strength_f else g / strength_f
            turn = abs(abs(t - tf[at]) - math.pi / 2) * 2 / math.pi
            kept += g / (1 + math.exp(-10 * (strength - 0.5))) / (1 + math.exp(-20 * (turn - 0.75)))
            weights += g
        q[at] = kept / weights
    return q.mean()


def labf(a, b, f, lost=lambda gf, ga, gb: gf <= ga or gf <= gb):
    """Pixel by pixel, as in Shreyamsha Kumar's program."""

    def edges(x):
        v, h = (g / 8 for g in sobel(x, "mirror"))
        return np.hypot(v, h), np.arctan2(v, h)

    (ga, ta), (gb, tb), (gf, tf) = (edges(x) for x in (a, b, f))
    upper = lower = 0.0
    for at in np.ndindex(f.shape):
        losses = 0.0
        for g, t in ((ga[at], ta[at]), (gb[at], tb[at])):
            ratio = min(g, gf[at]) / max(g, gf[at]) if min(g, gf[at]) > 0 else 0.0
            # Angles count modulo half a turn.
            turn = abs((t - tf[at] + math.pi / 2) % math.pi - math.pi / 2)
            turn = abs(turn - math.pi / 2) * 2 / math.pi
            by_strength = 0.9999 / (1 + math.exp(-19 * (ratio - 0.5)))
            by_angle = 0.9995 / (1 + math.exp(-22 * (turn - 0.5)))
            weight = g**1.5 if g >= 2 else 0.001
            losses += (1 - math.sqrt(by_strength * by_angle)) * weight
            lower += weight
        upper += losses * lost(round(gf[at], 9), round(ga[at], 9), round(gb[at], 9))
    return upper / lower


def nabf_tang(a, b, f):
    return labf(b, f, a, lost=lambda ga, gb, gf: ga > gb and ga > gf)


def viff(a, b, f):
    scores = []
    a, b, f = (x.astype(float) for x in (a, b, f))
    for scale in range(4):
        n = 2 ** (4 - scale) + 1
        u = np.arange(n) - n // 2
        window = np.exp(-(u[:, None] ** 2 + u[None] ** 2) / (2 * (n / 5) ** 2))
        blur = functools.partial(signal.convolve2d, in2=window / window.sum(), mode="valid")
        if scale:
            a, b, f = (blur(x)[::2, ::2] for x in (a, b, f))
        if min(f.shape) < n:
            break
        maps = []
        for s in (a, b):
            s1, s2 = (np.maximum(blur(x * x) - blur(x) ** 2, 0) for x in (s, f))
            s12 = blur(s * f) - blur(s) * blur(f)
            g = s12 / (s1 + 1e-10)
            rest = s2 - g * s12
            g[(s1 < 1e-10) | (s2 < 1e-10)] = 0
            rest[s1 < 1e-10] = s2[s1 < 1e-10]
            s1[s1 < 1e-10] = 0
            rest[s2 < 1e-10] = 0
            rest[g < 0] = s2[g < 0]
            g = np.maximum(g, 0)
            noise = 0.005 * 255**2
            kept = np.log10(1 + g**2 * s1 / (np.maximum(rest, 1e-10) + noise))
            maps.append((g, kept, np.log10(1 + s1 / noise)))
        (g_a, kept_a, there_a), (g_b, kept_b, there_b) = maps
        first = g_a < g_b
        kept, there = np.where(first, kept_a, kept_b), np.where(first, there_a, there_b)
        scores.append(np.sum(kept + 1e-7) / np.sum(there + 1e-7))
    weights = np.array([1, 0, 0.15, 1])[: len(scores)]
    return np.dot(scores, weights) / weights.sum()


def ms_ssim_sum(a, b, f):
    total = 0.0
    for x in (a, b):
        x, y, product = x.astype(float), f.astype(float), 1.0
        for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
            if scale:
                # Padded in front, as torch's avg_pool2d does with a padding of 1.
                x, y = (np.pad(z, [(side % 2, 0) for side in z.shape]) for z in (x, y))
                x, y = ((z[::2] + z[1::2]) / 2 for z in (x, y))
                x, y = ((z[:, ::2] + z[:, 1::2]) / 2 for z in (x, y))
            last = ssim_map(x, y, 11, 2.55**2, 7.65**2).mean()
            # So large a c1 makes the luminance 1.
            structure = ssim_map(x + 1e5, y + 1e5, 11, 1e30, 7.65**2).mean()
            product *= (last if scale == 4 else structure) ** weight
        total += product
    return total


# Maps of SSIM.


def window_of(n):
    u = np.arange(n) - n // 2
    window = np.exp(-(u[:, None] ** 2 + u[None] ** 2) / (2 * 1.5**2))
    return window / window.sum()


def moments(x, y, n):
    """Means, variances and covariance by window, centred so that flat ones have exactly 0."""
    window, (x, y) = window_of(n), (z.astype(float) for z in (x, y))
    patches = [np.lib.stride_tricks.sliding_window_view(z, (n, n)) for z in (x, y)]
    origin = [p[..., :1, :1] for p in patches]
    x, y = (p - o for p, o in zip(patches, origin, strict=True))
    mean_x, mean_y = (np.sum(window * z, (2, 3)) for z in (x, y))
    dx, dy = x - mean_x[..., None, None], y - mean_y[..., None, None]
    products = (np.sum(window * p, (2, 3)) for p in (dx * dx, dy * dy, dx * dy))
    return mean_x + origin[0][..., 0, 0], mean_y + origin[1][..., 0, 0], *products


def ssim_map(x, y, n, c1, c2):
    mean_x, mean_y, xx, yy, xy = moments(x, y, n)
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return luminance * (2 * xy + c2) / (xx + yy + c2)


def piella(a, b, f):
    _, _, aa, bb, _ = moments(a, b, 11)
    aa, bb = (z + 0.5 * (aa + bb == 0) for z in (aa, bb))
    t = aa / (aa + bb)
    af, bf = (ssim_map(x, f, 11, 2.55**2, 7.65**2) for x in (a, b))
    return t * af + (1 - t) * bf, np.maximum(aa, bb)


def q_s(a, b, f):
    return np.mean(piella(a, b, f)[0])


def q_w(a, b, f):
    quality, weight = piella(a, b, f)
    return np.sum(quality * weight) / np.sum(weight)


def prewitt(x):
    kernel = np.array([[1, 0, -1]] * 3)
    x = x.astype(float)
    return np.hypot(*(ndimage.correlate(x, k, mode="constant") for k in (kernel, kernel.T)))


def q_w_of_edges(a, b, f):
    return q_w(*(prewitt(x) for x in (a, b, f)))


def q_y(a, b, f):
    _, _, aa, bb, _ = moments(a, b, 7)
    ab, af, bf = (ssim_map(x, y, 7, 2e-16, 2e-16) for x, y in ((a, b), (a, f), (b, f)))
    with np.errstate(invalid="ignore"):
        t = aa / (aa + bb)
    return np.nanmean(np.where(ab >= 0.75, t * af + (1 - t) * bf, np.maximum(af, bf) + 0 * t))


def q_c(a, b, f):
    covariance_a, covariance_b = moments(a, f, 7)[-1], moments(b, f, 7)[-1]
    af, bf = (ssim_map(x, f, 7, 2e-16, 2e-16) for x in (a, b))
    with np.errstate(invalid="ignore", divide="ignore"):
        t = covariance_a / (covariance_a + covariance_b)
        mixed = t * af + (1 - t) * bf
    mixed[t < 0] = 0
    mixed[t > 1] = 1
    return np.mean(mixed[~np.isnan(t)])


# Perception.


def frequencies(h, w):
    """Cycles per image along both axes."""
    return np.fft.fftfreq(h)[:, None] * h, np.fft.fftfreq(w)[None] * w


def q_cb(a, b, f):
    def contrast(x):
        v, u = frequencies(*x.shape)
        square = (u**2 + v**2) / 15**2
        sensitivity = np.exp(-square / 15.387**2) - 0.7622 * np.exp(-square / 1.3456**2)
        seen = np.fft.ifft2(np.fft.fft2(stretch(x)) * sensitivity).real
        n = np.arange(-15, 16)
        smooth = []
        for sigma in (2, 4):
            window = np.exp(-(n[:, None] ** 2 + n[None] ** 2) / (2 * sigma**2))
            smooth.append(signal.convolve2d(seen, window / (2 * np.pi * sigma**2), "same"))
        c = np.abs(smooth[0] / smooth[1] - 1)
        return c**3 / (c**2 + 1e-4)

    c_a, c_b, c_f = (contrast(x) for x in (a, b, f))
    kept = [np.minimum(c, c_f) / np.maximum(c, c_f) for c in (c_a, c_b)]
    return np.mean((c_a**2 * kept[0] + c_b**2 * kept[1]) / (c_a**2 + c_b**2))


def q_cv(a, b, f):
    upper = lower = 0.0
    h, w = f.shape
    v, u = frequencies(h, w)
    r = 0.144 * np.hypot(u, v) / 4
    sensitivity = 2.6 * (0.0192 + r) * np.exp(-(r**1.1))
    for x in (a, b):
        strength = np.hypot(*sobel(stretch(x), "constant"))
        difference = np.fft.fft2(stretch(x).astype(float) - stretch(f))
        seen = np.fft.ifft2(difference * sensitivity).real
        for i in range(0, h, 16):
            for j in range(0, w, 16):
                block = np.s_[i : i + 16, j : j + 16]
                salience = np.sum(strength[block] ** 5)
                upper += salience * np.sum(seen[block] ** 2) / 256
                lower += salience
    return upper / lower


# Feature mutual information.


def fmi(a, b, f, feature):
    scores = []
    f = feature(f)
    for source in (a, b):
        windows = [
            np.lib.stride_tricks.sliding_window_view(x, (3, 3)).reshape(-1, 3, 3)
            for x in (feature(source), f)
        ]
        for x, y in zip(*windows, strict=True):
            scores.append(1.0 if (x == y).all() else shared(x.T.ravel(), y.T.ravel()))
    return np.mean(scores)


def shared(x, y):
    def distribution(x):
        x = x - x.min() if x.max() > x.min() else np.ones(9)
        return x / x.sum()

    p, q = distribution(x), distribution(y)
    r = 0.0
    if np.ptp(p) > 1e-12 and np.ptp(q) > 1e-12:
        r = np.corrcoef(p, q)[0, 1]
    place = np.arange(9)
    variances = [max(np.sum(place**2 * z) - np.sum(place * z) ** 2, 0) for z in (p, q)]
    below_p, below_q = (np.cumsum(np.append(0, z)) for z in (p, q))
    if r < 0:
        bound = np.maximum(below_p[:, None] + below_q[None] - 1, 0)
    else:
        bound = np.minimum(below_p[:, None], below_q[None])
    covariance = np.sum((bound - np.outer(below_p, below_q))[1:, 1:])
    phi = 0.0
    if r != 0 and min(variances) > 1e-15:
        phi = r * math.sqrt(variances[0] * variances[1]) / covariance
    joint = phi * np.diff(np.diff(bound, axis=0), axis=1) + (1 - phi) * np.outer(p, q)

    def bits(z):
        z = z[np.abs(z) > 1e-14]
        return -np.sum(z * np.log2(np.abs(z)))

    single = bits(p) + bits(q)
    return 2 * (single - bits(joint)) / single if single > 0 else 0.0


def differences(x):
    return np.gradient(x.astype(float), axis=1)


def thin_edges(x):
    """Pixel by pixel, as in MATLAB's documentation and its code for embedded targets."""
    gx, gy = (np.abs(g) for g in sobel(x, "nearest"))
    square = gx**2 + gy**2
    edge, cutoff = np.zeros(x.shape), 4 * square.mean()
    h, w = x.shape
    for i, j in np.ndindex(x.shape):
        left = j == 0 or square[i, j - 1] <= square[i, j]
        right = j == w - 1 or square[i, j] > square[i, j + 1]
        above = i == 0 or square[i - 1, j] <= square[i, j]
        below = i == h - 1 or square[i, j] > square[i + 1, j]
        upright = gx[i, j] >= gy[i, j] and left and right
        level = gy[i, j] >= gx[i, j] and above and below
        edge[i, j] = square[i, j] > cutoff and (upright or level)
    return edge


DEFINITIONS = {
    ("NMI", "cddfuse"): nmi,
    ("Q_TE", "cddfuse"): q_te,
    ("Q_TE", "mefb"): lambda a, b, f: tsallis(a, f, 1.85) + tsallis(b, f, 1.85),
    ("Q_NCIE", "cddfuse"): q_ncie,
    ("CE", "cddfuse"): cross_entropy,
    ("MI", "tang"): mi_tang,
    ("MSE", "cddfuse"): mse,
    ("MSE", "tang"): lambda a, b, f: mse(a / 255, b / 255, f / 255),
    ("PSNR", "cddfuse"): lambda a, b, f: 10 * math.log10(int(f.max()) ** 2 / mse(a, b, f)),
    ("PSNR", "tang"): lambda a, b, f: 20 * math.log10(255 / mse(a / 255, b / 255, f / 255) ** 0.5),
    ("PSNR", "vifb"): psnr_vifb,
    ("SSIM", "vifb"): lambda a, b, f: gaussian_ssim(a, f) + gaussian_ssim(b, f),
    ("SSIM", "tang"): ssim_tang,
    ("EI", "cddfuse"): lambda a, b, f: edge_intensity(f),
    ("SF", "vifb"): lambda a, b, f: sf_vifb(f),
    ("AG", "tang"): lambda a, b, f: ag_tang(f),
    ("Q_G", "cddfuse"): q_g,
    ("Labf", "cddfuse"): labf,
    ("Nabf", "tang"): nabf_tang,
    ("VIFF", "cddfuse"): viff,
    ("Q_S", "cddfuse"): q_s,
    ("Q_W", "cddfuse"): q_w,
    ("Q_W", "mefb"): q_w_of_edges,
    ("Q_E", "cddfuse"): lambda a, b, f: q_w(a, b, f) * q_w_of_edges(a, b, f),
    ("Q_Y", "cddfuse"): q_y,
    ("Q_C", "cddfuse"): q_c,
    ("Q_CB", "cddfuse"): q_cb,
    ("Q_CV", "cddfuse"): q_cv,
    ("FMI_pixel", "cddfuse"): lambda a, b, f: fmi(a, b, f, lambda x: x.astype(float)),
    ("FMI_gradient", "cddfuse"): lambda a, b, f: fmi(a, b, f, differences),
    ("FMI_edge", "cddfuse"): lambda a, b, f: fmi(a, b, f, thin_edges),
}


@pytest.mark.parametrize(("name", "dialect"), DEFINITIONS)
@pytest.mark.parametrize(("a", "b", "f"), triples())
def test_equals_the_definition_in_float64(a, b, f, name, dialect):
    value = float(metrics.METRICS[name].of(dialect)(a, b, f))
    expected = DEFINITIONS[name, dialect](a, b, f)
    assert value == pytest.approx(expected, rel=3e-6, abs=3e-6)


def test_ms_ssim_of_an_odd_size():
    a, b = scene(1, 167, 182, flat=True), scene(2, 167, 182, flat=True)
    f = average(a, b)
    value = metrics.score(a, b, f, metrics=["MS_SSIM_sum"])["MS_SSIM_sum"]
    assert value == pytest.approx(ms_ssim_sum(a, b, f), rel=3e-6)
    assert metrics.score(a[:160], b[:160], f[:160], metrics=["MS_SSIM_sum"]) == {}
