"""The ten metrics of CDDFuse's evaluator against straightforward NumPy and SciPy.

python -m benchmarks.metrics
"""

import functools

import jax
import numpy as np
from scipy import ndimage, signal
from skimage.metrics import structural_similarity

from benchmarks.measure import compiled, interleaved, table
from smc_jax import command, metrics

SHAPE = (480, 640)


def entropy(a, b, f):
    p = np.bincount(f.ravel(), minlength=256) / f.size
    return -np.sum(p[p > 0] * np.log2(p[p > 0]))


def standard_deviation(a, b, f):
    return np.std(f.astype(float))


def spatial_frequency(a, b, f):
    f = f.astype(float)
    return np.sqrt(np.mean(np.diff(f, axis=0) ** 2) + np.mean(np.diff(f, axis=1) ** 2))


def average_gradient(a, b, f):
    gy, gx = np.gradient(f.astype(float))
    return np.mean(np.sqrt((gx**2 + gy**2) / 2))


def mutual_information(a, b, f):
    total = 0.0
    for source in (a, b):
        joint = np.bincount(256 * source.ravel().astype(int) + f.ravel(), minlength=65536)
        p = joint.reshape(256, 256) / f.size
        independent = p.sum(1, keepdims=True) * p.sum(0, keepdims=True)
        total += np.sum(p[p > 0] * np.log(p[p > 0] / independent[p > 0]))
    return total


def pearson(x, y):
    x, y = x - x.mean(), y - y.mean()
    return np.sum(x * y) / np.sqrt(np.sum(x * x) * np.sum(y * y))


def correlation(a, b, f):
    a, b, f = (x.astype(float) for x in (a, b, f))
    return (pearson(a, f) + pearson(b, f)) / 2


def correlation_of_differences(a, b, f):
    a, b, f = (x.astype(float) for x in (a, b, f))
    return pearson(f - b, a) + pearson(f - a, b)


def vif(a, b, f):
    total = 0.0
    for source in (a, b):
        x, y, kept, there = source.astype(float), f.astype(float), 0.0, 0.0
        for scale in range(4):
            n = 2 ** (4 - scale) + 1
            u = np.arange(n) - n // 2
            window = np.exp(-(u[:, None] ** 2 + u[None] ** 2) / (2 * (n / 5) ** 2))
            blur = functools.partial(signal.convolve2d, in2=window / window.sum(), mode="valid")
            if scale:
                x, y = blur(x)[::2, ::2], blur(y)[::2, ::2]
            mean_x, mean_y = blur(x), blur(y)
            s1 = np.maximum(blur(x * x) - mean_x**2, 0)
            s2 = np.maximum(blur(y * y) - mean_y**2, 0)
            s12 = blur(x * y) - mean_x * mean_y
            g = s12 / (s1 + 1e-10)
            rest = s2 - g * s12
            flat = s1 < 1e-10
            g[flat], rest[flat], s1[flat] = 0, s2[flat], 0
            flat = s2 < 1e-10
            g[flat], rest[flat] = 0, 0
            rest[g < 0] = s2[g < 0]
            g = np.maximum(g, 0)
            kept += np.sum(np.log10(1 + g**2 * s1 / (np.maximum(rest, 1e-10) + 2)))
            there += np.sum(np.log10(1 + s1 / 2))
        total += kept / there
    return total


def qabf(a, b, f):
    kernel = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])

    def edges(image):
        x = signal.convolve2d(image.astype(float), kernel, "same")
        y = signal.convolve2d(image.astype(float), -kernel.T, "same")
        with np.errstate(divide="ignore", invalid="ignore"):
            angle = np.where(x == 0, np.pi / 2, np.arctan(y / x))
        return np.sqrt(x * x + y * y), angle

    def kept(source, fused):
        (g_s, angle_s), (g_f, angle_f) = source, fused
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(g_s > g_f, g_f / g_s, np.where(g_s == g_f, g_f, g_s / g_f))
        angle = 1 - np.abs(angle_s - angle_f) / (np.pi / 2)
        by_strength = 0.9994 / (1 + np.exp(-15 * (ratio - 0.5)))
        return by_strength * 0.9879 / (1 + np.exp(-22 * (angle - 0.8)))

    a, b, f = edges(a), edges(b), edges(f)
    return np.sum(kept(a, f) * a[0] + kept(b, f) * b[0]) / np.sum(a[0] + b[0])


def ssim(a, b, f):
    a, b, f = (x.astype(float) for x in (a, b, f))
    return sum(structural_similarity(x, f, data_range=2) for x in (a, b))


PLAIN = {
    "EN": entropy,
    "SD": standard_deviation,
    "SF": spatial_frequency,
    "AG": average_gradient,
    "MI": mutual_information,
    "CC": correlation,
    "SCD": correlation_of_differences,
    "VIF": vif,
    "Qabf": qabf,
    "SSIM": ssim,
}


def images(shape=SHAPE):
    """Returns two smooth scenes with noise, and their maximum."""
    rng = np.random.default_rng(0)

    def scene():
        x = ndimage.gaussian_filter(rng.normal(size=shape), 3)
        x = 255 * (x - x.min()) / np.ptp(x) + rng.normal(0, 3, shape)
        return np.clip(np.round(x), 0, 255).astype(np.uint8)

    a, b = scene(), scene()
    return a, b, np.maximum(a, b)


def main() -> None:
    command.Parser(description=__doc__.splitlines()[0]).parse_args()
    triple = images()
    print(f"{jax.devices()[0].device_kind}, {SHAPE[1]}x{SHAPE[0]}; medians of 5 turns\n")
    rows = []
    for name, plain in PLAIN.items():
        program, _, memory = compiled(metrics.METRICS[name].fn, *triple)
        rows.append(row(name, program, plain, triple, memory))
    ten = functools.partial(metrics.evaluate, metrics="cddfuse")
    program, seconds, memory = compiled(ten, *triple)
    rows.append(row("all ten", program, everything, triple, memory))
    header = ["metric", "NumPy and SciPy ms", "ours ms", "x", "deviation", "temporary MB"]
    print(table(header, rows))
    print(f"\ncompiling the ten took {seconds:.1f} s, once for each size")


def everything(a, b, f):
    return {name: plain(a, b, f) for name, plain in PLAIN.items()}


def row(name, program, plain, triple, memory) -> list[str]:
    seconds = interleaved({"plain": lambda: plain(*triple), "ours": lambda: program(*triple)})
    ours, theirs = program(*triple), plain(*triple)
    deviation = max(
        abs(float(x) / float(y) - 1)
        for x, y in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    )
    return [
        name,
        f"{1e3 * seconds['plain']:.1f}",
        f"{1e3 * seconds['ours']:.1f}",
        f"{seconds['plain'] / seconds['ours']:.1f}",
        f"{deviation:.0e}",
        f"{memory / 1e6:.1f}",
    ]


if __name__ == "__main__":
    raise SystemExit(command.guarded(main))
