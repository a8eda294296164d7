"""Every method of the selective scan against a float64 loop that shares no code with it."""

import functools
import inspect

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import smc_jax
from smc_jax.selective_scan import METHODS as ALL
from smc_jax.selective_scan import analytic, selective_scan

# The methods that run on every platform; the kernels have their own tests.
METHODS = [method for method in ALL if method != "pallas"]
ANALYTIC = [method for method in analytic.METHODS if method != "pallas"]
# Without the type checks that the tests add, which would fail first.
unchecked = inspect.unwrap(selective_scan)
NAMES = ("x", "dt", "A", "B", "C", "D", "initial_state")


def token_loop(x, dt, A, B, C, D, start, dy, dend, reverse):
    """Runs the scan in float64, one token of one channel at a time.

    Returns y, the final state h, and the gradients of sum(y dy) + sum(h dend).
    """
    x, dt, A, B, C, D, start, dy, dend = (
        np.asarray(v, np.float64) for v in (x, dt, A, B, C, D, start, dy, dend)
    )
    batch, length, width = x.shape
    share = width // B.shape[2]
    order = range(length)[::-1] if reverse else range(length)
    y, end, dstart = np.zeros_like(x), np.zeros_like(start), np.zeros_like(start)
    dx, ddt, dA, dB, dC = (np.zeros_like(v) for v in (x, dt, A, B, C))
    for b in range(batch):
        for c in range(width):
            g = c // share
            h, states = start[b, c], []
            for t in order:
                states.append(h)
                h = np.exp(dt[b, t, c] * A[c]) * h + dt[b, t, c] * B[b, t, g] * x[b, t, c]
                y[b, t, c] = C[b, t, g] @ h + D[c] * x[b, t, c]
                dC[b, t, g] += dy[b, t, c] * h
            end[b, c], q = h, dend[b, c]
            for t, before in zip(list(order)[::-1], states[::-1], strict=True):
                q = q + dy[b, t, c] * C[b, t, g]
                a = np.exp(dt[b, t, c] * A[c])
                dA[c] += q * a * before * dt[b, t, c]
                ddt[b, t, c] = q @ (A[c] * a * before + B[b, t, g] * x[b, t, c])
                dx[b, t, c] = q @ B[b, t, g] * dt[b, t, c] + D[c] * dy[b, t, c]
                dB[b, t, g] += q * dt[b, t, c] * x[b, t, c]
                q = q * a
            dstart[b, c] = q
    return y, end, (dx, ddt, dA, dB, dC, (dy * x).sum((0, 1)), dstart)


def draw(batch, length, groups, width, state, seed=0, dt_scale=0.1, dtype=np.float32):
    r = np.random.default_rng(seed)
    channels = groups * width
    x, dy = r.standard_normal((2, batch, length, channels))
    dt = dt_scale * r.uniform(0, 1, (batch, length, channels))
    A = -np.exp(r.uniform(0, 2.5, (channels, state)))
    B, C = r.standard_normal((2, batch, length, groups, state))
    D = r.standard_normal(channels)
    start, dend = r.standard_normal((2, batch, channels, state))
    return [jnp.asarray(v, dtype) for v in (x, dt, A, B, C, D, start, dy, dend)]


def run(arguments, **options):
    *arguments, dy, dend = arguments

    def loss(*arguments):
        *arguments, start = arguments
        y, end = selective_scan(*arguments, initial_state=start, return_final_state=True, **options)
        return (y * dy).sum() + (end * dend).sum(), (y, end)

    grad = jax.value_and_grad(loss, range(len(NAMES)), has_aux=True)
    (_, (y, end)), gradients = jax.jit(grad)(*arguments)
    return y, end, gradients


def check(got, wanted, value=1e-6, gradient=1e-5):
    assert error(got[0], wanted[0]) < value
    assert error(got[1], wanted[1]) < value, "final state"
    for name, ours, theirs in zip(NAMES, got[2], wanted[2], strict=True):
        assert error(ours, theirs) < gradient, f"gradient of {name}"


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
    "wide scans, which the gradient divides": (2, 70, 2, 64, 8),
    "scans too wide for a block": (2, 19, 2, 320, 16),
}


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize("method", METHODS)
def test_equals_token_loop(method, shape, reverse):
    arguments = draw(*shape)
    check(run(arguments, method=method, reverse=reverse), token_loop(*arguments, reverse))


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    batch=st.integers(1, 3),
    length=st.integers(1, 40),
    groups=st.integers(1, 3),
    width=st.integers(1, 4),
    state=st.integers(1, 4),
    chunk=st.integers(1, 50),
    reverse=st.booleans(),
    method=st.sampled_from(ANALYTIC),
)
def test_any_shape_and_chunk(batch, length, groups, width, state, chunk, reverse, method):
    arguments = draw(batch, length, groups, width, state, seed=length)
    got = run(arguments, method=method, chunk=chunk, reverse=reverse)
    # Sums of few terms that cancel have fewer exact digits than those of the shapes above.
    check(got, token_loop(*arguments, reverse), value=1e-5, gradient=1e-4)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dt_scale", [0.0, 1e-6, 1e3])
def test_no_step_size_overflows(method, dt_scale):
    arguments = draw(1, 70, 1, 2, 4, dt_scale=dt_scale)
    check(run(arguments, method=method), token_loop(*arguments, False))


@pytest.mark.parametrize("method", METHODS)
def test_float64_under_x64(method):
    with jax.enable_x64(True):
        arguments = draw(1, 33, 2, 3, 4, dtype=np.float64)
        got = run(arguments, method=method)
        assert got[0].dtype == jnp.float64
        check(got, token_loop(*arguments, False), value=1e-13, gradient=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_bfloat16_keeps_a_float32_state(method):
    halves = [v.astype(jnp.bfloat16) for v in draw(1, 200, 1, 4, 8)[:6]]
    y = selective_scan(*halves, method=method)
    exact = selective_scan(*(v.astype(jnp.float32) for v in halves), method="reference")
    assert y.dtype == jnp.bfloat16
    assert error(y, np.asarray(exact, np.float64)) < 2**-8


@pytest.mark.parametrize("method", METHODS)
def test_vmap_equals_batch(method):
    x, dt, A, B, C, D, *_ = draw(3, 20, 2, 4, 3)

    def one(x, dt, B, C):
        return selective_scan(x[None], dt[None], A, B[None], C[None], D, method=method)[0]

    together = selective_scan(x, dt, A, B, C, D, method=method)
    np.testing.assert_allclose(jax.vmap(one)(x, dt, B, C), together, rtol=1e-5, atol=1e-6)


def test_the_package_offers_the_function():
    assert smc_jax.selective_scan is selective_scan
    assert all(hasattr(smc_jax, name) for name in smc_jax.__all__)


def test_one_group_may_be_left_out():
    x, dt, A, B, C, D, *_ = draw(2, 10, 1, 4, 3)
    np.testing.assert_array_equal(
        selective_scan(x, dt, A, B[:, :, 0], C[:, :, 0], D), selective_scan(x, dt, A, B, C, D)
    )


@pytest.mark.parametrize("method", METHODS)
def test_gradient_under_vmap(method):
    """Even where the mapped scans share some arguments."""
    x, dt, A, B, C, D, *_ = draw(3, 20, 2, 4, 3)
    rates = jnp.stack([A, 2 * A, 3 * A])

    def loss(x, A, B, C):
        return (selective_scan(x[None], dt[:1], A, B[None], C[None], D, method=method) ** 2).sum()

    grad = jax.grad(loss, range(4))
    mapped = jax.jit(jax.vmap(grad, (0, 0, None, 0)))(x, rates, B[0], C)
    for i in range(3):
        one = grad(x[i], rates[i], B[0], C[i])
        for got, want in zip(mapped, one, strict=True):
            np.testing.assert_allclose(got[i], want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", ANALYTIC)
def test_mapped_scans_share_one_call(method):
    """Mapping twice adds no loop: the scans do not run one by one."""
    x, dt, A, B, C, *_ = draw(6, 20, 1, 4, 3)

    def one(x, dt, B, C):
        return selective_scan(x[None], dt[None], A, B[None], C[None], method=method)[0]

    def count(function, *arguments):
        text = jax.jit(function).lower(*arguments).as_text()
        return text.count("stablehlo.while")

    once = count(one, *(v[0] for v in (x, dt, B, C)))
    twice = [v.reshape(2, 3, *v.shape[1:]) for v in (x, dt, B, C)]
    assert count(jax.vmap(jax.vmap(one)), *twice) == once
    np.testing.assert_allclose(
        jax.vmap(jax.vmap(one))(*twice).reshape(x.shape), jax.vmap(one)(x, dt, B, C), rtol=1e-6
    )


@pytest.mark.parametrize("method", METHODS)
def test_two_halves_make_a_whole(method):
    """The final state of one part of a sequence is all that the next part needs of it."""
    x, dt, A, B, C, D, start, *_ = draw(2, 50, 2, 3, 4)
    keep = {"return_final_state": True, "method": method}
    whole, end = selective_scan(x, dt, A, B, C, D, initial_state=start, **keep)
    parts, state = [], start
    for part in (slice(0, 17), slice(17, 50)):
        x_, dt_, B_, C_ = (v[:, part] for v in (x, dt, B, C))
        y, state = selective_scan(x_, dt_, A, B_, C_, D, initial_state=state, **keep)
        parts.append(y)
    np.testing.assert_allclose(jnp.concatenate(parts, 1), whole, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(state, end, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_reverse_is_a_scan_of_the_flipped_sequence(method):
    x, dt, A, B, C, D, start, *_ = draw(2, 70, 2, 3, 4)
    back = selective_scan(x, dt, A, B, C, D, initial_state=start, reverse=True, method=method)
    flipped = (jnp.flip(v, 1) for v in (x, dt))
    flipped_BC = (jnp.flip(v, 1) for v in (B, C))
    there = selective_scan(*flipped, A, *flipped_BC, D, initial_state=start, method=method)
    np.testing.assert_allclose(back, jnp.flip(there, 1), rtol=1e-5, atol=1e-6)


def test_gate_bias_and_softplus():
    """Those arguments of mamba-ssm's selective_scan_fn do what their definitions say."""
    x, dt, A, B, C, D, *_ = draw(2, 10, 1, 4, 3)
    z = jnp.cos(x)
    bias = jnp.linspace(-2.0, 1.0, 4)
    got = selective_scan(x, dt, A, B, C, D, z=z, dt_bias=bias, dt_softplus=True)
    step = np.log1p(np.exp(np.asarray(dt + bias, np.float64)))
    zero = np.zeros((2, 4, 3))
    y, _, _ = token_loop(x, step, A, B, C, D, zero, x, zero, False)
    z = np.asarray(z, np.float64)
    assert error(got, y * z / (1 + np.exp(-z))) < 1e-6


@pytest.mark.parametrize("transform", ["scan", "checkpoint", "sharded"])
def test_auto_inside_other_transformations(transform):
    *arguments, _, _ = draw(2, 30, 1, 4, 3)
    arguments = arguments[:6]

    def loss(*arguments):
        return (selective_scan(*arguments) ** 2).sum()

    def scanned(*arguments):
        return jax.lax.scan(lambda total, _: (total + loss(*arguments), None), 0.0, None, 2)[0] / 2

    wanted = jax.grad(loss)(*arguments)
    if transform == "sharded":
        mesh = jax.make_mesh((1,), ("data",))
        split = jax.NamedSharding(mesh, jax.P("data"))
        whole = jax.NamedSharding(mesh, jax.P())
        places = (split, split, whole, split, split, whole)
        got = jax.jit(jax.grad(loss), in_shardings=places)(*arguments)
    else:
        other = scanned if transform == "scan" else jax.checkpoint(loss)
        got = jax.jit(jax.grad(other))(*arguments)
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("axis", ["batch", "channels"])
def test_shard_map(method, axis):
    """Inside, x varies over the mesh, and arrays that do not, such as the state, are made to."""
    *arguments, _, _ = draw(2, 9, 1, 4, 3)
    arguments = arguments[:5]
    split, whole = (jax.P("m"), jax.P()) if axis == "batch" else (jax.P(None, None, "m"), jax.P())
    rates = whole if axis == "batch" else jax.P("m")
    matrix = split if axis == "batch" else whole
    scan = functools.partial(selective_scan, method=method)
    mapped = jax.shard_map(
        scan,
        mesh=jax.make_mesh((1,), ("m",), axis_types=(jax.sharding.AxisType.Auto,)),
        in_specs=(split, split, rates, matrix, matrix),
        out_specs=split,
    )

    def gradients(scan):
        return jax.jit(jax.grad(lambda *a: (scan(*a) ** 2).sum(), range(5)))(*arguments)

    for got, wanted in zip(gradients(mapped), gradients(scan), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("platforms", [("cpu",), ("cuda",), ("cpu", "cuda")])
def test_auto_is_exported_for_each_platform(platforms):
    *arguments, _, _ = draw(1, 30, 1, 4, 3)
    arguments = arguments[:6]

    def loss(*arguments):
        return (selective_scan(*arguments) ** 2).sum()

    exported = jax.export.export(jax.jit(jax.grad(loss)), platforms=platforms)(*arguments)
    assert exported.platforms == platforms
    if "cpu" in platforms:
        got = exported.call(*arguments)
        np.testing.assert_allclose(got, jax.grad(loss)(*arguments), rtol=1e-5)


def test_little_is_kept_for_the_gradient():
    """The temporary memory is less than that of all states, which is 16 times that of x here."""
    *arguments, _, _ = draw(1, 4096, 1, 8, 16)

    def loss(x, dt, A, B, C, D, _):
        return (selective_scan(x, dt, A, B, C, D, method="chunked") ** 2).sum()

    step = jax.jit(jax.grad(loss, range(6))).lower(*arguments).compile()
    assert step.memory_analysis().temp_size_in_bytes < 4096 * 8 * 16 * 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "fast"}, "unknown method 'fast'; it may be auto, reference, associative"),
        ({"chunk": 0}, "chunk is 0; it must be at least 1"),
        ({"x": (0, 10, 4)}, r"x has shape \(0, 10, 4\) and B .*; no axis may be empty"),
        ({"B": (1, 10, 0, 3)}, r"B \(1, 10, 0, 3\); no axis may be empty"),
        ({"x": (10, 4)}, r"x has shape \(10, 4\); expected \(b, l, d\)"),
        ({"dt": (1, 9, 4)}, r"dt has shape \(1, 9, 4\); expected \(1, 10, 4\)"),
        ({"A": (4, 5)}, r"A has shape \(4, 5\); expected \(4, 3\)"),
        ({"B": (1, 10, 3, 3)}, "g that divides the 4 channels of x"),
        ({"C": (1, 10, 2, 3)}, r"C has shape \(1, 10, 2, 3\); expected \(1, 10, 1, 3\)"),
        ({"B": (1, 10, 3), "C": (1, 10, 4)}, r"C has shape \(1, 10, 4\); expected \(1, 10, 3\)"),
        ({"B": (1, 3, 10), "C": (1, 3, 10)}, r"B has shape \(1, 3, 10\); expected \(1, 10, 10\)"),
        ({"D": (3,)}, r"D has shape \(3,\); expected \(4,\)"),
        ({"initial_state": (1, 3, 4)}, r"initial_state has .*; expected \(1, 4, 3\)"),
    ],
)
def test_what_does_not_fit_is_named(change, message):
    shapes = {
        "x": (1, 10, 4),
        "dt": (1, 10, 4),
        "A": (4, 3),
        "B": (1, 10, 1, 3),
        "C": (1, 10, 1, 3),
        "D": (4,),
        "z": (1, 10, 4),
        "dt_bias": (4,),
        "initial_state": (1, 4, 3),
    }
    given = {"method": "auto", "chunk": None} | shapes | change
    values = {k: jnp.zeros(v) if isinstance(v, tuple) else v for k, v in given.items()}
    with pytest.raises(ValueError, match=message):
        unchecked(**values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": jnp.zeros((1, 10, 4), int)}, "x is int32; expected floating point"),
        ({"A": [[1.0] * 3] * 4}, "A is of type list; expected an array"),
        ({"B": None}, "B is of type NoneType; expected an array"),
        ({"D": 1.0}, "D is of type float; expected an array"),
        ({"chunk": 2.0}, "chunk is 2.0; expected an int"),
    ],
)
def test_what_is_of_another_type_is_named(change, message):
    x, dt, A, B, C, *_ = draw(1, 10, 1, 4, 3)
    with pytest.raises(TypeError, match=message):
        unchecked(**({"x": x, "dt": dt, "A": A, "B": B, "C": C} | change))


@pytest.mark.parametrize("method", ["auto", "reference", "associative", "two_level"])
def test_arrays_of_numpy_will_do(method):
    arguments = draw(1, 10, 1, 4, 3)[:6]
    np.testing.assert_array_equal(
        unchecked(*map(np.asarray, arguments), method=method),
        selective_scan(*arguments, method=method),
    )


@pytest.mark.parametrize("gradient", [False, True], ids=["forward", "gradient"])
def test_a_program_for_any_batch(gradient, monkeypatch):
    # It would compare axes, but the size of the batch axis is unknown.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    x, dt, A, B, C, D = draw(3, 30, 1, 64, 16)[:6]

    def run(x, dt, B, C):
        return selective_scan(x, dt, A, B, C, D)

    if gradient:
        run = jax.grad(
            lambda *given: (selective_scan(*given[:2], A, *given[2:], D) ** 2).sum(), range(4)
        )
    (b,) = jax.export.symbolic_shape("b")
    shapes = (jax.ShapeDtypeStruct((b, *v.shape[1:]), v.dtype) for v in (x, dt, B, C))
    program = jax.export.export(jax.jit(run))(*shapes)
    for got, wanted in zip(program.call(x, dt, B, C), run(x, dt, B, C), strict=True):
        assert error(got, wanted) < 1e-5
