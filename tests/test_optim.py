"""Learning rates, Adam's first step and clipping against numbers worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from smc_jax import config, optim


def rates(name, steps, total=5000, floor=1e-6):
    cfg = config.Optim(lr=1e-4, schedule=name, floor=floor)
    rate = jax.jit(optim.learning_rate(cfg, total))
    return [float(rate(jnp.int32(step))) for step in steps]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("halving_cosine", [1e-4, 7.5e-5, 5e-5, 2.5e-5, 3.125e-6]),
        ("sgdr", [1e-4, 5e-5, 5e-5, 2.5e-5, 3.125e-6]),
        ("step", [1e-4, 1e-4, 5e-5, 2.5e-5, 3.125e-6]),
        ("cosine", [1e-4, 9.7553e-5, 9.0451e-5, 6.5451e-5, 1e-6]),
        ("constant", [1e-4] * 5),
    ],
)
def test_schedule(name, wanted):
    np.testing.assert_allclose(rates(name, [0, 500, 1000, 2000, 5000]), wanted, rtol=1e-4)


def test_halving_cosine_is_the_papers_formula():
    steps = np.array([0, 1, 250, 999, 1000, 1083, 1500, 2999, 4321, 6000])
    wanted = [2e-4 / 2 ** (i // 1000) * (0.75 + 0.25 * np.cos(np.pi * (i % 1000) / 1000))
              for i in steps]  # fmt: skip
    rate = jax.jit(optim.learning_rate(config.Optim(), 10_000))
    np.testing.assert_allclose([rate(jnp.int32(i)) for i in steps], wanted, rtol=1e-5)


def test_halving_cosine_is_continuous_and_falls():
    values = rates("halving_cosine", range(0, 4000, 7))
    assert (np.diff(values) <= 0).all()
    np.testing.assert_allclose(rates("halving_cosine", [999, 1000]), [5e-5, 5e-5], rtol=1e-3)


def test_floor_holds_every_schedule_up():
    for name in ("halving_cosine", "sgdr", "step", "cosine"):
        assert min(rates(name, [5000, 50_000], floor=2e-5)) == pytest.approx(2e-5)


def test_floor_does_not_lift_a_lower_rate():
    assert rates("constant", [0, 10], floor=1e-3) == pytest.approx([1e-4, 1e-4])


def test_first_adam_step_has_the_size_of_the_rate():
    transform = optim.optimizer(config.Optim(lr=1e-3, schedule="constant"), 10)
    params = {"w": jnp.array([1.0, -2.0])}
    updates, _ = transform.update({"w": jnp.array([3.0, -0.1])}, transform.init(params), params)
    np.testing.assert_allclose(updates["w"], [-1e-3, 1e-3], rtol=1e-4)


def test_clipping_limits_the_global_norm():
    gradient = {"w": jnp.full(4, 10.0), "v": jnp.full(4, 10.0)}
    free, clipped = (
        optim.optimizer(config.Optim(clip=clip, b1=0.0, b2=0.0), 10) for clip in (0.0, 1.0)
    )
    forms = [jax.tree.structure(t.init(gradient)) for t in (free, clipped)]
    assert forms[0] == forms[1], "a run could not resume with another limit"
    # With b2 = 0 the second moment is the square of the clipped gradient.
    _, state = clipped.update(gradient, clipped.init(gradient), gradient)
    nu = optax.tree.get(state, "nu")
    assert float(optax.tree.sum(nu)) == pytest.approx(1.0, rel=1e-5)
    _, state = free.update(gradient, free.init(gradient), gradient)
    assert float(optax.tree.sum(optax.tree.get(state, "nu"))) == pytest.approx(800.0)
