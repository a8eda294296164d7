"""The selective scan of scalar tokens, by every method and by kernels, against a float64 loop."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smc_jax.selective_scan import METHODS, platforms, scalars
from smc_jax.selective_scan.scalars import ScalarSSM
from smc_jax.selective_scan.softplus import softplus
from tests.test_pallas import InterpretGPUParams
from tests.test_selective_scan import error, token_loop

# Groups, sequences, tokens, states, directions.
SHAPES = {
    "one token": (1, 3, 1, 2, 2),
    "one direction": (2, 5, 8, 4, 1),
    "prime length": (2, 3, 11, 2, 2),
    "several strides": (3, 4, 24, 4, 2),
    "several blocks": (1, 300, 2, 1, 2),
}


def draw(groups, sequences, length, states, directions, scale=1.0):
    r = np.random.default_rng(0)
    lead = (directions, groups)
    slope, constant = r.standard_normal((2, *lead, 1 + 2 * states))
    constant[..., 0] -= 3  # steps about as small as Mamba's
    rates = -np.exp(r.standard_normal((*lead, states)))
    arrays = slope * scale, constant, rates, r.standard_normal(lead)
    x, dy = r.standard_normal((2, groups, sequences, length))
    x, dy, *ssm = (jnp.asarray(v, jnp.float32) for v in (x, dy, *arrays))
    return x, ScalarSSM(*ssm), dy


def loop(x, ssm):
    """Returns y in float64, one direction and one group at a time."""
    x, *ssm = (np.asarray(v, np.float64) for v in (x, *ssm))
    y = np.zeros_like(x)
    for direction, (slope, constant, rates, skips) in enumerate(zip(*ssm, strict=True)):
        for g, (A, D) in enumerate(zip(rates, skips, strict=True)):
            affine = x[g, :, :, None] * slope[g] + constant[g]
            dt = np.logaddexp(0, affine[..., :1])
            B, C = np.split(affine[:, :, None, 1:], 2, -1)
            states = np.zeros((len(dt), 1, len(A)))
            nothing = x[g][..., None] * 0, states
            y[g] += token_loop(
                x[g][..., None], dt, A[None], B, C, D[None], states, *nothing, bool(direction)
            )[0][..., 0]
    return y


def run(x, ssm, dy, method):
    function = functools.partial(scalars.scan, method=method)
    y, back = jax.vjp(function, x, ssm)
    return y, *jax.tree.leaves(back(dy))


def check(got, x, ssm, dy, value=1e-6, gradient=1e-5):
    assert error(got[0], loop(x, ssm)) < value
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda v: jnp.asarray(np.asarray(v), jnp.float64), (x, ssm, dy))
        _, *wanted = jax.jit(functools.partial(run, method="reference"))(*wide)
    for ours, theirs in zip(got[1:], wanted, strict=True):
        assert error(ours, np.asarray(theirs)) < gradient


@pytest.mark.parametrize("method", [method for method in METHODS if method != "pallas"])
def test_every_method_equals_the_loop(method):
    x, ssm, dy = draw(2, 70, 9, 3, 2)
    check(jax.jit(functools.partial(run, method=method))(x, ssm, dy), x, ssm, dy)


@pytest.fixture
def interpreted(monkeypatch):
    partials = (functools.partial(k, interpret=InterpretGPUParams()) for k in scalars.KERNELS)
    monkeypatch.setattr(scalars, "KERNELS", type(scalars.KERNELS)(*partials))
    scalars._function.cache_clear()
    yield
    scalars._function.cache_clear()


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.usefixtures("interpreted")
def test_kernels_equal_the_loop(shape):
    x, ssm, dy = draw(*shape)
    check(run(x, ssm, dy, "pallas"), x, ssm, dy)


@pytest.mark.parametrize("scale", [0.0, 100.0])
@pytest.mark.usefixtures("interpreted")
def test_no_step_size_overflows(scale):
    x, ssm, dy = draw(1, 3, 6, 2, 2, scale)
    check(run(x, ssm, dy, "pallas"), x, ssm, dy, 2e-6, 2e-5)


def test_under_vmap():
    x, ssm, dy = draw(2, 6, 7, 2, 2)
    mapped = jax.vmap(functools.partial(run, method="chunked"), (0, 1, 0), 0)
    one = jax.tree.map(lambda v: v[:, :, None], ssm)
    got = mapped(x[:, None], one, dy[:, None])
    wanted = run(x, ssm, dy, "chunked")
    np.testing.assert_allclose(got[0][:, 0], wanted[0], rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(got[2:], wanted[2:], strict=True):
        np.testing.assert_allclose(ours[:, :, 0].swapaxes(0, 1), theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("tokens", "states", "kernels"),
    # 101 is prime: with a stride of 1, shared memory does not hold the gradient's states.
    [(64, 4, 2), (64, 8, 2), (67, 4, 2), (101, 4, 13)],
)
def test_compiles_for_a_gpu(tokens, states, kernels):
    """As far as possible without one."""
    arguments = draw(2, 300, tokens, states, 2)
    step = jax.jit(functools.partial(run, method="pallas"))
    text = step.trace(*arguments).lower(lowering_platforms=("cuda",)).as_text()
    assert text.count("@mosaic_gpu_v2") == kernels


def test_auto_takes_the_kernels_for_what_fits_a_lane(monkeypatch):
    monkeypatch.setattr(platforms, "has_kernels", lambda: True)
    step = jax.jit(functools.partial(run, method="auto"))
    for states, taken in ((16, True), (17, False)):
        traced = step.trace(*draw(1, 3, 4, states, 1))
        text = traced.lower(lowering_platforms=("cuda",)).as_text()
        assert ("scalar_scan" in text) == taken


def test_unknown_method():
    x, ssm, _ = draw(1, 2, 3, 2, 1)
    with pytest.raises(ValueError, match="unknown method 'two-level'; it may be auto, reference"):
        scalars.scan(x, ssm, "two-level")


@pytest.mark.parametrize("name", ["forward", "backward"])
def test_other_platforms_are_named(name):
    x, ssm, dy = draw(1, 2, 3, 2, 1)
    given = (x, *ssm) if name == "forward" else (x, *ssm, dy)
    traced = jax.jit(getattr(scalars.KERNELS, name)).trace(*given)
    with pytest.raises(ValueError, match="this is cpu: take method='auto'"):
        traced.lower(lowering_platforms=("cpu",))


@pytest.mark.gpu
@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("shape", [*SHAPES.values(), (8, 1000, 64, 4, 2), (2, 700, 37, 4, 2)])
def test_kernels_equal_the_loop_on_gpu(shape):
    x, ssm, dy = draw(*shape)
    step = jax.jit(functools.partial(run, method="pallas"))
    check(step(x, ssm, dy), x, ssm, dy, 2e-6, 2e-5)


@pytest.mark.gpu
@pytest.mark.usefixtures("gpu")
def test_is_the_same_every_time_on_gpu():
    arguments = draw(4, 40000, 64, 4, 2)
    step = jax.jit(functools.partial(run, method="auto"))
    assert "mosaic_gpu_v2" in step.lower(*arguments).as_text()
    jax.tree.map(np.testing.assert_array_equal, step(*arguments), step(*arguments))


def test_softplus_is_exact_to_the_last_bits():
    v = jnp.asarray([*np.linspace(-87, 87, 10001), -1e30, 0, 1e30], jnp.float32)
    u = np.exp(-np.abs(np.asarray(v, np.float64)))
    wanted = np.maximum(v, 0) + np.log1p(u)
    np.testing.assert_allclose(softplus(v), wanted, rtol=3e-7)
    slope = jax.vmap(jax.grad(softplus))(v)
    np.testing.assert_allclose(slope, np.where(v >= 0, 1, u) / (1 + u), rtol=3e-7)


def test_softplus_of_what_is_no_number_and_of_other_types():
    np.testing.assert_array_equal(
        softplus(jnp.array([jnp.inf, -jnp.inf, jnp.nan])), [np.inf, 0, np.nan]
    )
    assert softplus(jnp.ones(2, jnp.bfloat16)).dtype == jnp.bfloat16
    with jax.enable_x64():
        v = jnp.asarray([-20.0, -1.0, 0.0])
        np.testing.assert_allclose(softplus(v), np.log1p(np.exp(v)), rtol=1e-15)
