"""The loss terms on experts, against float64 loops and cases worked out by hand."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smc_jax.losses import experts


def four():
    """The outputs of four experts for two images."""
    return jax.random.uniform(jax.random.key(0), (4, 2, 8, 6, 4)) - 0.3


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ([0.5, 0.5, 0, 0], 1),
        ([1, 0, 0, 0], 3),
        ([0.25] * 4, 0),
        ([0.75, 0.25, 0, 0], 1.5),
        ([1], 0),
    ],
)
def test_balance_by_hand(weights, expected):
    assert float(experts.balance(jnp.array([weights], float))) == pytest.approx(expected, abs=1e-6)


def test_balance_is_of_each_image():
    weights = jnp.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0.5, 0.5]])
    assert float(experts.balance(weights)) == pytest.approx((3 + 3 + 1) / 3)


def test_running_balance():
    running = np.array([0.4, 0.3, 0.2, 0.1])
    now = jnp.array([[0.7, 0.1, 0.1, 0.1], [0.1, 0.2, 0.3, 0.4]])

    def ratio(mean):
        return mean.var() / mean.mean() ** 2

    value, gradient = jax.value_and_grad(experts.running_balance)(now, jnp.array(running))
    assert float(value) == pytest.approx(ratio(running), rel=1e-5)
    # The slope at the running mean, shared by the two images.
    slope = [(ratio(running + d) - ratio(running - d)) / 2e-6 for d in 1e-6 * np.eye(4)]
    np.testing.assert_allclose(gradient, np.tile(slope, (2, 1)) / 2, rtol=1e-4, atol=1e-6)


def vectors(*rows):
    """Experts whose outputs are these vectors, each over the channels of one pixel."""
    return jnp.array(rows, jnp.float32)[:, None, None, None]


SIMPLEX = vectors((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1))
HALF = math.sqrt(0.5)


@pytest.mark.parametrize(
    ("outputs", "free", "clamped"),
    [
        (SIMPLEX, -1 / 3, 0),
        (7 * jnp.ones((4, 1, 2, 2, 3)), 1, 1),
        (vectors((1, 0), (-2, 0)), -1, 0),
        # Cosines -1, 0.707 and -0.707: each pair is clamped, not their mean.
        (vectors((1, 0), (-1, 0), (1, 1)), -1 / 3, HALF / 3),
        (vectors((0, 0), (1, 0)), 0, 0),
        (vectors((1, 2, 3)), 0, 0),
    ],
)
def test_diversity_by_hand(outputs, free, clamped):
    assert float(experts.diversity(outputs)) == pytest.approx(free, abs=1e-5)
    assert float(experts.diversity(outputs, clamp=True)) == pytest.approx(clamped, abs=1e-5)


def test_diversity():
    outputs, cosines = four(), []
    for image in range(2):
        for i, j in itertools.permutations(range(4), 2):
            x, y = (np.asarray(outputs[k, image], float).ravel() for k in (i, j))
            cosines.append(x @ y / math.sqrt((x @ x) * (y @ y)))
    assert float(experts.diversity(outputs)) == pytest.approx(np.mean(cosines), abs=1e-5)


def test_diversity_of_dead_experts_has_no_steep_slope():
    for dead in (0, slice(None)):
        slope = jax.grad(experts.diversity)(four().at[dead].set(0))
        assert float(jnp.linalg.norm(slope)) < 1e3


def test_consensus():
    outputs, weights = four(), jnp.array([[0.7, 0.3, 0, 0], [0, 0.4, 0, 0.6]])
    expected = []
    for image in range(2):
        x, w = np.asarray(outputs[:, image], float), weights[image]
        agreed = sum(w[i] * x[i] for i in range(4))
        expected.append(sum(w[i] * np.mean((x[i] - agreed) ** 2) for i in range(4)))
    fused = jnp.einsum("be,ebhwc->bhwc", weights, outputs)
    ours = experts.consensus(outputs, fused, weights)
    assert float(ours) == pytest.approx(np.mean(expected), rel=1e-5)


@pytest.mark.parametrize(("progress", "expected"), [(0.0, 1), (0.5, HALF), (2 / 3, 0.5), (1.0, 0)])
def test_progress_weight(progress, expected):
    assert float(experts.lambda_t(progress)) == pytest.approx(expected, abs=1e-6)
