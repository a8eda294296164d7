"""Pairs per second that training can read, with and without the cache, and how long a step waits.

python -m benchmarks.data
"""

import io
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
from PIL import Image
from scipy import ndimage

from benchmarks.measure import table
from configs import base
from data_prep.build import build
from smc_jax import command, config, input_pipeline, model, sharding, train_state, train_step

PAIRS = 64
SIZE = 480, 640
"""The size of the images of MSRS."""


def write_pairs(folder: Path) -> None:
    """Writes pairs of a grey and an RGB PNG with detail like a photograph's."""
    rng = np.random.default_rng(0)
    for number in range(PAIRS):
        for side, channels in (("a", 1), ("b", 3)):
            noise = rng.normal(size=(*SIZE, channels))
            image = sum(ndimage.gaussian_filter(noise, (s, s, 0)) * s for s in (1, 4, 16))
            image = np.clip(128 + 60 * image / image.std(), 0, 255).astype(np.uint8).squeeze()
            encoded = io.BytesIO()
            Image.fromarray(image).save(encoded, "PNG")
            path = folder / "train" / side / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded.getvalue())


def speed(settings: config.Data, warm: int, count: int) -> float:
    """Returns pairs per second over `count` pairs, after `warm` that do not count."""
    iterator = input_pipeline.batches(settings, "ivif", 0)
    for _ in range(warm):
        next(iterator)
    start = time.perf_counter()
    for _ in range(count):
        next(iterator)
    return count / (time.perf_counter() - start)


def waiting(cfg: config.Config, steps: int) -> tuple[float, float]:
    """Returns the median milliseconds of a training step, and of its wait for a batch."""
    mesh = sharding.make_mesh()
    network = model.build(cfg.model)
    state = train_state.create(cfg, network, mesh)
    step = train_step.jit_step(cfg, network, mesh)
    batches = input_pipeline.batches(cfg.data, cfg.task, 0)
    state, metrics, _ = step(state, sharding.put(next(batches), mesh))
    jax.block_until_ready(metrics)
    whole, waits = [], []
    for _ in range(steps):
        start = time.perf_counter()
        batch = next(batches)
        waits.append(time.perf_counter() - start)
        state, metrics, _ = step(state, sharding.put(batch, mesh))
        jax.block_until_ready(metrics)
        whole.append(time.perf_counter() - start)
    return 1e3 * float(np.median(whole)), 1e3 * float(np.median(waits))


def main() -> None:
    command.Parser(description=__doc__.splitlines()[0]).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_pairs(Path(folder) / "pairs")
        build(Path(folder) / "pairs", "ivif", "bench", Path(folder) / "data")
        rows = []
        for cache in (0, 1024):
            settings = config.Data("bench", f"{folder}/data", cache_mb=cache)
            first = speed(settings, 0, PAIRS)
            rows.append([str(cache), f"{first:.0f}", f"{speed(settings, 2 * PAIRS, 1000):.0f}"])
        print(table(["cache, MB", "pairs/s, first epoch", "pairs/s, later"], rows), "\n")
        cfg = base.get_config("practical")
        cfg.data = config.Data("bench", f"{folder}/data", crop=64, cache_mb=0)
        whole, waits = waiting(cfg, 10)
        print(f"A training step at crop 64 takes {whole:.0f} ms; it waits {waits:.2f} ms of them")
        print("for its batch, without the cache.")


if __name__ == "__main__":
    raise SystemExit(command.guarded(main))
