"""Draws the curves of one or several runs.

python -m smc_jax.plot WORKDIR... [--out=curves.png] [--names=loss,val/VIF]
"""

import argparse
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from smc_jax import command, files
from smc_jax.errors import ConfigError, InputError

COLUMNS = 4
POINTS = 100
"""A curve with more points than this is drawn as the means over this many intervals, on a pale band
from the 10th to the 90th percentile."""
HIDDEN = ("chosen_", "importance_")
"""Prefixes of names that are drawn only if asked for."""

Curves = Mapping[str, Float[np.ndarray, "2 n"]]
"""Steps and values by name."""


def read(workdir: str | Path) -> Curves:
    """Reads all that a run has logged.

    Raises:
      InputError: there is no `metrics.jsonl` in the workdir, or it is damaged.
    """
    path = Path(workdir) / "metrics.jsonl"
    if not path.is_file():
        raise InputError(f"{path} is not there; give the --workdir of a training")
    points: dict[str, list[tuple[float, float]]] = {}
    # A run that is still training may be in the middle of its last line.
    for line in path.read_text(errors="replace").splitlines(keepends=True):
        if not line.endswith("\n"):
            continue
        try:
            values = json.loads(line)
            step = float(values.pop("step"))
            found = {name: math.nan if v is None else float(v) for name, v in values.items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise InputError(f"{path} is damaged at {line.strip():.40}; remove that line") from None
        for name, value in found.items():
            points.setdefault(name, []).append((step, value))
    return {name: np.array(pairs).T for name, pairs in points.items()}


def draw(runs: Mapping[str, Curves], names: Sequence[str] = ()) -> bytes:
    """Draws a PNG with one panel per name and one line per run.

    Args:
      runs: curves by the name of the run.
      names: the curves to draw; if empty, all except those of single experts.

    Raises:
      ConfigError: matplotlib is not installed, or no run has a curve of a name, or any at all.
    """
    try:
        from matplotlib.figure import Figure  # pyrefly: ignore[missing-import]
    except ImportError:
        raise ConfigError("plots need matplotlib: pip install '.[plot]' in the clone") from None
    known = list(dict.fromkeys(name for curves in runs.values() for name in curves))
    unknown = [name for name in names if name not in known]
    if unknown or not known:
        raise ConfigError(f"no run has logged {', '.join(unknown) or 'anything'}; there is "
                          f"{', '.join(known) or 'nothing yet'}")  # fmt: skip
    shown = sorted(known, key=lambda name: name != "loss")
    chosen = list(names) or [name for name in shown if not name.startswith(HIDDEN)]
    columns = min(COLUMNS, len(chosen))
    rows = -(-len(chosen) // columns)
    figure = Figure(figsize=(3.4 * columns, 2.4 * rows + 0.4), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for name, axis in zip(chosen, axes, strict=False):
        axis.set_title(_plain(name), fontsize="medium")
        axis.grid(alpha=0.3)
        for number, curves in enumerate(runs.values()):
            if name in curves:
                _line(axis, curves[name], f"C{number % 10}")
    for axis in axes[len(chosen) :]:
        axis.set_axis_off()
    handles = [axes[0].plot([], [], color=f"C{i % 10}")[0] for i in range(len(runs))]
    labels = [_plain(run) for run in runs]
    figure.legend(handles, labels, loc="outside upper center", ncols=COLUMNS, frameon=False)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    return content.getvalue()


def _plain(name: str) -> str:
    """Escapes dollar signs: matplotlib takes text between two of them for a formula."""
    return name.replace("$", r"\$")


def _line(axis, curve: Float[np.ndarray, "2 n"], color: str) -> None:
    curve = curve[:, np.isfinite(curve[1])]
    steps, values = curve
    if len(steps) > POINTS:
        groups = [g for g in np.array_split(curve, POINTS, axis=1) if g.size]
        steps, values = np.array([g.mean(1) for g in groups]).T
        low, high = np.array([np.percentile(g[1], (10, 90)) for g in groups]).T
        axis.fill_between(steps, low, high, color=color, alpha=0.2, linewidth=0)
    axis.plot(steps, values, color=color, linewidth=1.2, marker="." if len(steps) < 30 else "")


def main(arguments: Sequence[str] | None = None) -> int | None:
    """Runs the command; returns the exit status."""
    parser = command.Parser(description=__doc__.partition("\n")[0])
    parser.add_argument("workdirs", nargs="+", metavar="WORKDIR")
    parser.add_argument("--out", default="curves.png", help="a PNG file (default: %(default)s)")
    parser.add_argument("--names", default="", help="the curves to draw, separated by commas")
    return command.guarded(lambda: _main(parser.parse_args(arguments)))


def _main(given: argparse.Namespace) -> None:
    if Path(given.out).suffix.lower() != ".png":
        raise InputError(f"--out={given.out} is no name of a picture; give one that ends in .png")
    names = [name.strip() for name in given.names.split(",") if name.strip()]
    files.write(given.out, draw({path: read(path) for path in given.workdirs}, names))
    print(f"wrote {given.out}")


if __name__ == "__main__":
    raise SystemExit(main())
