"""Synthetic images for the tests of the metrics, and the folder of the reference values."""

from pathlib import Path

import numpy as np
import pytest
from scipy import signal

ORACLE = Path(__file__).parents[2] / "shared" / "oracle"


def scene(seed, h, w, flat=False):
    """Smooth shapes and a little noise; `flat` adds a flat background on two sides."""
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(h, w))
    for _ in range(3):
        image = signal.convolve2d(image, np.ones((5, 5)) / 25, "same", "symm")
    image = 120 + 400 * image + rng.normal(0, 2, (h, w))
    if flat:
        image[: h // 3] = 0
        image[:, -w // 4 :] = 255
    return np.clip(np.round(image), 0, 255).astype(np.uint8)


def average(a, b):
    return ((a.astype(int) + b + 1) // 2).astype(np.uint8)


def triples():
    cases = []
    for h, w, flat in ((61, 47, False), (48, 80, True), (26, 90, False)):
        a, b = scene(1, h, w, flat), scene(2, h, w, flat)
        cases.append(pytest.param(a, b, scene(3, h, w), id=f"{h}x{w}-other"))
        cases.append(pytest.param(a, b, np.maximum(a, b), id=f"{h}x{w}-max"))
        cases.append(pytest.param(a, b, average(a, b), id=f"{h}x{w}-avg"))
    return cases
