"""The loss of visual information, against VIF itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smc_jax import metrics
from smc_jax.losses import fidelity
from smc_jax.losses.fidelity import fidelity_loss


def scene(*size):
    """F, A and B with smooth and rough places of differing contrast, in whole grey levels."""
    rough = jax.random.uniform(jax.random.key(0), (3, 1, *size, 1))
    slope = jnp.broadcast_to(jnp.linspace(0, 1, size[1])[:, None], (1, *size, 1))
    images = jnp.stack([slope * rough[0], (1 - slope) * rough[1], slope])
    mixed = 0.5 * images[0] + 0.4 * images[1] + 0.1 * rough[2]
    return tuple(jnp.round(255 * v) / 255 for v in (mixed, images[0], images[1]))


@pytest.mark.parametrize("size", [(64, 64), (41, 70), (30, 20)])
def test_is_two_less_vif(size, monkeypatch):
    monkeypatch.setattr(fidelity, "FLAT", 1e-9)
    f, a, b = scene(*size)
    grey = [jnp.round(255 * v[..., 0]) for v in (a, b, f)]
    vif = metrics.evaluate(*grey, metrics=["VIF"])["VIF"]
    assert float(fidelity_loss(f, a, b)) == pytest.approx(2 - float(vif[0]), abs=2e-3)


def test_floor_matters_where_there_is_little_to_be_seen(monkeypatch):
    f, a, b = scene(64, 64)
    rich, poor = fidelity_loss(f, a, b), fidelity_loss(f / 200, a / 200, b / 200)
    monkeypatch.setattr(fidelity, "FLAT", 1e-9)
    assert float(rich) == pytest.approx(float(fidelity_loss(f, a, b)), abs=0.1)
    assert float(poor) < 0.5 * float(fidelity_loss(f / 200, a / 200, b / 200))


def test_contrast_helps_and_its_reversal_does_not():
    _, a, _ = scene(64, 64)
    mean = a.mean()
    losses = [float(fidelity_loss(mean + gain * (a - mean), a, a)) for gain in (-1, 0.5, 1, 1.5)]
    assert losses == sorted(losses, reverse=True)
    assert losses[2] == pytest.approx(0, abs=1e-3)


def test_is_the_mean_over_the_batch():
    pairs = [scene(32, 32), tuple(v[:, ::-1] for v in scene(32, 32))[::-1]]
    each = [float(fidelity_loss(*pair)) for pair in pairs]
    both = fidelity_loss(*(jnp.concatenate(v) for v in zip(*pairs, strict=True)))
    assert float(both) == pytest.approx(np.mean(each), abs=1e-5)


@pytest.mark.parametrize("size", [16, 32])
def test_flat_images_have_moderate_slopes(size):
    flat = jnp.full((1, size, size, 1), 0.5)
    speck = flat.at[0, 3, 5, 0].add(1e-6)
    value, slope = jax.value_and_grad(fidelity_loss)(speck, flat, flat)
    assert float(value) == pytest.approx(0, abs=1e-3)
    assert np.abs(np.asarray(slope)).max() < 1
