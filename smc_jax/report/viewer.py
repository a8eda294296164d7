"""The page `report.html`: the table and a viewer of every pair, in one file that needs no network.

The images are lossless WebP in inert JSON at the end of the page, one block per pair. The page
works while these blocks are still loading, and decodes an image when it is shown.
"""

import base64
import hashlib
import html
import io
import json
import math
import string
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path

import numpy as np
from PIL import Image

from smc_jax import files
from smc_jax.report.comparison import Comparison, digits, higher_is_better
from smc_jax.report.scene import Scene

_SCENES = "<!-- scenes -->"
_SCRIPTS = ("pixels.js", "table.js", "stage.js", "chooser.js", "viewer.js")
_WEBP_SIDE = 16383


def write(path: str | Path, comparison: Comparison, scenes: Iterable[Scene]) -> None:
    """Writes the page, whole or not at all; only one scene is held in memory.

    Raises:
      InputError: the folder cannot be written to.
    """
    head, tail = _page(comparison).split(_SCENES)
    with files.replacing(path) as file, ThreadPoolExecutor() as pool:
        file.write(head.encode())
        for scene in scenes:
            file.write(_block(scene, pool).encode())
        file.write(tail.encode())


def _page(comparison: Comparison) -> str:
    style = _asset("style.css")
    script = "\n".join(map(_asset, _SCRIPTS))
    methods = sorted(comparison.methods, key=lambda m: comparison.ranks.get(m, math.inf))
    pairs = list(dict.fromkeys(p for m in methods for p in comparison.scores.get(m, {})))
    decimals = {metric: digits(comparison.means, metric) for metric in comparison.metrics}
    counts = ((len(pairs), "pair"), (len(methods), "method"), (len(decimals), "metric"))
    return string.Template(_asset("page.html")).substitute(
        # Allowed by hash, so that no other script runs even if a name gets past the escaping.
        policy=f"default-src 'none'; img-src data:; style-src {_hash(style)}; "
        f"script-src {_hash(script)}; base-uri 'none'; form-action 'none'",
        style=style,
        script=script,
        counts=", ".join(f"{n} {noun}{'' if n == 1 else 's'}" for n, noun in counts),
        table=_table(comparison, methods, decimals),
        summary=_json(
            {
                "pairs": pairs,
                "methods": methods,
                "metrics": [
                    {"name": m, "higher": higher_is_better(m), "digits": decimals[m]}
                    for m in comparison.metrics
                ],
                "scores": [
                    [_values(comparison, method, pair) for pair in pairs] for method in methods
                ],
            }
        ),
    )


def _values(comparison: Comparison, method: str, pair: str) -> list[float | None] | None:
    scores = comparison.scores.get(method, {}).get(pair)
    return None if scores is None else [_number(scores.get(m)) for m in comparison.metrics]


def _number(value: float | None) -> float | None:
    """A score to six digits."""
    return None if value is None else float(f"{value:.6g}")


def _table(comparison: Comparison, methods: list[str], decimals: Mapping[str, int]) -> str:
    """Means as rows of HTML, the best mean rank first."""
    head = ['<th scope="col">Method</th>']
    head.append('<th scope="col" aria-sort="ascending" data-better="lower">Mean rank</th>')
    for metric in decimals:
        better = "higher" if higher_is_better(metric) else "lower"
        arrow = "↑" if better == "higher" else "↓"
        label = f'{html.escape(metric)} <span aria-hidden="true">{arrow}</span>'
        hidden = f'<span class="vh">{better} is better</span>'
        head.append(f'<th scope="col" data-better="{better}">{label}{hidden}</th>')
    rows = [f"<thead><tr>{''.join(head)}</tr></thead>\n<tbody>"]
    for method in methods:
        cells = [_cell(comparison.ranks.get(method), 2)]
        for metric, places in decimals.items():
            mark = comparison.places.get(method, {}).get(metric, 0)
            interval = comparison.intervals.get(method, {}).get(metric)
            value = comparison.means.get(method, {}).get(metric)
            cells.append(_cell(value, places, mark, interval))
        rows.append(f'<tr><th scope="row">{html.escape(method)}</th>{"".join(cells)}</tr>')
    return "\n".join([*rows, "</tbody>"])


def _cell(
    value: float | None, decimals: int, mark: int = 0, interval: tuple[float, float] | None = None
) -> str:
    if value is None:
        return '<td><span aria-hidden="true">&ndash;</span><span class="vh">undefined</span></td>'
    text = _text(value, decimals)
    if mark in (1, 2):
        tag, name = (("b", "best"), ("u", "second best"))[mark - 1]
        text = f'<{tag}>{text}</{tag}><span class="vh"> {name}</span>'
    title = ""
    if interval is not None:
        low, high = (_text(bound, decimals) for bound in interval)
        title = f' title="95 % interval: {low} to {high}"'
        text += f"<small>{low} to {high}</small>"
    return f'<td data-value="{_number(value)}"{title}>{text}</td>'


def _text(value: float, decimals: int) -> str:
    return f"{value:.{decimals}f}".replace("-", "−")  # noqa: RUF001, the sign of minus


def _block(scene: Scene, pool: ThreadPoolExecutor) -> str:
    images = [
        ("truth" if label == "truth" else "source", label, image)
        for label, image in scene.sources.items()
    ]
    images += [("result", method, image) for method, image in scene.results.items()]
    urls = pool.map(_data_url, (image for _, _, image in images))
    height, width = images[0][2].shape[:2]
    content = {
        "width": width,
        "height": height,
        "images": [
            {"kind": kind, "label": label, "src": url}
            for (kind, label, _), url in zip(images, urls, strict=True)
        ],
    }
    name = html.escape(scene.name)
    return f'<script type="application/json" data-scene="{name}">{_json(content)}</script>\n'


def _data_url(image: np.ndarray) -> str:
    """The image as lossless WebP, as fast as PNG and a quarter smaller, or as PNG if too large."""
    buffer = io.BytesIO()
    if max(image.shape) > _WEBP_SIDE:
        Image.fromarray(image).save(buffer, "PNG")
        kind = "png"
    else:
        Image.fromarray(image).save(buffer, "WEBP", lossless=True, method=1, quality=20)
        kind = "webp"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _json(content: object) -> str:
    """JSON that cannot close the script element around it."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    return text.replace("<", r"\u003c").replace(">", r"\u003e")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _asset(name: str) -> str:
    return resources.files("smc_jax.report").joinpath("page", name).read_text("utf-8")
