"""The distance from the ground truth, against SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from smc_jax.losses.truth import truth_loss


def test_values_and_slopes_count():
    fused, truth = np.random.default_rng(0).uniform(size=(2, 20, 24))
    expected = np.abs(fused - truth).mean()
    for axis in (0, 1):
        slopes = ndimage.sobel(fused - truth, axis)[1:-1, 1:-1] / 8
        expected += np.abs(slopes).mean()
    found = truth_loss(*(jnp.asarray(v[None, ..., None]) for v in (fused, truth)))
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_what_is_not_known_counts_as_met():
    fused, truth = jax.random.uniform(jax.random.key(0), (2, 2, 20, 24, 1))
    loss, slope = jax.value_and_grad(truth_loss)(fused, truth.at[1].set(-1))
    assert float(loss) == pytest.approx(float(truth_loss(fused[:1], truth[:1])) / 2, rel=1e-5)
    assert bool((slope[0] != 0).any())
    assert float(jnp.abs(slope[1]).max()) == 0
