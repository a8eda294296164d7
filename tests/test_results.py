"""The table of results: ranks by hand, and that README and docs agree."""

import csv
import json
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import results
from benchmarks.results import DECIMALS, RANKED, Row
from smc_jax import files, image_files
from smc_jax.errors import ConfigError

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
        # Behind `one` in seven of eight metrics, since MI ties, and behind `other` in SF.
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
    assert cells[:4] == ["Set, 7 pairs", "1 of 4", "1.62", "c 1.62"]
    assert cells[4:] == ["2 of 3", "SCD, VIF, Qabf, SSIM, MS_SSIM", "0.012"]
    text = results.section("Set", 7, rows)
    assert text.startswith("## Set, 7 pairs\n")
    assert text.splitlines()[4].startswith("| **ours** | 1.62 |")
    columns = [[cell.strip() for cell in line.split("|")] for line in text.splitlines()[2:]]
    sf = columns[0].index("SF")
    assert {cells[1]: cells[sf] for cells in columns[2:]} == {
        "**ours**": "2.00",
        "a": "1.00",
        "b": "**3.00**",
        "c": "**3.00**",
    }


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """Two pairs and a fake evaluation: `calls` counts its runs, `scored` the pairs it scores."""
    state = SimpleNamespace(pairs=tmp_path / "pairs", out=tmp_path / "out", calls=0, scored=2)
    monkeypatch.setattr(results, "pairs_of", lambda name: {"x", "y"})
    for side in "ab":
        for name in "xy":
            image_files.write(state.pairs / side / f"{name}.png", np.zeros((4, 4), np.uint8))

    def main(out, **_):
        state.calls += 1
        found = {"pairs": state.scored, "mean": {"MI": float(state.calls)}}
        files.write(Path(out) / "metrics.json", json.dumps({"methods": {"Max": found}}).encode())
        return 2

    monkeypatch.setattr(results.evaluate, "main", main)
    return state


def test_pairs_are_scored_once_and_again_when_they_change(measured):
    def found():
        return results.scored(measured.out, "Lytro", "mfif", measured.pairs)["Max"]["MI"]

    assert (found(), found()) == (1.0, 1.0)
    image_files.write(measured.pairs / "b/x.png", np.ones((4, 4), np.uint8))
    assert (found(), found()) == (2.0, 2.0)


def test_pairs_that_failed_are_no_result(measured):
    for count, calls in ((1, 1), (1, 2), (2, 3)):
        measured.scored = count
        with nullcontext() if count == 2 else pytest.raises(ConfigError, match="could not be"):
            results.scored(measured.out, "Lytro", "mfif", measured.pairs)
        assert measured.calls == calls


def test_other_pairs_than_those_of_the_peers_are_refused(measured, tmp_path, monkeypatch):
    monkeypatch.setattr(results, "pairs_of", lambda name: {"x", "z"})
    (tmp_path / "mfif/Lytro").mkdir(parents=True)
    measured.pairs.rename(tmp_path / "mfif/Lytro/test")
    with pytest.raises(ConfigError) as error:
        results.check(tmp_path)
    lines = str(error.value).splitlines()
    assert len(lines) == len(results.SETS)
    assert f"{tmp_path}/mfif/Lytro/test differs from pairs.csv in 2 pairs: y, z" in lines
    assert f"there is no folder {tmp_path}/mfif/MFFW/test" in lines


def test_every_set_has_peers_with_all_metrics():
    with results.PEERS.open() as file:
        lines = list(csv.DictReader(file))
    assert {line["set"] for line in lines} == results.SETS.keys()
    for name in results.SETS:
        rows = results.peers(name)
        assert len({r.method for r in rows}) == len(rows) > 5


def test_the_tables_are_of_the_pairs_that_are_named():
    page = results.PAGE.read_text()
    for name, test in results.SETS.items():
        assert f"\n## {test.title}, {len(results.pairs_of(name))} pairs\n" in page


def test_readme_has_the_summary():
    page = results.PAGE.read_text()
    (table,) = (part for part in page.split("\n## ") if part.startswith("Summary\n"))
    lines = [line for line in table.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(results.SETS)
    assert "\n".join(lines) in README.read_text()
