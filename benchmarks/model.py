"""The whole model: a training step, fusing an image, compiling, and where the time goes.

python -m benchmarks.model
"""

import functools
import tempfile
import time

import jax
import jax.numpy as jnp

from benchmarks.measure import compiled, interleaved, table
from configs import base
from smc_jax import command, model, sharding, train_state, train_step, workers
from smc_jax.config import override
from smc_jax.types import Batch

PARTS = {
    "all": {},
    "without CM-Scan": {"cm_scan": False},
    "without SC-Scan": {"sc_scan": False},
    "without FR-Scan": {"fr_scan": False},
    "without any scan": {"cm_scan": False, "sc_scan": False, "fr_scan": False},
}


def images(height, width):
    a, b = jax.random.uniform(jax.random.key(0), (2, 1, height, width, 1))
    return Batch(a, b, jnp.zeros(1, jnp.int32))


def stepping(cfg):
    """Returns a function that trains one step at `data.crop`, its compile time and its memory."""
    mesh = sharding.make_mesh()
    network = model.build(cfg.model)
    state = train_state.create(cfg, network, mesh)
    batch = sharding.put(images(cfg.data.crop, cfg.data.crop), mesh)
    start = time.perf_counter()
    step = train_step.jit_step(cfg, network, mesh).lower(state, batch).compile()
    seconds = time.perf_counter() - start
    memory = step.memory_analysis().temp_size_in_bytes

    def run():
        nonlocal state
        state, metrics, _ = step(state, batch)
        return metrics

    return run, seconds, memory


def fusing(cfg, height, width):
    """Returns a function that fuses one pair of images, its compile time and its memory."""
    network = model.build(cfg.model)
    small, pair = (images(*size)[:2] for size in ((16, 16), (height, width)))
    params = jax.jit(functools.partial(network.init, train=True))(jax.random.key(0), *small)
    run, seconds, memory = compiled(
        lambda params, a, b: network.apply(params, a, b)[0], params, *pair
    )
    return lambda: run(params, *pair), seconds, memory


def side_by_side(pool, run, count):
    """Calls `run` `count` times side by side in the threads of `pool`."""
    return list(pool.map(lambda _: jax.block_until_ready(run()), range(count)))


def main() -> None:
    command.Parser(description=__doc__.splitlines()[0]).parse_args()
    # An empty cache of its own, so that the first compilation is a cold one.
    with tempfile.TemporaryDirectory() as cache:
        jax.config.update("jax_compilation_cache_dir", cache)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        _main()


def _main() -> None:
    practical = base.get_config("practical")
    runs, rows = {}, []
    for crop in (64, 128):
        cfg = override(practical, {"data.crop": crop})
        runs[f"training step, crop {crop}"] = stepping(cfg)
    run, compiling, memory = fusing(practical, 480, 640)
    runs["fusing 640x480"] = run, compiling, memory
    jax.clear_caches()
    _, warm, _ = stepping(override(practical, {"data.crop": 64}))
    count = workers.count()
    with workers.pool(count) as pool:
        many = f"fusing {count} of them side by side"
        runs[many] = functools.partial(side_by_side, pool, run, count), 0.0, count * memory
        seconds = interleaved({name: run for name, (run, _, _) in runs.items()}, rounds=3)
    for name, (_, compiling, memory) in runs.items():
        rows.append([name, f"{seconds[name]:.3g}", f"{compiling:.1f}", f"{memory / 1e6:.0f}"])
    print(f"{jax.devices()[0].device_kind}, batch 1\n")
    print(table(["what", "seconds", "seconds to compile", "temporary MB"], rows))
    print(f"\nCompiling the step at crop 64 again, from the cache: {warm:.1f} seconds\n")

    parts = {
        name: stepping(override(practical, {"data.crop": 64} | _model(values)))[0]
        for name, values in PARTS.items()
    }
    seconds = interleaved(parts, rounds=3)
    rows = [[n, f"{s:.3g}", f"{s / seconds['all']:.0%}"] for n, s in seconds.items()]
    print(table(["training step, crop 64", "seconds", "of all"], rows))


def _model(values):
    return {f"model.{name}": value for name, value in values.items()}


if __name__ == "__main__":
    raise SystemExit(command.guarded(main))
