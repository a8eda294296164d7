"""Fuses two images, or two folders of them.

smc-fuse infrared.png visible.png -o fused.png
smc-fuse infrared/ visible/ -o fused/
smc-fuse 'scenes/*_ir.png' 'scenes/*_vis.png' -o fused/
"""

import argparse
import functools
import os
import signal
import sys
import warnings
from collections import Counter
from collections.abc import Sequence

import numpy as np

from smc_jax import batch, border, command, picture, tasks
from smc_jax.batch import Job
from smc_jax.errors import InputError
from smc_jax.picture import Picture

LOOKED_AT = 9
"""The number of pairs, spread over a batch, from which `--task=auto` judges the whole batch."""


def main(arguments: Sequence[str] | None = None) -> int | None:
    """Runs the command; returns the exit status: 0, 2 if something failed, 130 if interrupted."""
    # File names may hold any bytes, and nobody can act on Pillow's warnings about odd files.
    for stream in (sys.stdout, sys.stderr):
        # pyrefly: ignore[missing-attribute]  # it is typed as any text stream
        stream.reconfigure(errors="backslashreplace")
    warnings.filterwarnings("ignore", module="PIL")
    parser = _parser()
    given, rest = parser.parse_known_args(arguments)
    if rest:
        many = "" if any(r.startswith("-") for r in rest) else " (globs must be in quotes)"
        parser.error(f"unrecognized arguments: {' '.join(rest)}{many}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    return command.guarded(lambda: fuse(given))


def fuse(given: argparse.Namespace) -> int:
    """Fuses the images that the command line names.

    Raises:
      InputError: nothing can be fused.
    """
    # Slow imports come after the command line is known to make sense.
    todo, problems = batch.jobs(given.a, given.b, given.out)
    from smc_jax import compilation, fusion, memory, weights

    budget = memory.parse(given.max_memory) if given.max_memory else None
    compilation.use_cache()

    @functools.cache
    def network() -> tuple[fusion.Fuser, str]:
        if given.weights:
            return fusion.fuser(given.weights), given.task
        task = _judge(todo) if given.task == "auto" else given.task
        return fusion.fuser(weights.for_task(task)), task

    def one(a: Picture, b: Picture, budget: int) -> Picture:
        fuser, task = network()
        return picture.inherit(fuser(a.pixels, b.pixels, budget, task), a, b)

    def needed(height: int, width: int) -> int:
        return network()[0].needed(height, width)

    # No weights are needed if all outputs exist already.
    if given.overwrite or not all(os.path.lexists(job.out) for job in todo):
        network()
    written, skipped, failures = batch.run(todo, one, needed, budget, given.overwrite)
    failures = problems + failures
    if skipped:
        what = skipped[0] if len(skipped) == 1 else f"{len(skipped)} images"
        print(f"skipped {what}, there already; --overwrite fuses anew")
    if written:
        count = "1 image" if len(written) == 1 else f"{len(written)} images"
        many = f"{count} to {written[0].parent}"
        print(f"wrote {written[0] if len(todo) == 1 else many}")
    if len(todo) == 1 and len(failures) == 1:
        raise InputError(failures[0])
    if failures:
        print(f"{len(failures)} failed:", *failures, sep="\n  ", file=sys.stderr)
    return 2 if failures else 0


def _judge(todo: Sequence[Job]) -> str:
    """Returns the task of most of the pairs that it looks at, and prints why. A pair that cannot be
    fused does not count here: it is reported when its turn comes.
    """
    spread = np.linspace(0, len(todo) - 1, min(LOOKED_AT, len(todo))).round().astype(int)
    found: Counter[str] = Counter()
    reasons = {}
    for job in (todo[index] for index in spread):
        try:
            a, b = picture.read(job.a).pixels, picture.read(job.b).pixels
        except InputError:
            continue
        if a.shape[:2] == b.shape[:2] and min(a.shape[:2]) >= border.SMALLEST:
            task, reason = tasks.resolve("auto", a, b)
            found[task] += 1
            reasons.setdefault(task, reason)
    if not found:
        return "general"
    task, count = found.most_common(1)[0]
    many = f" for {count} of {found.total()} pairs looked at; of the first of them, "
    seen = ": " if len(todo) == 1 else many
    print(f"task: {task}{seen}{reasons[task]} (--task=NAME names another)")
    return task


def _parser() -> argparse.ArgumentParser:
    parser = command.Parser(
        prog="smc-fuse",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "a", help="infrared, CT/PET/SPECT, near focus or darker image: a file, folder or glob"
    )
    parser.add_argument("b", help="visible, MRI, far focus or brighter image: likewise")
    parser.add_argument(
        "-o",
        "--out",
        required=True,
        help="for two files, a file (.png, .jpg, .tif, .bmp) or a folder; otherwise a folder",
    )
    parser.add_argument(
        "--task",
        choices=tasks.CHOICES,
        default="auto",
        help="the kind of images (default: auto, judged from them)",
    )
    parser.add_argument(
        "--weights",
        default="",
        help="instead of the weights for the task: a packaged name, a .safetensors file, an "
        "exported folder, or a training workdir",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace existing results")
    parser.add_argument(
        "--max-memory",
        default="",
        metavar="SIZE",
        help="e.g. 2GB, for all pairs at once: larger images are fused in tiles (default: half of "
        "what is free)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
