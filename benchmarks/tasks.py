"""How often `--task=auto` is right, for folders of pairs whose task is known.

python -m benchmarks.tasks ivif=MSRS/test mfif=Lytro/test ...
"""

import argparse
from collections import Counter

from benchmarks.measure import table
from smc_jax import command, image_files, pairing, tasks


def main() -> None:
    parser = command.Parser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", metavar="TASK=FOLDER", type=_folder)
    rows, right, total = [], 0, 0
    for task, folder in parser.parse_args().folders:
        pairs, _ = pairing.pairs(folder)
        found = Counter(
            tasks.resolve("auto", image_files.read(pair.a), image_files.read(pair.b))[0]
            for pair in pairs
        )
        right, total = right + found[task], total + len(pairs)
        counts = [str(found[name]) for name in tasks.CHOICES[1:]]
        rows.append([task, folder, str(len(pairs)), *counts])
    print(table(["task", "pairs of", "all", *tasks.CHOICES[1:]], rows))
    print(f"\n{right} of {total} are right")


def _folder(text: str) -> tuple[str, str]:
    task, _, folder = text.partition("=")
    if task not in tasks.CHOICES[1:] or not folder:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not TASK=FOLDER, with one of {', '.join(tasks.CHOICES[1:])}"
        )
    return task, folder


if __name__ == "__main__":
    raise SystemExit(command.guarded(main))
