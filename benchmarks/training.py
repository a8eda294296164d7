"""The training loop: its speed, what the device waits for, and what more devices would exchange.

python -m benchmarks.training
"""

import collections
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

from benchmarks.measure import table
from benchmarks.model import images
from configs import base
from data_prep import build
from smc_jax import command, image_files, model, sharding, train, train_state, train_step
from smc_jax.config import Config, override
from smc_jax.train_step import Step

STEPS = 20
DEVICES = (1, 2, 4, 8)
WIDTHS = {"f32": 4, "bf16": 2, "s32": 4, "u32": 4, "pred": 1, "f16": 2, "s64": 8, "c64": 8}
EXCHANGES = "all-reduce|all-gather|all-to-all|reduce-scatter|collective-permute"


def main() -> None:
    parser = command.Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--scaled", type=int, metavar="DEVICES", help="one row of the last table")
    if devices := parser.parse_args().scaled:
        print(json.dumps(_scaled(devices)))
        return
    with tempfile.TemporaryDirectory() as folder:
        jax.config.update("jax_compilation_cache_dir", f"{folder}/cache")
        _loop(Path(folder))
    _weak_scaling()


def _loop(folder: Path) -> None:
    random = np.random.default_rng(0)
    for index in range(8):
        for side in ("a", "b"):
            image = random.integers(0, 255, (480, 640), dtype=np.uint8)
            image_files.write(folder / "pairs/train" / side / f"{index}.png", image)
    build.build(folder / "pairs", "ivif", "noise", folder / "data")
    values = {"data.name": "noise", "data.dir": str(folder / "data"), "data.crop": 64}
    values |= {"train.steps": STEPS, "train.log_every": 1, "train.save_every": 10 * STEPS}
    values |= {"train.image_every": 10 * STEPS}
    cfg = override(base.get_config("practical"), values)
    loop, alone = [], []
    for turn in range(2):  # they take turns, since the machine may be shared
        train.train(cfg, folder / f"run{turn}")
        host = (folder / f"run{turn}" / "host.jsonl").read_text().splitlines()
        loop.append(1 / json.loads(host[-1])["pairs_per_second"])
        alone.append(_seconds(cfg, sharding.make_mesh(), STEPS))
    within, whole = min(alone), min(loop)
    print(f"\n{jax.devices()[0].device_kind}, practical, crop 64, batch 1, {STEPS} steps\n")
    rows = [
        ["the loop, with data and logging", f"{whole:.3f}", f"{1 / whole:.2f}"],
        ["the step alone, on one batch", f"{within:.3f}", f"{1 / within:.2f}"],
    ]
    print(table(["", "seconds a step", "steps a second"], rows))
    print(f"\nOf the loop's time the device is idle {max(0.0, 1 - within / whole):.1%}.\n")


def _step(cfg: Config, mesh: jax.sharding.Mesh) -> tuple[Step, object, object]:
    network = model.build(cfg.model)
    state = train_state.create(cfg, network, mesh)
    one = jax.device_get(images(cfg.data.crop, cfg.data.crop))
    batch = jax.tree.map(lambda v: np.repeat(v, cfg.data.batch, 0), one)
    batch = sharding.put(batch, mesh)
    step = train_step.jit_step(cfg, network, mesh).lower(state, batch).compile()
    return step, state, batch


def _seconds(cfg: Config, mesh: jax.sharding.Mesh, steps: int) -> float:
    """Returns the seconds per step, without what is read or written around it."""
    step, state, batch = _step(cfg, mesh)
    state, metrics, _ = step(state, batch)
    jax.block_until_ready(metrics)
    start = time.perf_counter()
    for _ in range(steps):
        state, metrics, _ = step(state, batch)
    jax.block_until_ready(metrics)
    return (time.perf_counter() - start) / steps


def _weak_scaling() -> None:
    flags = os.environ.get("XLA_FLAGS", "")
    rows = []
    first = None
    for count in DEVICES:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.training", f"--scaled={count}"],
            env=os.environ
            | {"XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count={count}"},
            check=True,
            capture_output=True,
            text=True,
        )
        seconds, exchanged = json.loads(done.stdout.splitlines()[-1])
        first = first or seconds
        what = ", ".join(f"{n} {kind} ({size / 1e3:.1f} kB)" for kind, n, size in exchanged)
        share = f"{count * first / seconds:.0%}"
        rows.append([str(count), str(count), f"{seconds:.3f}", share, what or "nothing"])
    print("Fake devices that share these cores, crop 32, one pair a device\n")
    header = ["devices", "batch", "seconds a step", "of one device's speed", "exchanged a step"]
    print(table(header, rows))


def _scaled(devices: int) -> tuple[float, list[tuple[str, int, int]]]:
    cfg = override(base.get_config("practical"), {"data.crop": 32, "data.batch": devices})
    mesh = sharding.make_mesh()
    text = _step(cfg, mesh)[0].as_text()  # pyrefly: ignore[missing-attribute]
    return _seconds(cfg, mesh, 5), exchanges(text)


def exchanges(program: str) -> list[tuple[str, int, int]]:
    """Returns the exchanges in a compiled program: kind, count, and the bytes of the results."""
    found: dict[str, list[int]] = collections.defaultdict(list)
    for line in program.splitlines():
        match = re.match(rf"\s*(?:ROOT )?%?\S+ = (.*?) ({EXCHANGES})(?:-start)?\(", line)
        if match:
            arrays = re.findall(r"([a-z]+\d*)\[([\d,]*)\]", match[1])
            sizes = [
                WIDTHS.get(kind, 4) * math.prod(int(n) for n in extents.split(",") if n)
                for kind, extents in arrays
            ]
            found[match[2]].append(sum(sizes))
    return [(kind, len(sizes), sum(sizes)) for kind, sizes in sorted(found.items())]


if __name__ == "__main__":
    raise SystemExit(command.guarded(main))
