"""The loss term on brightness, against NumPy and SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from smc_jax.config import TASKS
from smc_jax.losses import intensity


def images():
    return tuple(jax.random.uniform(jax.random.key(0), (3, 2, 24, 20, 1)))


@pytest.mark.parametrize("rule", ["max", "mean"])
def test_intensity(rule):
    f, a, b = (np.asarray(v, float) for v in images())
    expected = np.abs(f - getattr(np, rule)([a, b], axis=0)).mean()
    assert float(intensity.intensity_loss(*images(), rule)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("by_task", "focus"), [("task", "sharper"), ("task_mean", "mean")])
def test_each_pair_by_the_rule_of_its_task(by_task, focus):
    f, a, b = images()
    task = jnp.array([2, 0])
    apart = [
        float(intensity.intensity_loss(f[i : i + 1], a[i : i + 1], b[i : i + 1], rule))
        for i, rule in enumerate((focus, "max"))
    ]
    assert (TASKS[2], TASKS[0]) == ("mfif", "ivif")
    loss = intensity.intensity_loss(f, a, b, by_task, task)
    assert float(loss) == pytest.approx(np.mean(apart), rel=1e-5)


def test_sharper():
    sharp = jax.random.uniform(jax.random.key(1), (1, 40, 48, 1))
    blurred = jnp.asarray(ndimage.gaussian_filter(np.asarray(sharp), (0, 2, 2, 0)))
    left = jnp.arange(48)[:, None] < 24
    a, b = jnp.where(left, sharp, blurred), jnp.where(left, blurred, sharp)
    wrong = np.asarray(intensity.sharper(a, b) != sharp)[..., 0]
    assert not wrong[:, :, :22].any()
    assert not wrong[:, :, 26:].any()
    assert float(intensity.intensity_loss(sharp, a, b, "sharper")) < 0.01
    assert float(intensity.intensity_loss(sharp, a, b, "mean")) > 0.05
