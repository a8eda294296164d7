"""How far images fused in tiles are from the same images fused whole, and how long they take.

python -m benchmarks.tiles --pairs=DIR [--weights=general] [--max-memory=120MB,400MB,1GB]

Each pair of DIR (folders a/ and b/) is fused whole, and in tiles for each size of memory that is
too small for the whole. Differences of luma are in steps of 1/255; times are multiples of the time
to fuse the pair whole.
"""

import time
from pathlib import Path

import numpy as np

from benchmarks.measure import head, row
from smc_jax import color, command, compilation, image_files, memory, pairing, tasks
from smc_jax.errors import ConfigError
from smc_jax.fusion import Fuser
from smc_jax.weights import load


def main() -> None:
    parser = command.Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", required=True, type=Path, help="folder with a/ and b/")
    parser.add_argument("--weights", default="general", help="as smc-fuse takes them")
    parser.add_argument("--max-memory", default="120MB,400MB,1GB", help="budgets to compare")
    arguments = parser.parse_args()
    budgets = {text: memory.parse(text) for text in arguments.max_memory.split(",")}
    compilation.use_cache()
    cfg, params = load(arguments.weights)
    fuser = Fuser(cfg, params)
    rows = 0
    for pair in pairing.pairs(arguments.pairs)[0]:
        a, b = tasks.in_order(cfg.task, image_files.read(pair.a), image_files.read(pair.b))
        color.same_size(a, b, f"{pair.a} and {pair.b}")
        sources = color.luma(a), color.luma(b)
        height, width = sources[0].shape
        needed = fuser.needed(height, width)
        short = {text: budget for text, budget in budgets.items() if budget < needed}
        if not short:
            continue
        whole, alone = _timed(fuser, sources, needed)
        for text, budget in short.items():
            fused, seconds = _timed(fuser, sources, budget)
            off = 255 * (fused - whole)
            found = f"{np.abs(off).mean():.2f}", f"{off.mean():+.2f}", f"{np.abs(off).max():.0f}"
            if not rows:
                print(head(["pair", "size", "memory", "mean", "brighter by", "most", "time"]))
            rows += 1
            print(row([pair.name, f"{width}x{height}", text, *found, f"{seconds / alone:.2f}"]))
    if not rows:
        raise ConfigError("each pair has room in this memory; give a smaller --max-memory")


def _timed(fuser: Fuser, sources: tuple[color.Luma, color.Luma], budget: int):
    """Returns the fused luma and the seconds that it took, compilation excluded."""
    fuser.luma(*sources, budget)
    start = time.perf_counter()
    fused = fuser.luma(*sources, budget)
    return fused, time.perf_counter() - start


if __name__ == "__main__":
    raise SystemExit(command.guarded(main))
