"""The loss on what neither source has: halos cost, what the sources have does not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smc_jax.losses.artefacts import SIDES, artefact_loss
from smc_jax.losses.edges import FAINT


def images(height=48, width=40):
    return tuple(jax.random.uniform(jax.random.key(0), (3, 2, height, width, 1)))


def steepness(image):
    across = np.zeros((image.shape[0] - 2, image.shape[1] - 2))
    down = across.copy()
    for (i, j), _ in np.ndenumerate(across):
        part = image[i : i + 3, j : j + 3]
        across[i, j] = ((part[:, 2] - part[:, 0]) @ (1, 2, 1)) / 8
        down[i, j] = ((part[2] - part[0]) @ (1, 2, 1)) / 8
    return np.sqrt(across**2 + down**2 + FAINT**2)


def test_is_what_it_says():
    expected = []
    for f, a, b in zip(*(np.asarray(v, float)[..., 0] for v in images()), strict=True):
        for side in SIDES:
            means = [
                v[: len(v) // side * side, : v.shape[1] // side * side]
                .reshape(len(v) // side, side, v.shape[1] // side, side)
                .mean((1, 3))
                for v in (f, a, b)
            ]
            of_f, of_a, of_b = map(steepness, means)
            expected.append(np.maximum(of_f - np.maximum(of_a, of_b), 0).mean())
    assert float(artefact_loss(*images())) == pytest.approx(np.mean(expected), rel=1e-5)


def test_sources_their_mean_and_less_contrast_cost_nothing():
    _, a, b = images()
    for f in (a, b, (a + b) / 2, 0.5 * a):
        assert float(artefact_loss(f, a, b)) == 0


def test_a_dark_outline_costs():
    """An object that is bright in one source before a sky that is bright in the other."""
    columns = jnp.broadcast_to(jnp.arange(64), (1, 64, 64))[..., None]
    thing = columns < 24
    a, b = jnp.where(thing, 0.8, 0.1), jnp.where(thing, 0.1, 0.7)
    brighter = jnp.maximum(a, b)
    outlined = jnp.where((columns >= 24) & (columns < 34), 0.1, brighter)
    assert float(artefact_loss(brighter, a, b)) == 0
    assert float(artefact_loss(outlined, a, b)) > 0.01


@pytest.mark.parametrize("size", [16, 17, 24])
def test_small_crops(size):
    value, slope = jax.value_and_grad(artefact_loss)(*images(size, size))
    assert np.isfinite(value)
    assert np.isfinite(slope).all()


def test_flat_images_have_moderate_slopes():
    flat = jnp.full((1, 32, 32, 1), 0.5)
    speck = flat.at[0, 3, 5, 0].add(1e-6)
    slope = jax.grad(artefact_loss)(speck, flat, flat)
    assert np.abs(np.asarray(slope)).max() < 1
