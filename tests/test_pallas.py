"""The kernels of the selective scan: in Pallas' interpreter, compiled for a GPU, and on one."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smc_jax.selective_scan import analytic, kernels, pallas, platforms, selective_scan
from tests.test_selective_scan import check, draw, run, token_loop

try:
    from jax.experimental.pallas.mosaic_gpu import InterpretGPUParams
except ImportError:  # jax < 0.12
    from jax._src.pallas.mosaic_gpu.interpret.params import InterpretGPUParams

# Forward: ends of chunks, carry, outputs. Backward: ends of the adjoint, its carry, gradients.
KERNELS = 6


@pytest.fixture
def interpreted(monkeypatch):
    """Runs the kernels in the interpreter during a test."""
    functions = (
        functools.partial(function, interpret=InterpretGPUParams())
        for function in (pallas.forward, pallas.backward)
    )
    monkeypatch.setitem(analytic.METHODS, "pallas", analytic.Method(*functions))
    analytic._function.cache_clear()
    yield
    analytic._function.cache_clear()


# (batch, tokens, groups, channels per group, state), chunk, whether in reverse.
SHAPES = {
    "one token": ((1, 1, 1, 3, 2), 64, False),
    "prime length, two groups": ((2, 67, 2, 4, 2), 64, True),
    "odd chunk": ((1, 13, 1, 5, 2), 5, False),
    "rows are chunks": ((2, 50, 1, 32, 2), 16, True),
    "rows are groups": ((1, 11, 5, 32, 2), 16, False),
    "rows are groups of a batch": ((3, 19, 3, 17, 1), 16, True),
    "two channels a lane": ((1, 11, 1, 64, 2), 4, False),
    "parts of the channels": ((1, 8, 1, 80, 1), 2, True),
    "more chunks than one walk has": ((1, 150, 1, 3, 2), 1, True),
    "scalar channels": ((70, 7, 2, 1, 4), 64, True),
}


@pytest.mark.parametrize(("shape", "chunk", "reverse"), SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.usefixtures("interpreted")
def test_equals_token_loop(shape, chunk, reverse):
    arguments = draw(*shape)
    got = run(arguments, method="pallas", chunk=chunk, reverse=reverse)
    check(got, token_loop(*arguments, reverse))


@pytest.mark.parametrize("dt_scale", [0.0, 1e3])
@pytest.mark.usefixtures("interpreted")
def test_no_step_size_overflows(dt_scale):
    arguments = draw(1, 18, 1, 2, 3, dt_scale=dt_scale)
    check(run(arguments, method="pallas", chunk=8), token_loop(*arguments, False))


@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_chunks_of_more_states_than_a_block_holds(monkeypatch, reverse):
    monkeypatch.setattr(kernels, "HELD", 0)
    arguments = draw(2, 40, 1, 2, 3)
    got = run(arguments, method="pallas", chunk=18, reverse=reverse)
    check(got, token_loop(*arguments, reverse))


@pytest.mark.usefixtures("interpreted")
def test_gradient_under_vmap():
    """Even where the mapped scans share some arguments."""
    x, dt, A, B, C, D, *_ = draw(3, 10, 2, 4, 2)
    rates = jnp.stack([A, 2 * A, 3 * A])

    def loss(x, A, B, C, method="pallas"):
        return (selective_scan(x[None], dt[:1], A, B[None], C[None], D, method=method) ** 2).sum()

    def mapped(**method):
        grad = jax.grad(functools.partial(loss, **method), range(4))
        return jax.jit(jax.vmap(grad, (0, 0, None, 0)))(x, rates, B[0], C)

    for got, want in zip(mapped(), mapped(method="reference"), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def loss(*arguments, **options):
    return (selective_scan(*arguments, method="pallas", **options) ** 2).sum()


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        ((1, 512, 1, 128, 16), KERNELS),
        ((2, 67, 8, 32, 16), KERNELS),
        ((70, 64, 1, 1, 4), KERNELS),
        # Each carry takes three kernels: two walks over parts, and one from part to part.
        ((1, 64 * 129, 1, 32, 5), KERNELS + 4),
    ],
)
def test_compiles_for_a_gpu(shape, wanted):
    """As far as possible without one: the kernels become machine-independent code."""
    *arguments, _, _, _ = draw(*shape)
    lowered = (
        jax.jit(jax.grad(loss, range(6))).trace(*arguments).lower(lowering_platforms=("cuda",))
    )
    kernels = lowered.as_text().count("@mosaic_gpu_v2")
    assert kernels == wanted


@pytest.mark.parametrize("platforms", [("cpu",), ("cpu", "cuda"), ("rocm",)])
def test_other_platforms_are_named(platforms):
    *arguments, _, _, _ = draw(1, 8, 1, 2, 2)
    for function in (loss, jax.grad(loss)):
        traced = jax.jit(function).trace(*arguments)
        with pytest.raises(ValueError, match=f"this is {platforms[0]}: take method='auto'"):
            traced.lower(lowering_platforms=platforms)


@pytest.fixture
def hopper(monkeypatch):
    """Pretends that this machine has a GPU that the kernels support."""
    monkeypatch.setattr(platforms, "has_kernels", lambda: True)


def automatic(x, dt, A, B, C):
    return jax.grad(lambda x: (selective_scan(x, dt, A, B, C) ** 2).sum())(x)


def kernels_in(function, arguments, **placed):
    jax.clear_caches()  # Otherwise a cached lowering would be reused for another GPU.
    shapes = (jax.ShapeDtypeStruct(v.shape, v.dtype) for v in arguments)
    traced = jax.jit(function, **placed).trace(*shapes)
    return traced.lower(lowering_platforms=("cuda",)).as_text().count("@mosaic_gpu_v2")


def test_auto_takes_the_kernels_on_a_gpu_that_they_are_for(monkeypatch):
    *arguments, _, _, _, _ = draw(2, 8, 1, 2, 2)
    for capabilities, wanted in (((), 0), (("8.6",), 0), (("9.0", "9.0"), KERNELS)):
        found = [types.SimpleNamespace(compute_capability=c) for c in capabilities]
        monkeypatch.setattr(platforms, "gpus", lambda found=found: found)
        assert kernels_in(automatic, arguments) == wanted


@pytest.mark.usefixtures("hopper")
def test_auto_does_without_in_what_is_exported():
    *arguments, _, _, _, _ = draw(2, 8, 1, 2, 2)
    for names in (("cuda",), ("cpu", "cuda")):
        exported = jax.export.export(jax.jit(automatic), platforms=names)(*arguments)
        assert "mosaic_gpu" not in exported.mlir_module()


@pytest.mark.usefixtures("hopper")
def test_auto_takes_the_kernels_on_several_devices_inside_shard_map_alone():
    *arguments, _, _, _, _ = draw(2, 8, 1, 2, 2)
    mesh = jax.sharding.AbstractMesh((2,), ("data",), (jax.sharding.AxisType.Auto,))
    split, whole = jax.P("data"), jax.P()
    specs = split, split, whole, split, split
    placed = tuple(jax.sharding.NamedSharding(mesh, spec) for spec in specs)
    assert kernels_in(automatic, arguments, in_shardings=placed) == 0
    mapped = jax.shard_map(automatic, mesh=mesh, in_specs=specs, out_specs=split)
    assert kernels_in(mapped, arguments, in_shardings=placed) == KERNELS


@pytest.mark.usefixtures("hopper")
@pytest.mark.parametrize(("states", "wanted"), [(32, KERNELS), (33, 0)])
def test_auto_takes_the_kernels_for_what_fits_a_lane(states, wanted):
    *arguments, _, _, _, _ = draw(1, 8, 1, 2, states)
    assert kernels_in(automatic, arguments) == wanted


@pytest.mark.usefixtures("hopper")
def test_auto_does_without_in_float64():
    with jax.enable_x64(True):
        *arguments, _, _, _, _ = draw(2, 8, 1, 2, 2, dtype=np.float64)
        assert kernels_in(automatic, arguments) == 0


@pytest.mark.skipif(jax.default_backend() == "gpu", reason="where there is no GPU")
def test_needs_a_gpu():
    *arguments, _, _, _ = draw(1, 8, 1, 2, 2)
    with pytest.raises(ValueError, match=r"needs a CUDA GPU \(Hopper or newer\); this is cpu"):
        loss(*arguments)


def test_float64_is_refused():
    with jax.enable_x64(True):
        *arguments, _, _, _ = draw(1, 8, 1, 2, 2, dtype=np.float64)
        with pytest.raises(ValueError, match="computes in float32, not float64"):
            loss(*arguments)


ON_GPU = SHAPES | {
    "model width": ((1, 2000, 1, 128, 16), 64, False),
    "model width, reverse": ((2, 1031, 1, 64, 16), 64, True),
    "model groups": ((1, 300, 8, 32, 16), 64, False),
    "long chunks": ((1, 1100, 1, 48, 16), 512, True),
    "pixels": ((600, 64, 2, 1, 4), 64, False),
}


@pytest.mark.gpu
@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(("shape", "chunk", "reverse"), ON_GPU.values(), ids=ON_GPU.keys())
def test_equals_token_loop_on_gpu(shape, chunk, reverse):
    arguments = draw(*shape)
    got = run(arguments, method="pallas", chunk=chunk, reverse=reverse)
    check(got, token_loop(*arguments, reverse), value=2e-6, gradient=2e-5)


@pytest.mark.gpu
@pytest.mark.usefixtures("gpu")
def test_is_the_same_every_time_on_gpu():
    arguments = draw(1, 20000, 2, 64, 16)
    once, again = (run(arguments, method="pallas") for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, once, again)
