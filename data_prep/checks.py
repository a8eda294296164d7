"""Checks of pairs before training: counts, shifts, duplicates, empty images."""

from pathlib import Path

import numpy as np
from jaxtyping import Complex
from PIL import Image
from scipy import fft, ndimage
from tqdm import tqdm

from smc_jax import color, image_files, pairing

SHIFTED = 2
"""In pixels; pairs whose edges seem shifted by more are listed."""
ALIKE = 6
"""Pairs count as copies if at most this many of their hashes' 128 bits differ. Copies that are
compressed, halved or shifted by two pixels differ in few, other pairs of the same kind in 10 and
more."""
SIDE = 512
"""Shifts are estimated in a central square of at most this side, in pixels."""
SMOOTH = 1.0
"""Standard deviation of the smoothing before edges are compared, in pixels."""
FAINT = 0.003
"""Slope of luma per pixel below which an edge counts for less than half."""


def report(pairs: Path, counts: dict[str, int]) -> dict:
    """Returns counts, sizes and findings of `pairs/<split>/{a,b}`.

    Args:
      pairs: the folder of splits.
      counts: pairs of each split as published; `all` stands for their sum.

    Raises:
      ImageError: a file is damaged, or a split holds no pair.
    """
    splits, findings, hashes = {}, [], []
    for split in sorted(pairs.iterdir()):
        found, _ = pairing.pairs(split)
        shifts, sizes, colored = [], set(), {"a": 0, "b": 0}
        for pair in tqdm(found, f"looking at {split.name}", disable=None):
            images = [image_files.read(path) for path in (pair.a, pair.b)]
            for side, image in zip(colored, images, strict=True):
                colored[side] += color.is_color(image)
            a, b = map(color.luma, images)
            color.same_size(a, b, f"{pair.a} and {pair.b}")
            sizes.add(f"{a.shape[1]}x{a.shape[0]}")
            findings += [
                f"{path} is of one value throughout"
                for path, image in ((pair.a, a), (pair.b, b))
                if image.min() == image.max()
            ]
            shifts.append(max(map(abs, shift(a, b))))
            if a.min() < a.max():
                hashes.append((split.name, pair.a, _hash(a) + _hash(b)))
        splits[split.name] = {
            "pairs": len(found),
            "sizes": sorted(sizes),
            "in_color": colored,
            # Estimates, not findings: they are large for modalities that share few edges.
            "median_shift": float(np.median(shifts)),
            "shifted": [p.name for p, s in zip(found, shifts, strict=True) if s > SHIFTED],
        }
    findings += _copies(hashes)
    total = {"all": sum(s["pairs"] for s in splits.values())}
    have = {name: s["pairs"] for name, s in splits.items()} | total
    findings += [
        f"{name} has {have.get(name, 0)} pairs; {count} were published"
        for name, count in counts.items()
        if have.get(name, 0) != count
    ]
    return {"splits": splits, "findings": findings}


def shift(a: color.Luma, b: color.Luma) -> tuple[int, int]:
    """How far b lies down and right of a, in pixels, by cross-correlation of their edges.

    An estimate, reliable for mfif and meif only: infrared and visible images, or CT and MRI, may
    share so few edges that aligned pairs get large values too.
    """
    spectra = [fft.fft2(_edges(x)) for x in (a, b)]
    peaks = fft.ifft2(spectra[1] * spectra[0].conj()).real
    place = np.unravel_index(np.argmax(peaks), peaks.shape)
    down, right = (int((p + n // 2) % n - n // 2) for p, n in zip(place, peaks.shape, strict=True))
    return down, right


def table(report: dict) -> str:
    """The report as text for a terminal, with the first ten findings."""
    lines = [
        f"{name:8} {s['pairs']:6} pairs  sizes: {len(s['sizes'])}, e.g. {s['sizes'][0]}"
        f"  in colour: {s['in_color']['a']} of a, {s['in_color']['b']} of b"
        f"  median shift {s['median_shift']:.1f} px, {len(s['shifted'])} over {SHIFTED} px"
        for name, s in report["splits"].items()
    ]
    lines.append("(shifts are estimates, reliable for mfif and meif only)")
    found = report["findings"]
    lines += [f"note: {line}" for line in found[:10]]
    return "\n".join(lines + [f"… {len(found) - 10} more in report.json"] * (len(found) > 10))


def _copies(hashes: list[tuple[str, Path, bytes]]) -> list[str]:
    """One line for each pair that looks like a pair of an earlier split."""
    lines = []
    bits = np.array([np.frombuffer(found, np.uint64) for _, _, found in hashes])
    starts = {split: n for n, (split, _, _) in reversed(list(enumerate(hashes)))}
    for n, (split, path, _) in enumerate(hashes):
        if first := starts[split]:
            apart = np.bitwise_count(bits[:first] ^ bits[n]).sum(-1)
            nearest = int(np.argmin(apart))
            if apart[nearest] <= ALIKE:
                lines.append(f"{path} looks like {hashes[nearest][1]} of another split")
    return lines


def _edges(image: color.Luma) -> Complex[np.ndarray, "h w"]:
    """Directions of the edges of the central square, as complex numbers.

    Their angle is doubled and they have nearly the same length, so that neither the side that is
    brighter nor the contrast matters, which differ between two exposures or focus settings.
    """
    h, w = (min(n, SIDE) for n in image.shape)
    top, left = (image.shape[0] - h) // 2, (image.shape[1] - w) // 2
    if min(h, w) < 2:
        return np.zeros((h, w), complex)
    smooth = ndimage.gaussian_filter(image[top : top + h, left : left + w], SMOOTH)
    down, right = np.gradient(smooth)
    edges = right + 1j * down
    directions = edges**2 / (np.abs(edges) ** 2 + FAINT**2)
    return directions * np.outer(np.hanning(h), np.hanning(w))


def _hash(image: color.Luma) -> bytes:
    """Difference hash: which of two horizontal neighbours is brighter, in a 9x8 reduction."""
    small = np.asarray(Image.fromarray(image).resize((9, 8), Image.Resampling.BOX))
    return np.packbits(small[:, 1:] > small[:, :-1]).tobytes()
