"""The loss terms on edges, against SciPy and against Qabf itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage
from skimage import data

from smc_jax import metrics
from smc_jax.losses import edges


def images():
    return tuple(jax.random.uniform(jax.random.key(0), (3, 2, 24, 20, 1)))


def photographs():
    """A photograph in focus and two that are blurred in one half each, in whole grey levels."""
    sharp = data.camera()[100:196, 180:276].astype(float)
    blurred = ndimage.gaussian_filter(sharp, 2.0)
    left = np.arange(96) < 48
    scene = sharp, np.where(left, sharp, blurred), np.where(left, blurred, sharp)
    return tuple(jnp.asarray(np.round(v) / 255, jnp.float32)[None, ..., None] for v in scene)


def test_gradient():
    expected = 0
    for axis in (1, 2):
        slopes = [
            np.stack([ndimage.sobel(np.asarray(x[..., 0], float), axis - 1) for x in v]) / 8
            for v in images()
        ]
        f, a, b = (v[:, 1:-1, 1:-1] for v in slopes)
        expected += np.abs(f - np.where(np.abs(a) > np.abs(b), a, b)).mean()
    assert float(edges.gradient_loss(*images())) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("axis", [1, 2])
def test_gradient_of_ramps(axis):
    ramp = jnp.full((1, 8, 8, 1), 0.1).cumsum(axis)
    flat = jnp.zeros_like(ramp)
    for fused, apart in ((ramp, 0), (flat, 0.1), (-ramp, 0.2)):
        for sources in ((ramp, flat), (flat, ramp)):
            loss = float(edges.gradient_loss(fused, *sources))
            assert loss == pytest.approx(apart, abs=1e-6)


@pytest.mark.parametrize("gain", [0.7, 1.0, 1.4])
def test_lost_edges_are_one_less_qabf(gain):
    f, a, b = photographs()
    f = jnp.round(255 * (f.mean() + gain * (f - f.mean()).clip(-0.3, 0.3))) / 255
    grey = [jnp.round(255 * v[0, ..., 0]) for v in (a, b, f)]
    qabf = float(metrics.evaluate(*grey, metrics=["Qabf"])["Qabf"])
    assert float(edges.edge_loss(f, a, b)) == pytest.approx(1 - qabf, abs=0.05)


def test_lost_edges_of_what_could_be_made_of_two_focus_settings():
    f, a, b = photographs()
    sharp, mean, flat, turned_round = (
        float(edges.edge_loss(v, a, b)) for v in (f, (a + b) / 2, jnp.full_like(f, 0.5), -f)
    )
    assert sharp < mean < 0.9
    assert flat > 0.95
    assert turned_round > 0.95


def test_lost_edges_are_the_mean_over_the_batch():
    f, a, b = images()
    each = [float(edges.edge_loss(f[i : i + 1], a[i : i + 1], b[i : i + 1])) for i in range(2)]
    assert float(edges.edge_loss(f, a, b)) == pytest.approx(np.mean(each), abs=1e-6)


def test_flat_images_have_moderate_slopes():
    flat = jnp.full((1, 16, 16, 1), 0.5)
    speck = flat.at[0, 3, 5, 0].add(1e-6)
    value, slope = jax.value_and_grad(edges.edge_loss)(speck, flat, flat)
    assert float(value) == pytest.approx(0.025, abs=0.01)
    assert np.abs(np.asarray(slope)).max() < 10
