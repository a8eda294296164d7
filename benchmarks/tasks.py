"""How often `--task=auto` is right, for folders of pairs whose task is known.

python -m benchmarks.tasks ivif=MSRS/test mfif=Lytro/test ...
"""

import sys
from collections import Counter

from benchmarks.measure import table
from smc_jax import color, pairing, tasks


def main() -> None:
    rows, right, total = [], 0, 0
    for argument in sys.argv[1:]:
        task, _, folder = argument.partition("=")
        pairs, _ = pairing.pairs(folder)
        found = Counter(
            tasks.resolve("auto", color.read(pair.a), color.read(pair.b))[0] for pair in pairs
        )
        right, total = right + found[task], total + len(pairs)
        counts = [str(found[name]) for name in tasks.CHOICES[1:]]
        rows.append([task, folder, str(len(pairs)), *counts])
    print(table(["task", "pairs of", "all", *tasks.CHOICES[1:]], rows))
    print(f"\n{right} of {total} are right")


if __name__ == "__main__":
    main()
