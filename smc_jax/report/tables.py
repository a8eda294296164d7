"""A comparison as plain text, Markdown, LaTeX, CSV and JSON."""

import csv
import io
import json
from collections.abc import Callable, Sequence

from smc_jax.report.comparison import CONFIDENCE, Comparison, higher_is_better, text

SIGNIFICANT = 0.05
LEAST_PAIRS = 6
"""With fewer pairs no difference is significant, whatever the scores."""
# More would not fit the width of a terminal.
_COLUMNS = 12


def plain(comparison: Comparison) -> str:
    """The means as aligned text, one line per method: `*` marks a column's best, `'` its second."""
    marks = {1: "*", 2: "'"}
    blocks = []
    for first in range(0, len(comparison.metrics), _COLUMNS):
        names = comparison.metrics[first : first + _COLUMNS]
        cells = _cells(comparison, names, lambda cell, place: cell + marks.get(place, " "))
        blocks.append(_aligned([["method", "pairs", *(f"{m} " for m in names), "rank"], *cells]))
    lower = [name for name in comparison.metrics if not higher_is_better(name)]
    order = f"higher is better, but for {', '.join(lower)}" if lower else "higher is better"
    notes = [
        f"* best, ' second best ({order}); means over the pairs",
        "rank: mean place over these metrics, among the methods that have all scores (-: not all)",
    ]
    return "\n\n".join([*blocks, "\n".join(notes)])


def versus(comparison: Comparison, method: str) -> str:
    """Aligned text on where a method differs from each other one by more than chance."""
    if len(comparison.scores[method]) < LEAST_PAIRS:
        return f"Fewer than {LEAST_PAIRS} pairs cannot show that a difference is more than chance."
    lines = [[f"{method} against", *comparison.metrics]]
    for other in comparison.methods:
        if other == method:
            continue
        signs = []
        for metric in comparison.metrics:
            ours, theirs = (comparison.means[m].get(metric) for m in (method, other))
            if ours is None or theirs is None:
                signs.append("")
            elif comparison.p_values[method][other][metric] >= SIGNIFICANT:
                signs.append("=")
            else:
                signs.append("+" if (ours > theirs) == higher_is_better(metric) else "-")
        lines.append([other, *signs])
    blocks = []
    for first in range(1, len(lines[0]), _COLUMNS):
        blocks.append(_aligned([[line[0], *line[first : first + _COLUMNS]] for line in lines]))
    notes = f"+ better, - worse, = no difference shown (Wilcoxon signed-rank test, {SIGNIFICANT:g})"
    return "\n\n".join([*blocks, notes])


def markdown(comparison: Comparison) -> str:
    """The means as a Markdown table: the best of a column bold, the second underlined."""
    marks = {1: "**{}**", 2: "<u>{}</u>"}
    cells = _cells(
        comparison, comparison.metrics, lambda cell, place: marks.get(place, "{}").format(cell)
    )
    names = [f"{m} {'↑' if higher_is_better(m) else '↓'}" for m in comparison.metrics]
    rows = [["method", "pairs", *names, "rank ↓"], ["---"] * (len(names) + 3)]
    rows += [[cell.replace("|", "\\|") for cell in row] for row in cells]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def latex(comparison: Comparison) -> str:
    """The means as a LaTeX table for the package booktabs: best bold, second underlined."""
    marks = {1: "\\textbf{{{}}}", 2: "\\underline{{{}}}"}
    cells = _cells(
        comparison, comparison.metrics, lambda cell, place: marks.get(place, "{}").format(cell)
    )
    arrows = {True: "$\\uparrow$", False: "$\\downarrow$"}
    names = [f"{_tex(m)} {arrows[higher_is_better(m)]}" for m in comparison.metrics]
    rows = [[_tex(name), *rest] for name, *rest in cells]
    body = [" & ".join(row) + " \\\\" for row in rows]
    return "\n".join(
        [
            f"\\begin{{tabular}}{{l{'r' * (len(names) + 2)}}}",
            "\\toprule",
            " & ".join(["method", "pairs", *names, "rank $\\downarrow$"]) + " \\\\",
            "\\midrule",
            *body,
            "\\bottomrule",
            "\\end{tabular}\n",
        ]
    )


def comma_separated(comparison: Comparison) -> str:
    """The scores as CSV: one row per pair of each method, then a row `mean` for the method.

    A cell is empty where a metric is undefined.
    """
    buffer = io.StringIO()
    rows = csv.writer(buffer, lineterminator="\n")
    rows.writerow(["method", "name", *comparison.metrics])
    for method, pairs in comparison.scores.items():
        for name, values in (*pairs.items(), ("mean", comparison.means[method])):
            cells = (f"{values[m]:.8g}" if m in values else "" for m in comparison.metrics)
            rows.writerow([method, name, *cells])
    return buffer.getvalue()


def as_json(comparison: Comparison, dialect: str, failures: Sequence[str]) -> str:
    """The comparison as JSON, with the dialect that the scores follow and the failures."""
    methods = {
        method: {
            "pairs": len(pairs),
            "mean": comparison.means[method],
            "interval": comparison.intervals[method],
            "rank": comparison.ranks.get(method),
            "scores": pairs,
        }
        for method, pairs in comparison.scores.items()
    }
    content = {
        "dialect": dialect,
        "higher_is_better": {name: higher_is_better(name) for name in comparison.metrics},
        "confidence": CONFIDENCE,
        "methods": methods,
        "wilcoxon": comparison.p_values,
        "failures": list(failures),
    }
    return json.dumps(content, indent=2, allow_nan=False)


def _cells(
    comparison: Comparison, names: Sequence[str], mark: Callable[[str, int], str]
) -> list[list[str]]:
    """Method, number of pairs, marked means and mean rank."""
    rows = []
    for method in comparison.methods:
        places = comparison.places.get(method, {})
        means = [mark(text(comparison.means, method, m) or "-", places.get(m, 0)) for m in names]
        rank = f"{comparison.ranks[method]:.2f}" if method in comparison.ranks else "-"
        rows.append([method, str(len(comparison.scores[method])), *means, rank])
    return rows


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip()
        for line in lines
    )


def _tex(name: str) -> str:
    special = {"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}"}
    return "".join(special.get(c, f"\\{c}" if c in "_&%$#{}" else c) for c in name)
