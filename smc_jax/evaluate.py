"""Evaluation: fuses pairs, or reads what others fused, and scores both beside average and maximum.

Fused images are stored as 8-bit PNG, read back and scored on their luma, as every published
evaluator does; the scores of a set are means over its pairs.
"""

import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from smc_jax import color, data, files, metrics, report
from smc_jax.data import Example
from smc_jax.errors import ConfigError, ImageError, InputError
from smc_jax.metrics import vif

Source = Callable[[], Example]
"""Reads a pair when its turn comes, so that a bad file fails alone."""
Method = Callable[[Example], np.ndarray]
"""The fused image of a pair, as read from its file."""


def main(
    out: str,
    *,
    checkpoint: str = "",
    fused: Sequence[str] = (),
    pairs: str = "",
    dataset: str = "",
    data_dir: str = "data",
    split: str = "test",
) -> int:
    """The command `evaluate.py`: prints the table and writes the report into `out`.

    Args:
      out: folder for `fused/<name>.png`, `metrics.csv`, `metrics.json` and `contact_sheet.png`.
      checkpoint: a training workdir; its newest checkpoint fuses the pairs.
      fused: folders of images that someone else fused, `DIR` or `NAME=DIR`, matched by name.
      pairs: a folder with `a/`, `b/` and perhaps the ground truth in `gt/`; or instead
      dataset: the name of a prepared data set in `data_dir`, of which `split` is read.

    Returns:
      The exit status: 0, or 2 if some of the pairs failed.

    Raises:
      InputError: an argument is wrong, or nothing could be scored.
    """
    if bool(pairs) == bool(dataset):
        raise ConfigError("give either --pairs=DIR or --dataset=NAME")
    if not out:
        raise ConfigError("give --out=DIR, a folder for the results")
    files.check_folder(out, "--out")
    failures: list[str] = []
    sources = _dataset(dataset, data_dir, split) if dataset else _folder(pairs, failures)
    methods = _others(fused)
    if checkpoint:
        name, method = _model(checkpoint, Path(out) / "fused")
        if name in methods:
            raise ConfigError(f"--fused: {name} is the row of the checkpoint; name it otherwise")
        methods = {name: method, **methods}
    if not methods:
        raise ConfigError("give --checkpoint=WORKDIR or --fused=DIR")
    scores, rows = score(sources, methods, failures)
    if not any(scores[name] for name in methods):
        more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
        reason = failures[0] if failures else "there is no pair"
        raise ImageError(f"nothing could be scored: {reason}{more}")
    _conclude(Path(out), scores, rows, list(methods), failures)
    return 2 if failures else 0


def score(
    sources: Sequence[Source], methods: dict[str, Method], failures: list[str]
) -> tuple[report.Scores, list[report.Row]]:
    """Scores every method, Average and Max on every pair.

    What cannot be read or does not fit is left out and described by a line added to `failures`.

    Returns:
      Scores by method, pair and metric, and rows for the contact sheet, spread over the pairs.
    """
    scores: dict[str, dict[str, dict[str, float]]] = {
        name: {} for name in ("Average", "Max", *methods)
    }
    shown = set(np.linspace(0, len(sources) - 1, report.SHEET_ROWS).round().astype(int).tolist())
    rows = []
    for index, source in enumerate(tqdm(sources, unit="pair", disable=not sys.stderr.isatty())):
        try:
            pair = _checked(source())
        except InputError as error:
            failures.append(str(error))
            continue
        a, b = luma8(pair.a), luma8(pair.b)
        truth = None if pair.truth is None else luma8(pair.truth)
        fused = {"Average": average(a, b), "Max": np.maximum(a, b)}
        for name, method in methods.items():
            try:
                fused[name] = method(pair)
            except InputError as error:
                failures.append(str(error))
        for name, image in fused.items():
            scores[name][pair.name] = metrics.score(a, b, luma8(image), truth)
        if index in shown:
            gap = np.zeros_like(a)
            images = [fused.get(name, gap) for name in ("Average", *methods)]
            rows.append(report.Row(pair.name, [color.bytes8(i) for i in (pair.a, pair.b, *images)]))
    return scores, rows


def luma8(image: np.ndarray) -> np.ndarray:
    """Luma in whole grey levels 0..255: what the metrics see. Exact: halves are rounded up."""
    image = color.bytes8(image)
    if image.ndim == 2:
        return image
    return ((image.astype(np.int32) @ np.array([299, 587, 114]) + 500) // 1000).astype(np.uint8)


def average(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The mean of two uint8 images, halves rounded up."""
    return ((a.astype(np.uint16) + b + 1) // 2).astype(np.uint8)


def _folder(pairs: str, failures: list[str]) -> list[Source]:
    found, problems = color.pairs(pairs)
    truths = color.truths(pairs)
    failures.extend([*problems, *color.without_truth(found, truths)])

    def read(pair: color.Pair) -> Example:
        truth = color.read(truths[pair.name]) if pair.name in truths else None
        return Example(pair.name, color.read(pair.a), color.read(pair.b), truth)

    return [functools.partial(read, pair) for pair in found]


def _dataset(name: str, data_dir: str, split: str) -> list[Source]:
    records: Any = data.open_source(data_dir, name, split)
    return [lambda index=index: data.pair(records, index) for index in range(len(records))]


def _model(checkpoint: str, folder: Path) -> tuple[str, Method]:
    # Scoring what others fused needs no model.
    from smc_jax.checkpoint import load
    from smc_jax.fuse import Fuser

    config, params = load(checkpoint)
    fuser = Fuser(config.model, params)

    def method(pair: Example) -> np.ndarray:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{pair.name}.png"
        color.write(path, color.bytes8(fuser(pair.a, pair.b)))
        return color.read(path)

    return f"SMC-Mamba ({config.setting})", method


def _others(fused: Sequence[str]) -> dict[str, Method]:
    methods = {}
    for text in fused:
        name, equals, folder = text.partition("=")
        if not equals or Path(text).is_dir():
            name, folder = Path(text).resolve().name, text
        if name in ("", "Average", "Max", *methods):
            raise ConfigError(f"--fused: there is a row {name} already; use --fused=NAME=DIR")
        if not Path(folder).is_dir():
            raise ImageError(f"{folder} is no folder; --fused takes a folder of fused images")
        methods[name] = functools.partial(_found, Path(folder), color.images(Path(folder)))
    return methods


def _found(folder: Path, images: dict[str, Path], pair: Example) -> np.ndarray:
    if pair.name not in images:
        raise ImageError(f"no image {pair.name}.* in {folder}")
    image = color.read(images[pair.name])
    color.same_size(image, pair.a, f"{images[pair.name]} and its source a")
    return image


def _checked(pair: Example) -> Example:
    """The pair, if its images fit each other and are large enough to be scored."""
    color.same_size(pair.a, pair.b, f"a and b of {pair.name}")
    if pair.truth is not None:
        color.same_size(pair.a, pair.truth, f"{pair.name} and its ground truth")
    height, width = pair.a.shape[:2]
    if min(height, width) < vif.SMALLEST:
        least = f"{vif.SMALLEST}x{vif.SMALLEST}"
        raise ImageError(f"{pair.name} is {width}x{height}; scoring needs {least} at least")
    return pair


def _conclude(
    out: Path, scores: report.Scores, rows: list[report.Row], names: list[str], failures: list[str]
) -> None:
    paths = report.write(out, scores, failures)
    if rows:
        sheet = out / "contact_sheet.png"
        report.contact_sheet(sheet, ["a", "b", "Average", *names], rows)
        paths.append(sheet)
    print(report.table(scores))
    print("\nwrote " + ", ".join(map(str, paths)))
    if failures:
        print(f"\n{len(failures)} failed:", *failures, sep="\n  ", file=sys.stderr)
