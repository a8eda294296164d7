"""What an evaluation leaves behind: a printed table, CSV, JSON and a contact sheet."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from smc_jax import files, metrics

Scores = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Method, then pair, then metric."""

SHEET_ROWS = 12
SHEET_WIDTH = 1600
_CELL = 320
_LABEL = 22


class Row(NamedTuple):
    """One row of the contact sheet: a pair's name and uint8 images, "h w" or "h w 3"."""

    name: str
    images: Sequence[np.ndarray]


def means(scores: Scores) -> dict[str, dict[str, float]]:
    """The plain mean of every metric over the pairs of each method."""
    result = {}
    for method, pairs in scores.items():
        names = _metric_names({method: pairs})
        columns = {m: [p[m] for p in pairs.values() if m in p] for m in names}
        result[method] = {m: math.fsum(values) / len(values) for m, values in columns.items()}
    return result


def table(scores: Scores) -> str:
    """Means as aligned text, a line a method; `*` marks the best of a column.

    Methods that miss pairs which others have are not marked: their mean is over an easier or
    harder set.
    """
    mean, most = means(scores), max(map(len, scores.values()))
    names = _metric_names(scores)
    lines = [["method", "pairs", *(f"{name} " for name in names)]]
    complete = [method for method in scores if len(scores[method]) == most]
    for method in scores:
        cells = [method, str(len(scores[method]))]
        for name in names:
            column = [mean[m][name] for m in complete if name in mean[m]]
            if name not in mean[method] or not column:
                cells.append("- ")
                continue
            digits = 2 if max(column) >= 10 else 3
            best = (max if _higher_is_better(name) else min)(column)
            # As printed, so that a difference nobody sees decides nothing.
            text, best_text = f"{mean[method][name]:.{digits}f}", f"{best:.{digits}f}"
            cells.append(text + ("*" if method in complete and text == best_text else " "))
        lines.append(cells)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip()
        for line in lines
    ]
    lower = [name for name in names if not _higher_is_better(name)]
    order = f"higher is better, but for {', '.join(lower)}" if lower else "higher is better"
    return "\n".join([*text, f"* best of the column ({order}); mean over the pairs"])


def write(folder: Path, scores: Scores, failures: Sequence[str]) -> list[Path]:
    """Writes `metrics.csv` and `metrics.json` and returns their paths.

    The CSV has a row for each pair of each method and one, named `mean`, that closes the method.
    """
    names, mean = _metric_names(scores), means(scores)
    buffer = io.StringIO()
    rows = csv.writer(buffer, lineterminator="\n")
    rows.writerow(["method", "name", *names])
    for method, pairs in scores.items():
        for name, values in (*pairs.items(), ("mean", mean[method])):
            cells = (f"{values[m]:.8g}" if m in values else "" for m in names)
            rows.writerow([method, name, *cells])
    content = {
        "higher_is_better": {name: _higher_is_better(name) for name in names},
        "methods": {
            method: {"pairs": len(pairs), "mean": mean[method], "scores": pairs}
            for method, pairs in scores.items()
        },
        "failures": list(failures),
    }
    paths = [folder / "metrics.csv", folder / "metrics.json"]
    files.write(paths[0], buffer.getvalue().encode())
    files.write(paths[1], json.dumps(content, indent=2).encode())
    return paths


def contact_sheet(path: Path, columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Writes rows of small images under labelled columns as one PNG, at most 1600 pixels wide."""
    width = min(_CELL, SHEET_WIDTH // len(columns))
    heights = [_height(row.images[0], width) for row in rows]
    size = (width * len(columns), _LABEL + sum(heights) + _LABEL * len(rows))
    sheet = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for column, title in enumerate(columns):
        draw.text((column * width + 4, 2), title, "black", font)
    top = _LABEL
    for row, height in zip(rows, heights, strict=True):
        draw.text((4, top + 2), row.name, "gray", font)
        for column, image in enumerate(row.images):
            cell = Image.fromarray(image).convert("RGB").resize((width - 4, height - 2))
            sheet.paste(cell, (column * width + 2, top + _LABEL))
        top += height + _LABEL
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    files.write(path, buffer.getvalue())


def _height(image: np.ndarray, width: int) -> int:
    h, w = image.shape[:2]
    return max(3, min(round(width * h / w), 2 * width))


def _metric_names(scores: Scores) -> list[str]:
    there = {m for pairs in scores.values() for values in pairs.values() for m in values}
    return [name for name in (*metrics.METRICS, *metrics.TRUTH_METRICS) if name in there]


def _higher_is_better(name: str) -> bool:
    return (metrics.METRICS | metrics.TRUTH_METRICS)[name].higher_is_better
