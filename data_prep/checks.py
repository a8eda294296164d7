"""What is worth knowing of pairs before a training: counts, shifts, duplicates, empty images."""

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import fft
from tqdm import tqdm

from smc_jax import color

SHIFTED = 2
"""Pixels; pairs whose gradients seem shifted further are listed."""
SIDE = 256
"""Shifts are looked for in the middle square of this side, at most."""


def report(pairs: Path, counts: dict[str, int]) -> dict:
    """Counts, sizes and findings of `pairs/<split>/{a,b}`.

    Args:
      pairs: the folder of splits.
      counts: pairs of each split as published; `all` is for their sum.

    Raises:
      ImageError: a file is damaged, or a split holds no pair.
    """
    splits, findings, seen = {}, [], {}
    for split in sorted(pairs.iterdir()):
        found, _ = color.pairs(split)
        shifts, sizes = [], set()
        for pair in tqdm(found, f"looking at {split.name}", disable=not sys.stderr.isatty()):
            a, b = (color.luma(color.read(path)) for path in (pair.a, pair.b))
            color.same_size(a, b, f"{pair.a} and {pair.b}")
            sizes.add(f"{a.shape[1]}x{a.shape[0]}")
            findings += [
                f"{path} is of one value throughout"
                for path, image in ((pair.a, a), (pair.b, b))
                if image.min() == image.max()
            ]
            shifts.append(max(map(abs, shift(a, b))))
            other = seen.setdefault((_hash(a), _hash(b)), (split.name, pair.a))
            if other[0] != split.name and a.min() < a.max():
                findings.append(f"{pair.a} looks like {other[1]} of another split")
        splits[split.name] = {
            "pairs": len(found),
            "sizes": sorted(sizes),
            # Estimates, and no findings: modalities that share few edges have large ones.
            "median_shift": float(np.median(shifts)),
            "shifted": [p.name for p, s in zip(found, shifts, strict=True) if s > SHIFTED],
        }
    total = {"all": sum(s["pairs"] for s in splits.values())}
    have = {name: s["pairs"] for name, s in splits.items()} | total
    findings += [
        f"{name} has {have.get(name, 0)} pairs; {count} were published"
        for name, count in counts.items()
        if have.get(name, 0) != count
    ]
    return {"splits": splits, "findings": findings}


def shift(a: color.Luma, b: color.Luma) -> tuple[int, int]:
    """How far b lies down and right of a, in pixels, by phase correlation of their gradients.

    An estimate, to be believed for mfif and meif only: infrared and visible or CT and MRI share so
    few edges that aligned pairs get large values too.
    """
    spectra = [fft.fft2(_edges(x)) for x in (a, b)]
    cross = spectra[1] * spectra[0].conj()
    peaks = fft.ifft2(cross / np.maximum(np.abs(cross), 1e-9)).real
    place = np.unravel_index(np.argmax(peaks), peaks.shape)
    down, right = (int((p + n // 2) % n - n // 2) for p, n in zip(place, peaks.shape, strict=True))
    return down, right


def table(report: dict) -> str:
    """The report for a terminal; of many findings the first."""
    lines = [
        f"{name:8} {s['pairs']:6} pairs  {len(s['sizes'])} sizes, as {s['sizes'][0]}"
        f"  median shift {s['median_shift']:.1f} px, {len(s['shifted'])} over {SHIFTED} px"
        for name, s in report["splits"].items()
    ]
    found = report["findings"]
    lines += [f"note: {line}" for line in found[:10]]
    return "\n".join(lines + [f"… {len(found) - 10} more in report.json"] * (len(found) > 10))


def _edges(image: color.Luma) -> np.ndarray:
    h, w = (min(n, SIDE) for n in image.shape)
    top, left = (image.shape[0] - h) // 2, (image.shape[1] - w) // 2
    down, right = np.gradient(image[top : top + h, left : left + w])
    return np.hypot(down, right) * np.outer(np.hanning(h), np.hanning(w))


def _hash(image: color.Luma) -> bytes:
    """Difference hash: which of neighbours in a 9x8 reduction is brighter."""
    small = np.asarray(Image.fromarray(image).resize((9, 8), Image.Resampling.BOX))
    return np.packbits(small[:, 1:] > small[:, :-1]).tobytes()
