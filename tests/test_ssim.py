"""The SSIM of the loss against that of scikit-image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.metrics import structural_similarity

from smc_jax.losses import ssim

OPTIONS = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}


def uniform(count, *size):
    return tuple(jax.random.uniform(jax.random.key(0), (count, 2, *size, 1)))


def reference(x, y, span=1.0):
    pairs = zip(np.asarray(x, float)[..., 0], np.asarray(y, float)[..., 0], strict=True)
    return np.mean([structural_similarity(p, q, data_range=span, **OPTIONS) for p, q in pairs])


@pytest.mark.parametrize("size", [(11, 11), (16, 31), (64, 48)])
def test_ssim(size):
    x, noise = uniform(2, *size)
    for y in (noise, 0.9 * x + 0.1 * noise, 1 - x):
        assert float(ssim.ssim(x, y)) == pytest.approx(reference(x, y), abs=1e-5)


def test_faint_texture():
    # Variances of 3e-7 in a dark and a bright image: moments about 0, or about the mean of the
    # batch, lose them by cancellation (errors of 3e-6).
    ground = jnp.array([0.02, 0.95])[:, None, None, None]
    x, y = (ground + 0.002 * (v - 0.5) for v in uniform(2, 32, 32))
    assert float(ssim.ssim(x, y)) == pytest.approx(reference(x, y), abs=1e-6)


def test_faint_texture_counts_where_the_span_is_small():
    x, y = (0.02 + 0.002 * v for v in uniform(2, 32, 32))
    for span in (0.1, 0.01):
        assert float(ssim.ssim(x, y, span)) == pytest.approx(reference(x, y, span), abs=1e-4)
    assert float(ssim.ssim_loss(x, y, y, 0.01)) > 2 * float(ssim.ssim_loss(x, y, y))


def test_loss_and_its_slope():
    f, a, b = uniform(3, 24, 24)
    wide = np.asarray(f, float)
    step = 1e-4 * (np.asarray(a, float) - wide)

    def expected(x):
        return 1 - (reference(x, a) + reference(x, b)) / 2

    value, slope = jax.value_and_grad(ssim.ssim_loss)(f, a, b)
    assert float(value) == pytest.approx(expected(f), abs=1e-5)
    change = expected(wide + step) - expected(wide - step)
    assert np.vdot(slope, 2 * step) == pytest.approx(change, rel=1e-3)
