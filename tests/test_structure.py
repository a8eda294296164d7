"""The distance from the desired structure, against MEF-SSIM itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smc_jax import metrics
from smc_jax.losses.structure import structure_loss
from smc_jax.metrics import mef


def images(*size):
    """Rough images of differing contrast in whole grey levels: F, A and B."""
    a, b, noise = jax.random.uniform(jax.random.key(0), (3, 1, *size, 1))
    b = b * jnp.linspace(0, 1, size[1])[:, None]
    return tuple(jnp.round(255 * v) / 255 for v in (0.4 * a + 0.5 * b + 0.1 * noise, a, b))


def grey(image):
    return jnp.round(255 * image[0, ..., 0])


def test_finest_scale_is_mef_ssim():
    f, a, b = images(20, 21)
    score = metrics.evaluate(grey(a), grey(b), grey(f), metrics=["MEF_SSIM"])["MEF_SSIM"]
    assert float(structure_loss(f, a, b)) == pytest.approx(1 - float(score), abs=1e-5)


def test_scales_are_weighted():
    f, a, b = images(48, 64)
    expected, x = 0.0, [grey(v) for v in (a, b, f)]
    for weight in mef.WEIGHTS:
        expected += weight * (1 - float(mef.mef_ssim(*x)))
        x = [v.reshape(v.shape[0] // 2, 2, -1, 2).mean((1, 3)) for v in x]
    assert float(structure_loss(f, a, b)) == pytest.approx(expected / sum(mef.WEIGHTS), abs=1e-3)


def test_one_source_twice_is_agreed_with_at_any_brightness():
    f, a, _ = images(32, 32)
    assert float(structure_loss(a, a, a)) == pytest.approx(0, abs=1e-4)
    assert float(structure_loss(a - 0.3, a, a)) == pytest.approx(0, abs=1e-4)
    assert float(structure_loss(-a, a, a)) > 1.5
    assert float(structure_loss(f, a, a)) > 0.1


def test_is_the_mean_over_the_batch():
    pairs = [images(16, 32), tuple(v[:, ::-1] for v in images(16, 32))[::-1]]
    each = [float(structure_loss(*pair)) for pair in pairs]
    both = structure_loss(*(jnp.concatenate(v) for v in zip(*pairs, strict=True)))
    assert float(both) == pytest.approx(np.mean(each), abs=1e-6)


@pytest.mark.parametrize("size", [16, 32])
def test_flat_images_have_moderate_slopes(size):
    flat = jnp.full((1, size, size, 1), 0.5)
    speck = flat.at[0, 3, 5, 0].add(1e-6)
    value, slope = jax.value_and_grad(structure_loss)(speck, flat, flat)
    assert float(value) == pytest.approx(0, abs=1e-5)
    assert np.abs(np.asarray(slope)).max() < 1
