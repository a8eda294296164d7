import csv
import io
import itertools
import json
import re

import numpy as np
import pytest
from PIL import Image

from smc_jax.metrics import METRICS
from smc_jax.report import contact_sheet, tables
from smc_jax.report.comparison import compare, text
from smc_jax.report.scene import Scene

# Lower is better for Nabf. Partial has a single pair, on which it would win everything.
SCORES = {
    "Average": {
        "x": {"EN": 1.0, "SD": 20.0, "Nabf": 0.1},
        "y": {"EN": 2.0, "SD": 30.0, "Nabf": 0.1},
    },
    "Ours_1": {
        "x": {"EN": 3.0, "SD": 10.0, "Nabf": 0.3},
        "y": {"EN": 5.0, "SD": 12.0, "Nabf": 0.0},
    },
    "Partial": {"x": {"EN": 9.0, "SD": 99.0, "Nabf": 0.0}},
    "Third": {
        "x": {"EN": 3.0, "SD": 10.0, "Nabf": 0.2},
        "y": {"EN": 3.0, "SD": 12.0, "Nabf": 0.1003},
    },
}


def random_scores(pairs, gains):
    rng = np.random.default_rng(0)
    level = rng.normal(size=pairs)
    return {
        f"m{gain}": {str(i): {"VIF": level[i] + gain + 0.1 * rng.normal()} for i in range(pairs)}
        for gain in gains
    }


def test_means_and_places():
    got = compare(SCORES)
    assert got.methods == ["Average", "Ours_1", "Partial", "Third"]
    assert got.metrics == ["EN", "SD", "Nabf"]
    assert got.complete == ["Average", "Ours_1", "Third"]
    assert got.means["Ours_1"] == {"EN": 4, "SD": 11, "Nabf": 0.15}
    # Ours_1 and Third are equal as printed in Nabf (0.150), and in SD.
    assert got.places == {
        "Average": {"EN": 3, "SD": 1, "Nabf": 1},
        "Ours_1": {"EN": 1, "SD": 2, "Nabf": 2},
        "Partial": {},
        "Third": {"EN": 2, "SD": 2, "Nabf": 2},
    }
    assert got.ranks == pytest.approx(
        {"Average": 5 / 3, "Ours_1": (1 + 2.5 + 2.5) / 3, "Third": (2 + 2.5 + 2.5) / 3}
    )


def test_two_best_leave_no_second():
    scores = {k: {"x": {"EN": v}} for k, v in (("a", 2.0), ("b", 2.0001), ("c", 1.0))}
    assert compare(scores).places == {"a": {"EN": 1}, "b": {"EN": 1}, "c": {"EN": 3}}


def test_a_method_that_lacks_one_score_is_not_placed_there():
    lacking = {**SCORES, "Third": {"x": {"EN": 3.0, "SD": 1.0}, "y": {"EN": 6.0, "SD": 1.0}}}
    got = compare(lacking)
    assert got.complete == ["Average", "Ours_1"]
    assert "Nabf" not in got.means["Third"]
    assert got.places == {
        "Average": {"EN": 3, "SD": 1, "Nabf": 1},
        "Ours_1": {"EN": 2, "SD": 2, "Nabf": 2},
        "Partial": {},
        "Third": {"EN": 1, "SD": 3},
    }
    # Ranks are among the complete methods, of which Ours_1 is the best in EN.
    assert got.ranks == {"Average": pytest.approx(4 / 3), "Ours_1": pytest.approx(5 / 3)}


def test_no_complete_method_leaves_no_ranks():
    got = compare({"a": {"x": {"EN": 1.0}}, "b": {"x": {"SD": 1.0}}})
    assert (got.complete, got.ranks) == ([], {})
    assert got.places == {"a": {"EN": 1}, "b": {"SD": 1}}


def test_intervals_are_those_of_resampled_means():
    scores = random_scores(40, [0])
    values = np.array([v["VIF"] for v in scores["m0"].values()])
    rng = np.random.default_rng(1)
    means = values[rng.integers(0, 40, (20000, 40))].mean(1)
    low, high = compare(scores).intervals["m0"]["VIF"]
    assert (low, high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=0.03)
    assert compare(scores).intervals["m0"]["VIF"] == (low, high)
    assert compare({"m": {"x": {"EN": 1.0}}}).intervals == {"m": {}}


def signed_rank_p(differences):
    """The exact p-value, from all signs that the differences could have had."""
    ranks = np.argsort(np.argsort(np.abs(differences))) + 1
    signs = np.array(list(itertools.product((0, 1), repeat=len(ranks))))
    centre = ranks.sum() / 2
    away = np.abs((signs * ranks).sum(1) - centre)
    return np.mean(away >= abs(ranks[differences > 0].sum() - centre))


def test_p_values():
    scores = random_scores(9, [0.0, 0.05, 2.0])
    got = compare(scores).p_values
    for one, other in itertools.permutations(scores, 2):
        d = np.array([scores[one][p]["VIF"] - scores[other][p]["VIF"] for p in scores[one]])
        assert got[one][other]["VIF"] == pytest.approx(signed_rank_p(d))
    same = {"m": scores["m0.0"], "n": scores["m0.0"]}
    assert compare(same).p_values["m"]["n"]["VIF"] == 1


def test_plain_table_marks_the_best_of_complete_rows():
    lines = [line.split() for line in tables.plain(compare(SCORES)).splitlines()]
    assert lines[:5] == [
        ["method", "pairs", "EN", "SD", "Nabf", "rank"],
        ["Average", "2", "1.500", "25.00*", "0.100*", "1.67"],
        ["Ours_1", "2", "4.000*", "11.00'", "0.150'", "2.00"],
        ["Partial", "1", "9.000", "99.00", "0.000", "-"],
        ["Third", "2", "3.000'", "11.00'", "0.150'", "2.33"],
    ]
    assert "but for Nabf" in tables.plain(compare(SCORES))


def test_many_metrics_take_several_blocks():
    names = list(METRICS)[:14]
    scores = {"one": {"x": dict.fromkeys(names, 1.0)}}
    got = tables.plain(compare(scores))
    assert sum(line.startswith("one") for line in got.splitlines()) == 2
    assert all(f" {name} " in got for name in names)
    assert max(map(len, got.splitlines())) < 140


def test_versus():
    scores = random_scores(12, [0.0, 0.01, 2.0])
    for pairs in scores.values():
        for values in pairs.values():
            values["Nabf"] = values["VIF"]
    lines = [line.split() for line in tables.versus(compare(scores), "m0.01").splitlines()]
    assert lines[0] == ["m0.01", "against", "VIF", "Nabf"]
    assert lines[1] == ["m0.0", "=", "="]
    assert lines[2] == ["m2.0", "-", "+"]


def test_markdown():
    named = {"a|b": SCORES["Average"], "Ours_1": SCORES["Ours_1"]}
    assert tables.markdown(compare(named)).splitlines() == [
        "| method | pairs | EN ↑ | SD ↑ | Nabf ↓ | rank ↓ |",
        "| --- | --- | --- | --- | --- | --- |",
        "| a\\|b | 2 | <u>1.500</u> | **25.00** | **0.100** | 1.33 |",
        "| Ours_1 | 2 | **4.000** | <u>11.00</u> | <u>0.150</u> | 1.67 |",
    ]


def test_latex():
    named = {"50% & more": SCORES["Average"], "Ours_1": SCORES["Ours_1"]}
    got = tables.latex(compare(named))
    assert got.startswith("\\begin{tabular}{lrrrrr}\n\\toprule\n")
    assert got.endswith("\\bottomrule\n\\end{tabular}\n")
    assert (
        "Ours\\_1 & 2 & \\textbf{4.000} & \\underline{11.00} & \\underline{0.150} & 1.67 \\\\"
        in got
    )
    assert "50\\% \\& more & 2 &" in got
    columns = {len(re.findall(r"(?<!\\)&", line)) for line in got.splitlines() if "\\\\" in line}
    assert columns == {5}


def test_csv_and_json():
    got = compare(SCORES)
    rows = list(csv.reader(io.StringIO(tables.comma_separated(got))))
    assert rows[0] == ["method", "name", "EN", "SD", "Nabf"]
    assert rows[1:4] == [
        ["Average", "x", "1", "20", "0.1"],
        ["Average", "y", "2", "30", "0.1"],
        ["Average", "mean", "1.5", "25", "0.1"],
    ]
    content = json.loads(tables.as_json(got, "tang", ["lost"]))
    assert content["dialect"] == "tang"
    assert content["failures"] == ["lost"]
    assert content["higher_is_better"] == {"EN": True, "SD": True, "Nabf": False}
    ours = content["methods"]["Ours_1"]
    assert ours["mean"] == got.means["Ours_1"]
    assert tuple(ours["interval"]["SD"]) == got.intervals["Ours_1"]["SD"]
    assert ours["rank"] == 2
    assert content["methods"]["Partial"]["rank"] is None
    assert content["wilcoxon"]["Third"]["Average"] == got.p_values["Average"]["Third"]


def test_text_has_the_digits_of_its_column():
    values = {"a": {"EN": 9.9999, "CE": -12.0}, "b": {"EN": 1.0, "CE": 0.5}, "c": {}}
    assert [text(values, k, "EN") for k in values] == ["10.000", "1.000", ""]
    assert [text(values, k, "CE") for k in values] == ["-12.00", "0.50", ""]


def picture(level, size=(30, 40)):
    return np.full(size, level, np.uint8)


def load(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_contact_sheet_places_the_images(tmp_path):
    colour = np.zeros((30, 40, 3), np.uint8)
    colour[..., 0] = 200
    results = {"Average": picture(170), "Ours": picture(250)}
    scenes = [
        Scene("one", {"a": picture(10), "b": picture(90), "truth": picture(1)}, results),
        Scene("two", {"a": colour, "b": picture(90)}, {"Ours": picture(40), "a": picture(7)}),
    ]
    contact_sheet.write(tmp_path / "s.png", ["Average", "Ours"], scenes)
    sheet = load(tmp_path / "s.png")
    assert sheet.shape == (22 + 2 * (22 + 240), 4 * 320, 3)
    np.testing.assert_array_equal(sheet[44 + 120, 160::320, 0], [10, 90, 170, 250])
    second = sheet[44 + 240 + 22 + 120, 160::320]
    np.testing.assert_array_equal(second[0], [200, 0, 0])
    np.testing.assert_array_equal(second[1:, 0], [90, 255, 40])
    assert (sheet[:22] < 128).any()


def test_many_columns_keep_the_sheet_narrow(tmp_path):
    methods = list("cdefghijk")
    scene = Scene("x", {"a": picture(0), "b": picture(0)}, dict.fromkeys(methods, picture(0)))
    contact_sheet.write(tmp_path / "s.png", methods, [scene])
    assert load(tmp_path / "s.png").shape[1] <= 1600
