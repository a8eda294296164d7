"""The table of results: ranks by hand, and that README and docs agree."""

import csv
from pathlib import Path

from benchmarks import results
from benchmarks.results import DECIMALS, RANKED, Row

README = Path(__file__).parents[1] / "README.md"


def row(method, value, *, ours=False, **values):
    return Row(method, {**dict.fromkeys(DECIMALS, value), **values}, ours)


def test_ranks():
    rows = [
        row("ours", 2.0, ours=True),
        row("ours too", 9.0, ours=True),
        row("one", 3.0, MI=2.0),
        row("other", 1.0, VIF=2.0, SF=5.0),
    ]
    eight = len(RANKED)
    assert results.ranks(rows) == {
        # Behind `one` in seven of eight, which its equal MI is not, and behind `other` in SF.
        "ours": 1 + (eight - 1 + 1) / eight,
        "ours too": 1.0,
        "one": 1 + 1 / eight,
        "other": 1 + (2 * (eight - 2) + 1) / eight,
    }


def test_a_line_of_the_summary():
    rows = [
        row("ours", 2.0, ours=True, Nabf=0.0123),
        row("a", 1.0),
        row("b", 1.0, MI=3.0, SF=3.0),
        row("c", 1.0, MI=3.0, SF=3.0, AG=3.0),
    ]
    cells = results.summary("Set", 7, rows)
    assert cells[:2] == ["Set, 7 pairs", "1 of 4"]
    assert cells[4:] == ["2 of 3", "SCD, VIF, Qabf, SSIM, MS_SSIM", "0.012"]
    text = results.section("Set", 7, rows)
    assert text.startswith("## Set, 7 pairs\n")
    assert text.splitlines()[4].startswith("| **ours** | 1.62 |")


def test_every_set_has_peers_with_all_metrics():
    with results.PEERS.open() as file:
        lines = list(csv.DictReader(file))
    assert {line["set"] for line in lines} == results.SETS.keys()
    for name in results.SETS:
        rows = results.peers(name)
        assert len({r.method for r in rows}) == len(rows) > 5


def test_readme_has_the_summary():
    page = results.PAGE.read_text()
    (table,) = (part for part in page.split("\n## ") if part.startswith("Summary\n"))
    lines = [line for line in table.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(results.SETS)
    assert "\n".join(lines) in README.read_text()
