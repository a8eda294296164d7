"""The terms on brightness and edges against NumPy and SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from smc_jax.losses import intensity


def images():
    return tuple(jax.random.uniform(jax.random.key(0), (3, 2, 24, 20, 1)))


@pytest.mark.parametrize("rule", ["max", "mean"])
def test_intensity(rule):
    f, a, b = (np.asarray(v, float) for v in images())
    expected = np.abs(f - getattr(np, rule)([a, b], axis=0)).mean()
    assert float(intensity.intensity_loss(*images(), rule)) == pytest.approx(expected, rel=1e-5)


def test_intensity_by_task():
    task = jnp.array([1, 3])
    found = float(intensity.intensity_loss(*images(), "task", task))
    rules = [
        intensity.intensity_loss(*(v[i : i + 1] for v in images()), rule)
        for i, rule in enumerate(("max", "mean"))
    ]
    assert found == pytest.approx(float(sum(rules)) / 2, rel=1e-6)


def test_gradient():
    expected = 0
    for axis in (1, 2):
        slopes = [
            np.stack([ndimage.sobel(np.asarray(x[..., 0], float), axis - 1) for x in v]) / 8
            for v in images()
        ]
        f, a, b = (v[:, 1:-1, 1:-1] for v in slopes)
        expected += np.abs(f - np.where(np.abs(a) > np.abs(b), a, b)).mean()
    assert float(intensity.gradient_loss(*images())) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("axis", [1, 2])
def test_gradient_of_ramps(axis):
    ramp = jnp.full((1, 8, 8, 1), 0.1).cumsum(axis)
    flat = jnp.zeros_like(ramp)
    for fused, apart in ((ramp, 0), (flat, 0.1), (-ramp, 0.2)):
        for sources in ((ramp, flat), (flat, ramp)):
            loss = float(intensity.gradient_loss(fused, *sources))
            assert loss == pytest.approx(apart, abs=1e-6)
