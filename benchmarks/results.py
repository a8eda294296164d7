"""Compares the packaged weights with other methods on test pairs and writes docs/results.md.

python -m benchmarks.results --pairs=DIR [--out=results]

DIR holds folders `a/` and `b/` for each of `SETS`, as `DIR/ivif/MSRS/test/a`, with the pairs that
benchmarks/pairs.csv names. Results that OUT already holds for the same weights and pairs are reused
(take another OUT after a change of the code). The other methods' rows are those of
benchmarks/peers.csv.
"""

import csv
import hashlib
import json
from pathlib import Path
from typing import NamedTuple

from benchmarks.measure import table
from smc_jax import command, compilation, evaluate, files, metrics, pairing
from smc_jax.errors import ConfigError
from smc_jax.methods import BASELINES
from smc_jax.report.comparison import higher_is_better
from smc_jax.weights import FOLDER, SUFFIX

HERE = Path(__file__).parent
PEERS, PAIRS = HERE / "peers.csv", HERE / "pairs.csv"
PAGE = HERE.parent / "docs" / "results.md"
DECIMALS = {name: 2 if name in ("SD", "SF", "AG") else 3 for name in metrics.SETS["paper"]}
"""Decimals of each metric, as in benchmarks/peers.csv."""
RANKED = ("MI", "SF", "AG", "SCD", "VIF", "Qabf", "SSIM", "MS_SSIM")
"""The metrics that count in the mean rank."""
MOST = 6
"""In how many of these a method must be ahead to be called better."""


class TestSet(NamedTuple):
    """Pairs that no packaged weights were trained on."""

    title: str
    folder: str
    weights: tuple[str, ...]
    """Packaged weights to score; the first are those for the set's task."""


SETS = {
    "MSRS": TestSet("Infrared and visible: MSRS", "ivif/MSRS/test", ("ivif",)),
    "RoadScene": TestSet("Infrared and visible: RoadScene", "ivif/RoadScene/test", ("ivif",)),
    "VIFB": TestSet("Infrared and visible: VIFB", "ivif/VIFB/test", ("ivif",)),
    "Harvard-CT": TestSet("CT and MRI: Harvard", "mdif/Harvard-CT-MRI/test", ("mdif", "general")),
    "Harvard-PET": TestSet(
        "PET and MRI: Harvard", "mdif/Harvard-PET-MRI/test", ("mdif", "general")
    ),
    "Harvard-SPECT": TestSet(
        "SPECT and MRI: Harvard", "mdif/Harvard-SPECT-MRI/test", ("mdif", "general")
    ),
    "Lytro": TestSet("Focus: Lytro", "mfif/Lytro/test", ("mfif", "general")),
    "MFFW": TestSet("Focus: MFFW", "mfif/MFFW/test", ("mfif",)),
    "MEFB": TestSet("Exposures: MEFB", "meif/MEFB/test", ("meif",)),
}


class Row(NamedTuple):
    """The means of a method over a set, rounded as printed."""

    method: str
    values: dict[str, float]
    ours: bool = False


def peers(name: str) -> list[Row]:
    """Returns the other methods' rows for a set; † marks fused images that others published."""
    return [
        Row(line["method"] + " †" * int(line["published"]), {m: float(line[m]) for m in DECIMALS})
        for line in _lines(PEERS, name)
    ]


def pairs_of(name: str) -> set[str]:
    """Returns the names of a set's pairs, on which the other methods were scored too."""
    return {line["pair"] for line in _lines(PAIRS, name)}


def _lines(path: Path, name: str) -> list[dict[str, str]]:
    """Returns the lines of a CSV file that are about a set."""
    with path.open() as file:
        return [line for line in csv.DictReader(file) if line["set"] == name]


def check(pairs: Path) -> None:
    """Raises ConfigError unless `pairs` has the folders of all sets, each with its pairs alone."""
    problems = []
    for name, test in SETS.items():
        folder = pairs / test.folder
        if not folder.is_dir():
            problems.append(f"there is no folder {folder}")
            continue
        wrong = pairs_of(name) ^ {pair.name for pair in pairing.pairs(folder)[0]}
        if wrong:
            some = ", ".join(sorted(wrong)[:5])
            problems.append(f"{folder} differs from {PAIRS.name} in {len(wrong)} pairs: {some}")
    if problems:
        raise ConfigError("\n".join(problems))


def scored(out: Path, name: str, weights: str, pairs: Path) -> dict[str, dict[str, float]]:
    """Returns the means of our weights and of the baselines over a set's pairs.

    Pairs for which a metric is undefined, as SCD is for a maximum that equals a source, are left
    out of its mean.

    Raises:
      ConfigError: a pair could not be fused or scored.
    """
    result = out / f"{name}-{weights}"
    done = result / "inputs.sha256"
    inputs = _digest([FOLDER / f"{weights}{SUFFIX}", *sorted(pairs.glob("[ab]/*"))])
    if not done.exists() or done.read_text() != inputs:
        done.unlink(missing_ok=True)
        evaluate.main(str(result), checkpoint=weights, pairs=str(pairs))
    methods = json.loads((result / "metrics.json").read_text())["methods"]
    if any(found["pairs"] != len(pairs_of(name)) for found in methods.values()):
        raise ConfigError(f"{pairs}: some pairs could not be scored; mend them")
    files.write(done, inputs.encode())
    return {method: found["mean"] for method, found in methods.items()}


def _digest(paths: list[Path]) -> str:
    """Returns a hash of the names and contents of files."""
    contents = [path.name.encode() + path.read_bytes() for path in paths]
    return hashlib.sha256(b"".join(hashlib.sha256(c).digest() for c in contents)).hexdigest()


def ranks(rows: list[Row]) -> dict[str, float]:
    """Returns mean ranks by method over `RANKED`; values equal as printed share the better rank.

    Each of our rows is ranked against the other methods only; these are ranked among themselves
    and our first row.
    """
    first = next(row for row in rows if row.ours)
    others = [row for row in rows if not row.ours]
    places = {}
    for row in rows:
        rivals = others if row.ours else [*others, first]
        better = [sum(r.values[m] > row.values[m] for r in rivals) for m in RANKED]
        places[row.method] = 1 + sum(better) / len(RANKED)
    return places


def section(title: str, count: int, rows: list[Row]) -> str:
    """Formats all rows of a set as Markdown, best mean rank first."""
    places = ranks(rows)
    best = {
        m: (max if higher_is_better(m) else min)(row.values[m] for row in rows) for m in DECIMALS
    }
    lines = []
    for row in sorted(rows, key=lambda row: places[row.method]):
        texts = {m: f"{row.values[m]:.{digits}f}" for m, digits in DECIMALS.items()}
        cells = [f"**{t}**" if row.values[m] == best[m] else t for m, t in texts.items()]
        name = f"**{row.method}**" if row.ours else row.method
        lines.append([name, f"{places[row.method]:.2f}", *cells])
    header = ["method", "mean rank", *(m if higher_is_better(m) else f"{m} ↓" for m in DECIMALS)]
    return f"## {title}, {count} pairs\n\n{table(header, lines)}\n"


def summary(title: str, count: int, rows: list[Row]) -> list[str]:
    """Returns the cells of a line of the summary, about the first of our rows."""
    places, ours = ranks(rows), next(row for row in rows if row.ours)
    others = [row for row in rows if not row.ours]
    rival = min(others, key=lambda row: places[row.method])
    place = 1 + sum(places[row.method] < places[ours.method] for row in others)
    ahead = [sum(ours.values[m] > row.values[m] for m in RANKED) >= MOST for row in others]
    first = [m for m in RANKED if all(ours.values[m] >= row.values[m] for row in others)]
    return [
        f"{title}, {count} pairs",
        f"{place} of {len(others) + 1}",
        f"{places[ours.method]:.2f}",
        f"{rival.method} {places[rival.method]:.2f}",
        f"{sum(ahead)} of {len(others)}",
        ", ".join(first) or "none",
        f"{ours.values['Nabf']:.3f}",
    ]


def main() -> None:
    parser = command.Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", required=True, type=Path, help="folder of the test sets")
    parser.add_argument("--out", default=Path("results"), type=Path, help="folder for the scores")
    arguments = parser.parse_args()
    compilation.use_cache()
    check(arguments.pairs)
    sections, lines = [], []
    for name, test in SETS.items():
        rows = peers(name)
        found = {}
        for weights in test.weights:
            found = scored(arguments.out, name, weights, arguments.pairs / test.folder)
            (mine,) = found.keys() - BASELINES.keys()
            rows.append(Row(f"SMC-Mamba, `{weights}`", _printed(found[mine]), ours=True))
        rows += [Row(method, _printed(found[method])) for method in BASELINES]
        count = len(pairs_of(name))
        sections.append(section(test.title, count, rows))
        lines.append(summary(test.title, count, rows))
    header = ["test pairs", "place by mean rank", "ours", "best other"]
    header += ["ahead in six or more of eight", "first in", "Nabf"]
    short = table(header, lines)
    # The text above the first section is written by hand.
    text, _, _ = PAGE.read_text().partition("\n## ")
    page = "\n\n".join([text.rstrip(), f"## Summary\n\n{short}", *sections])
    files.write(PAGE, page.encode())
    print(short)


def _printed(values: dict[str, float]) -> dict[str, float]:
    return {m: float(f"{values[m]:.{digits}f}") for m, digits in DECIMALS.items()}


if __name__ == "__main__":
    raise SystemExit(command.guarded(main))
