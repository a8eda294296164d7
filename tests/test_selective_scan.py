"""Every method of the selective scan against a float64 loop that shares no code with it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smc_jax.selective_scan import METHODS, selective_scan

NAMES = ("x", "dt", "A", "B", "C", "D")


def token_loop(x, dt, A, B, C, D, dy, reverse):
    """y and the gradients of sum(y * dy), in float64, a token and a channel at a time."""
    x, dt, A, B, C, D, dy = (np.asarray(v, np.float64) for v in (x, dt, A, B, C, D, dy))
    batch, length, width = x.shape
    share = width // B.shape[2]
    order = range(length)[::-1] if reverse else range(length)
    y = np.zeros_like(x)
    dx, ddt, dA, dB, dC = (np.zeros_like(v) for v in (x, dt, A, B, C))
    for b in range(batch):
        for c in range(width):
            g = c // share
            h, states = np.zeros(A.shape[1]), []
            for t in order:
                states.append(h)
                h = np.exp(dt[b, t, c] * A[c]) * h + dt[b, t, c] * B[b, t, g] * x[b, t, c]
                y[b, t, c] = C[b, t, g] @ h + D[c] * x[b, t, c]
                dC[b, t, g] += dy[b, t, c] * h
            q = np.zeros(A.shape[1])
            for t, before in zip(list(order)[::-1], states[::-1], strict=True):
                q = q + dy[b, t, c] * C[b, t, g]
                a = np.exp(dt[b, t, c] * A[c])
                dA[c] += q * a * before * dt[b, t, c]
                ddt[b, t, c] = q @ (A[c] * a * before + B[b, t, g] * x[b, t, c])
                dx[b, t, c] = q @ B[b, t, g] * dt[b, t, c] + D[c] * dy[b, t, c]
                dB[b, t, g] += q * dt[b, t, c] * x[b, t, c]
                q = q * a
    return y, (dx, ddt, dA, dB, dC, (dy * x).sum((0, 1)))


def draw(batch, length, groups, width, state, seed=0, dt_scale=0.1, dtype=np.float32):
    r = np.random.default_rng(seed)
    channels = groups * width
    x, dy = r.standard_normal((2, batch, length, channels))
    dt = dt_scale * r.uniform(0, 1, (batch, length, channels))
    A = -np.exp(r.uniform(0, 2.5, (channels, state)))
    B, C = r.standard_normal((2, batch, length, groups, state))
    D = r.standard_normal(channels)
    return [jnp.asarray(v, dtype) for v in (x, dt, A, B, C, D, dy)]


def run(arguments, dy, **options):
    def loss(*arguments):
        y = selective_scan(*arguments, **options)
        return (y * dy).sum(), y

    (_, y), gradients = jax.jit(jax.value_and_grad(loss, range(6), has_aux=True))(*arguments)
    return y, gradients


def error(got, wanted):
    return float(
        np.abs(np.asarray(got, np.float64) - wanted).max() / max(np.abs(wanted).max(), 1e-30)
    )


SHAPES = {
    "one token": (1, 1, 1, 3, 2),
    "prime length, two groups": (2, 67, 2, 4, 3),
    "several blocks of scans": (5, 9, 3, 16, 16),
    "scalar channels": (600, 7, 1, 1, 4),
    "several chunks": (1, 150, 1, 8, 16),
}


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize("method", METHODS)
def test_equals_token_loop(method, shape, reverse):
    *arguments, dy = draw(*shape)
    y, gradients = run(arguments, dy, method=method, reverse=reverse)
    wanted, wanted_gradients = token_loop(*arguments, dy, reverse)
    assert error(y, wanted) < 1e-6
    for name, got, want in zip(NAMES, gradients, wanted_gradients, strict=True):
        assert error(got, want) < 1e-5, f"gradient of {name}"


@settings(max_examples=15, deadline=None)
@given(
    batch=st.integers(1, 3),
    length=st.integers(1, 40),
    groups=st.integers(1, 3),
    width=st.integers(1, 4),
    state=st.integers(1, 4),
    chunk=st.integers(1, 50),
    reverse=st.booleans(),
)
def test_chunked_for_any_shape(batch, length, groups, width, state, chunk, reverse):
    *arguments, dy = draw(batch, length, groups, width, state, seed=length)
    y, gradients = run(arguments, dy, method="chunked", chunk=chunk, reverse=reverse)
    wanted, wanted_gradients = token_loop(*arguments, dy, reverse)
    assert error(y, wanted) < 1e-6
    for name, got, want in zip(NAMES, gradients, wanted_gradients, strict=True):
        assert error(got, want) < 1e-5, f"gradient of {name}"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dt_scale", [0.0, 1e-6, 1e3])
def test_no_step_size_overflows(method, dt_scale):
    *arguments, dy = draw(1, 70, 1, 2, 4, dt_scale=dt_scale)
    y, gradients = run(arguments, dy, method=method)
    wanted, wanted_gradients = token_loop(*arguments, dy, False)
    assert error(y, wanted) < 1e-6
    for name, got, want in zip(NAMES, gradients, wanted_gradients, strict=True):
        assert error(got, want) < 1e-5, f"gradient of {name}"


@pytest.mark.parametrize("method", METHODS)
def test_float64_under_x64(method):
    with jax.enable_x64(True):
        *arguments, dy = draw(1, 33, 2, 3, 4, dtype=np.float64)
        y, gradients = run(arguments, dy, method=method)
        wanted, wanted_gradients = token_loop(*arguments, dy, False)
        assert y.dtype == jnp.float64
        assert error(y, wanted) < 1e-13
        for got, want in zip(gradients, wanted_gradients, strict=True):
            assert error(got, want) < 1e-12


@pytest.mark.parametrize("method", METHODS)
def test_bfloat16_keeps_a_float32_state(method):
    *arguments, _ = draw(1, 200, 1, 4, 8)
    halves = [v.astype(jnp.bfloat16) for v in arguments]
    y = selective_scan(*halves, method=method)
    exact = selective_scan(*(v.astype(jnp.float32) for v in halves), method="reference")
    assert y.dtype == jnp.bfloat16
    assert error(y, np.asarray(exact, np.float64)) < 2**-8


@pytest.mark.parametrize("method", METHODS)
def test_vmap_equals_batch(method):
    x, dt, A, B, C, D, _ = draw(3, 20, 2, 4, 3)

    def one(x, dt, B, C):
        return selective_scan(x[None], dt[None], A, B[None], C[None], D, method=method)[0]

    together = selective_scan(x, dt, A, B, C, D, method=method)
    np.testing.assert_allclose(jax.vmap(one)(x, dt, B, C), together, rtol=1e-5, atol=1e-6)


def test_one_group_may_be_left_out():
    x, dt, A, B, C, D, _ = draw(2, 10, 1, 4, 3)
    np.testing.assert_array_equal(
        selective_scan(x, dt, A, B[:, :, 0], C[:, :, 0], D), selective_scan(x, dt, A, B, C, D)
    )


def test_unknown_method_and_unfit_shapes_are_named():
    x, dt, A, B, C, D, _ = draw(1, 10, 1, 4, 3)
    with pytest.raises(ValueError, match="associative"):
        selective_scan(x, dt, A, B, C, D, method="fast")
    B, C = (jnp.repeat(v, 2, axis=2) for v in (B, C))
    with pytest.raises(ValueError, match="must divide"):
        selective_scan(x[..., :3], dt[..., :3], A[:3], B, C)
