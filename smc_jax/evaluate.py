"""Evaluation: fuses pairs, or reads images that others fused, and scores them beside average and
maximum.

Fused images are stored as 8-bit PNG, read back and scored on their luma, as every published
evaluator does; the scores of a set are means over its pairs.
"""

import functools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from smc_jax import color, data_source, files, image_files, methods, metrics, pairing
from smc_jax.data_source import Example
from smc_jax.errors import ConfigError, ImageError, InputError
from smc_jax.methods import BASELINES, Method
from smc_jax.recolor import recolor
from smc_jax.report import contact_sheet, tables, viewer
from smc_jax.report.comparison import Comparison, Scores, compare
from smc_jax.report.scene import Scene

Source = Callable[[], Example]
"""Reads a pair when its turn comes, so that a bad file fails alone."""


def main(
    out: str,
    *,
    checkpoint: str = "",
    fused: Sequence[str] = (),
    pairs: str = "",
    dataset: str = "",
    data_dir: str = "data",
    split: str = "test",
    chosen: str = "paper",
    dialect: str = "cddfuse",
    shown: int = 24,
) -> int:
    """The command `evaluate.py`: prints the tables and writes the report into `out`.

    Args:
      out: folder for `fused/<name>.png`, `metrics.csv`, `.json`, `.md` and `.tex`,
        `contact_sheet.png` and `report.html`.
      checkpoint: the weights that fuse the pairs: a training workdir (its newest checkpoint), a
        .safetensors file, or the name of packaged weights.
      fused: folders of images that someone else fused, `DIR` or `NAME=DIR`, matched by name.
      pairs: a folder with `a/`, `b/` and perhaps the ground truth in `gt/`; or instead
      dataset: the name of a prepared data set in `data_dir`, of which `split` is read.
      chosen: the metrics: one of `metrics.SETS`, or names separated by commas.
      dialect: one of `metrics.DIALECTS`.
      shown: the number of pairs whose images are in `report.html`, spread over the set.

    Returns:
      The exit status: 0, or 2 if some of the pairs failed, or a metric of a method that was asked
      for is undefined.

    Raises:
      InputError: an argument is wrong, or nothing could be scored.
    """
    if bool(pairs) == bool(dataset):
        raise ConfigError("give either --pairs=DIR or --dataset=NAME")
    if not out:
        raise ConfigError("give --out=DIR, a folder for the results")
    names = metrics.chosen(chosen, dialect)
    files.check_folder(out, "--out")
    sources, failures = _dataset(dataset, data_dir, split) if dataset else _folder(pairs)
    folders = methods.folders(fused)
    rows = {name: methods.of_folder(folder) for name, folder in folders.items()}
    if checkpoint:
        name, method = methods.of_checkpoint(checkpoint, Path(out) / "fused")
        if name in rows:
            raise ConfigError(f"--fused: {name} is the row of the checkpoint; name it otherwise")
        rows = {name: method, **rows}
    if not rows:
        raise ConfigError("give --checkpoint=WORKDIR or --fused=DIR")
    found = score(sources, rows, chosen=names, dialect=dialect)
    failures += found.failures
    failures += methods.without_pair(folders.values(), found.scores["Average"])
    if not any(found.scores[name] for name in rows):
        more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
        reason = failures[0] if failures else "there is no pair"
        raise ImageError(f"nothing could be scored: {reason}{more}")
    comparison = compare(found.scores)
    paths = _write_tables(Path(out), comparison, dialect, failures)
    paths += _write_pictures(Path(out), comparison, found.sources, rows, shown)
    print(tables.plain(comparison))
    print("\n" + tables.versus(comparison, next(iter(rows))))
    if found.remarks:
        print("\nnot in these means:", *found.remarks, sep="\n  ")
    print("\nwrote " + ", ".join(map(str, paths)))
    if failures:
        print(f"\n{len(failures)} failed:", *failures, sep="\n  ", file=sys.stderr)
    return 2 if failures else 0


class Scored(NamedTuple):
    """The scores of a data set, and what is missing among them."""

    scores: Scores
    sources: list[Source]
    """The pairs that could be read."""
    failures: list[str]
    """A line for each image that cannot be read or does not fit, and for the metrics of a pair that
    are undefined for a method."""
    remarks: list[str]
    """The same for metrics that are undefined for Average, Max or both, and for no other method."""


def score(
    sources: Sequence[Source], rows: Mapping[str, Method], *, chosen: Sequence[str], dialect: str
) -> Scored:
    """Scores every method, Average and Max on every pair.

    Args:
      sources: the pairs.
      rows: the methods by name.
      chosen: names of metrics.
      dialect: one of `metrics.DIALECTS`.
    """
    scores: dict[str, dict[str, dict[str, float]]] = {name: {} for name in (*BASELINES, *rows)}
    read, failures, remarks = [], [], []
    for source in tqdm(sources, unit="pair", disable=None):
        try:
            pair = _checked(source())
        except InputError as error:
            failures.append(str(error))
            continue
        read.append(source)
        a, b = color.luma8(pair.a), color.luma8(pair.b)
        truth = None if pair.truth is None else color.luma8(pair.truth)
        wanted = [*chosen, *(metrics.TRUTH_METRICS if pair.truth is not None else ())]
        undefined: dict[str, list[str]] = {}
        images, problems = _fuse(pair, rows)
        failures += problems
        for name, image in images.items():
            values = metrics.score(a, b, color.luma8(image), truth, chosen, dialect)
            scores[name][pair.name] = values
            lost = ", ".join(m for m in wanted if m not in values)
            if lost:
                undefined.setdefault(lost, []).append(name)
        flat = [
            f"; {side} is constant" for side, image in (("a", a), ("b", b)) if not np.ptp(image)
        ]
        for lost, names in undefined.items():
            line = f"{pair.name}: {lost} undefined for {', '.join(names)}{''.join(flat)}"
            (remarks if BASELINES.keys() >= set(names) else failures).append(line)
    return Scored(scores, read, failures, remarks)


def scenes(sources: Sequence[Source], rows: Mapping[str, Method], count: int) -> Iterator[Scene]:
    """Yields some of the pairs, spread evenly, with the result of every method."""
    spread = np.linspace(0, len(sources) - 1, min(count, len(sources))).round().astype(int)
    for index in spread:
        pair = sources[index]()
        images = {"a": pair.a, "b": pair.b}
        if pair.truth is not None:
            images["truth"] = pair.truth
        results, _ = _fuse(pair, rows)
        for name in BASELINES:
            # Grey images beside coloured ones would look worse than they are.
            results[name] = recolor(color.luma(results[name]), pair.a, pair.b)
        shown = ({k: color.bytes8(v) for k, v in some.items()} for some in (images, results))
        yield Scene(pair.name, *shown)


def _fuse(pair: Example, rows: Mapping[str, Method]) -> tuple[dict[str, np.ndarray], list[str]]:
    """The result of each method for a pair, and a line for each method that fails."""
    fused, failures = {}, []
    for name, method in {**BASELINES, **rows}.items():
        try:
            fused[name] = method(pair)
        except InputError as error:
            failures.append(str(error))
    return fused, failures


def _folder(pairs: str) -> tuple[list[Source], list[str]]:
    """The pairs of a folder, and a line for each file that cannot be used."""
    found, problems = pairing.pairs(pairs)
    truths, more = pairing.truths(pairs, found)

    def read(pair: pairing.Pair) -> Example:
        truth = image_files.read(truths[pair.name]) if pair.name in truths else None
        return Example(pair.name, image_files.read(pair.a), image_files.read(pair.b), truth)

    return [functools.partial(read, pair) for pair in found], [*problems, *more]


def _dataset(name: str, data_dir: str, split: str) -> tuple[list[Source], list[str]]:
    records: Any = data_source.open(data_dir, name, split)
    return [
        lambda index=index: data_source.pair(records, index) for index in range(len(records))
    ], []


def _checked(pair: Example) -> Example:
    """Returns the pair if its images fit each other and are large enough to be scored."""
    color.same_size(pair.a, pair.b, f"a and b of {pair.name}")
    if pair.truth is not None:
        color.same_size(pair.a, pair.truth, f"{pair.name} and its ground truth")
    height, width = pair.a.shape[:2]
    if min(height, width) < metrics.SMALLEST:
        least = f"{metrics.SMALLEST}x{metrics.SMALLEST}"
        raise ImageError(f"{pair.name} is {width}x{height}; scoring needs {least} at least")
    return pair


def _write_tables(
    out: Path, comparison: Comparison, dialect: str, failures: Sequence[str]
) -> list[Path]:
    contents = {
        "metrics.csv": tables.comma_separated(comparison),
        "metrics.json": tables.as_json(comparison, dialect, failures),
        "metrics.md": tables.markdown(comparison),
        "metrics.tex": tables.latex(comparison),
    }
    for name, content in contents.items():
        files.write(out / name, content.encode())
    return [out / name for name in contents]


def _write_pictures(
    out: Path,
    comparison: Comparison,
    sources: Sequence[Source],
    rows: Mapping[str, Method],
    shown: int,
) -> list[Path]:
    sheet, page = out / "contact_sheet.png", out / "report.html"
    sample = list(scenes(sources, rows, contact_sheet.ROWS))
    contact_sheet.write(sheet, ["Average", *rows], sample)
    viewer.write(page, comparison, scenes(sources, rows, shown))
    return [sheet, page]
