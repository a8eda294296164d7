"""The correlation of differences as a loss, against NumPy and against SCD itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smc_jax import metrics
from smc_jax.losses.correlation import FLAT, correlation_loss


def images():
    return tuple(jax.random.uniform(jax.random.key(0), (3, 2, 24, 20, 1)))


def correlation(x, y):
    (variance_x, covariance), (_, variance_y) = np.cov(x.ravel(), y.ravel(), bias=True)
    return covariance / np.sqrt((variance_x + FLAT) * (variance_y + FLAT))


def test_each_difference_with_the_other_source():
    batch = np.asarray(images(), float)
    expected = [
        2 - correlation(f - a, b) - correlation(f - b, a) for f, a, b in zip(*batch, strict=True)
    ]
    assert float(correlation_loss(*images())) == pytest.approx(np.mean(expected), rel=1e-5)


def test_is_two_less_scd():
    grey = [jnp.round(255 * v[0, ..., 0]) for v in images()]
    f, a, b = (v[None, ..., None] / 255 for v in grey)
    scd = metrics.evaluate(grey[1], grey[2], grey[0], metrics=["SCD"])["SCD"]
    assert float(correlation_loss(f, a, b)) == pytest.approx(2 - float(scd), abs=5e-3)


def test_the_sum_of_both_is_best():
    _, a, b = images()
    assert float(correlation_loss(a + b, a, b)) == pytest.approx(0, abs=5e-3)
    assert float(correlation_loss(a, a, b)) > 1


def test_flat_images_have_moderate_slopes():
    flat = jnp.full((1, 16, 16, 1), 0.5)
    speck = flat.at[0, 3, 5, 0].add(1e-6)
    slope = jax.grad(correlation_loss)(speck, flat, flat)
    assert np.abs(np.asarray(slope)).max() < 1
