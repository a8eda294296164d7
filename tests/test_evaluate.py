import csv
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from data_prep.build import build
from smc_jax import evaluate, metrics
from smc_jax.errors import ConfigError, ImageError, InputError

ROOT = Path(__file__).parents[1]


def scene(seed, colour=False, size=(24, 32)):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (6, 8, 3) if colour else (6, 8), dtype=np.uint8)
    return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def load(path):
    with Image.open(path) as image:
        return np.asarray(image)


def grey(image):
    """8-bit luma by exact integer arithmetic."""
    if image.ndim == 2:
        return image
    return ((image.astype(int) @ np.array([299, 587, 114]) + 500) // 1000).astype(np.uint8)


@pytest.fixture
def pairs(tmp_path):
    """Three pairs, one of which has a colour source."""
    for i in range(3):
        save(tmp_path / f"pairs/a/p{i}.png", scene(i))
        save(tmp_path / f"pairs/b/p{i}.bmp", scene(10 + i, colour=i == 1))
    return tmp_path / "pairs"


@pytest.fixture
def fused(tmp_path):
    """Fused images to score: the pixelwise maximum of the sources."""
    for i in range(3):
        a, b = scene(i), grey(scene(10 + i, colour=i == 1))
        save(tmp_path / f"other/p{i}.tif", np.maximum(a, b))
    return tmp_path / "other"


@pytest.fixture
def model(monkeypatch):
    """Stands in for a trained model: a weighted sum of the sources, in colour if b is."""

    def fuser(a, b):
        return np.round(0.25 * (a if b.ndim == 2 else a[..., None]) + 0.75 * b).astype(np.uint8)

    config = SimpleNamespace(model="model", setting="practical")
    monkeypatch.setitem(
        sys.modules, "smc_jax.weights", SimpleNamespace(load=lambda workdir: (config, "params"))
    )
    monkeypatch.setitem(
        sys.modules, "smc_jax.fusion", SimpleNamespace(Fuser=lambda config, params: fuser)
    )
    return fuser


def rows(out):
    with (out / "metrics.csv").open() as file:
        return {(r.pop("method"), r.pop("name")): r for r in csv.DictReader(file)}


def numbers(row):
    return {name: float(value) for name, value in row.items() if value}


def test_checkpoint(pairs, model, tmp_path, capsys):
    out = tmp_path / "out"
    assert evaluate.main(str(out), checkpoint="workdir", pairs=str(pairs)) == 0
    table = rows(out)
    ours = "SMC-Mamba (practical)"
    assert list(table) == [
        (method, name) for method in ("Average", "Max", ours) for name in ("p0", "p1", "p2", "mean")
    ]
    for i in range(3):
        a, b = scene(i), scene(10 + i, colour=i == 1)
        stored = load(out / f"fused/p{i}.png")
        np.testing.assert_array_equal(stored, model(a, b))
        expected = {
            "Average": np.floor((a.astype(float) + grey(b) + 1) / 2).astype(np.uint8),
            "Max": np.maximum(a, grey(b)),
            ours: grey(stored),
        }
        for method, image in expected.items():
            score = metrics.score(a, grey(b), image)
            assert numbers(table[method, f"p{i}"]) == pytest.approx(score, rel=1e-6, abs=1e-7)
    for name in metrics.SETS["paper"]:
        each = [float(table[ours, f"p{i}"][name]) for i in range(3)]
        assert float(table[ours, "mean"][name]) == pytest.approx(np.mean(each), rel=1e-6)
    stored = json.loads((out / "metrics.json").read_text())
    assert stored["methods"][ours]["pairs"] == 3
    assert stored["methods"][ours]["mean"] == pytest.approx(numbers(table[ours, "mean"]))
    assert stored["failures"] == []
    assert load(out / "contact_sheet.png").shape[1] == 4 * 320
    assert {p.name for p in out.iterdir()} == {
        "fused",
        "metrics.csv",
        "metrics.json",
        "metrics.md",
        "metrics.tex",
        "contact_sheet.png",
        "report.html",
    }
    printed = capsys.readouterr()
    assert ours in printed.out
    assert "contact_sheet.png" in printed.out
    assert printed.err == ""


def test_others_by_name(pairs, fused, tmp_path, capsys):
    out = tmp_path / "out"
    named = [f"Best={fused}", str(fused)]
    assert evaluate.main(str(out), fused=named, pairs=str(pairs)) == 0
    table = rows(out)
    for name in ("p0", "p1", "p2", "mean"):
        assert table["Best", name] == table["other", name] == table["Max", name]
    assert not (out / "fused").exists()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:5]] == ["method", "Average", "Max", "Best", "other"]


def test_sixteen_bits_are_scored_in_eight(pairs, monkeypatch, tmp_path):
    wide = np.arange(24 * 32, dtype=np.uint16).reshape(24, 32) * 85
    save(pairs / "a/p0.png", wide)
    monkeypatch.setitem(
        sys.modules,
        "smc_jax.weights",
        SimpleNamespace(load=lambda workdir: (SimpleNamespace(model=0, setting="paper"), 0)),
    )
    monkeypatch.setitem(
        sys.modules, "smc_jax.fusion", SimpleNamespace(Fuser=lambda *_: lambda a, b: a // 2)
    )
    assert evaluate.main(str(tmp_path / "out"), checkpoint="x", pairs=str(pairs)) == 0
    stored = load(tmp_path / "out/fused/p0.png")
    assert stored.dtype == np.uint8
    np.testing.assert_array_equal(stored, np.round(wide // 2 / 257))
    a = np.round(wide / 257).astype(np.uint8)
    score = metrics.score(a, scene(10), stored)
    assert numbers(rows(tmp_path / "out")["SMC-Mamba (paper)", "p0"]) == pytest.approx(
        score, rel=1e-6, abs=1e-7
    )


def test_undefined_metrics_are_empty_and_told(pairs, fused, tmp_path, capsys):
    """The correlation with a constant image is 0 divided by 0."""
    save(pairs / "a/p0.png", np.full((24, 32), 7, np.uint8))
    save(fused / "p2.tif", np.full((24, 32), 9, np.uint8))
    out = tmp_path / "out"
    assert evaluate.main(str(out), fused=[str(fused)], pairs=str(pairs), chosen="CC,EN") == 2
    table = rows(out)
    assert {name for name, row in table.items() if row["CC"] == ""} == {
        ("Average", "p0"),
        ("Max", "p0"),
        ("other", "p0"),
        ("other", "p2"),
    }
    assert float(table["other", "mean"]["CC"]) == pytest.approx(float(table["other", "p1"]["CC"]))
    assert json.loads((out / "metrics.json").read_text())["failures"] == [
        "p0: CC undefined for Average, Max, other; a is constant",
        "p2: CC undefined for other",
    ]


def test_what_is_undefined_for_a_baseline_alone_is_no_failure(pairs, fused, tmp_path, capsys):
    """Where b is larger everywhere, the maximum equals b, and SCD is undefined."""
    save(pairs / "a/p0.png", scene(10) // 2)
    out = tmp_path / "out"
    save(fused / "p0.tif", scene(5))
    assert evaluate.main(str(out), fused=[str(fused)], pairs=str(pairs), chosen="SCD") == 0
    assert [key for key, row in rows(out).items() if row["SCD"] == ""] == [("Max", "p0")]
    printed = capsys.readouterr()
    assert "not in these means:\n  p0: SCD undefined for Max\n" in printed.out
    assert printed.err == ""


def test_metrics_and_dialect(pairs, fused, tmp_path, capsys):
    chosen = {"chosen": "Q_Y, MI", "dialect": "tang", "fused": [str(fused)], "pairs": str(pairs)}
    assert evaluate.main(str(tmp_path / "out"), **chosen) == 0
    table = rows(tmp_path / "out")
    assert set(table["other", "p0"]) == {"MI", "Q_Y"}
    a, b = scene(0), scene(10)
    score = metrics.score(a, b, np.maximum(a, b), metrics=["MI", "Q_Y"], dialect="tang")
    assert numbers(table["other", "p0"]) == pytest.approx(score, rel=1e-6)
    assert score["MI"] != metrics.score(a, b, np.maximum(a, b))["MI"]
    assert json.loads((tmp_path / "out/metrics.json").read_text())["dialect"] == "tang"
    assert "Fewer than 6 pairs" in capsys.readouterr().out


def truths(folder):
    """Writes a ground truth for two of the three pairs."""
    for i in (0, 2):
        save(folder / f"p{i}.png", scene(20 + i, colour=i == 2))


def check_truths(out):
    table = rows(out)
    for i in (0, 2):
        a, truth = scene(i), grey(scene(20 + i, colour=i == 2))
        score = metrics.score(a, a, np.maximum(a, scene(10 + i)), truth)
        row = numbers(table["other", f"p{i}"])
        for name in ("PSNR_GT", "SSIM_GT"):
            assert row[name] == pytest.approx(score[name], rel=1e-6)
    assert table["other", "p1"]["PSNR_GT"] == ""
    each = [float(table["other", f"p{i}"]["PSNR_GT"]) for i in (0, 2)]
    assert float(table["other", "mean"]["PSNR_GT"]) == pytest.approx(np.mean(each), rel=1e-6)


def test_ground_truth_of_a_folder(pairs, fused, tmp_path, capsys):
    truths(pairs / "gt")
    save(pairs / "gt/lonely.png", scene(3))
    assert evaluate.main(str(tmp_path / "out"), fused=[str(fused)], pairs=str(pairs)) == 2
    check_truths(tmp_path / "out")
    printed = capsys.readouterr()
    assert "PSNR_GT" in printed.out
    assert "p1.png has no ground truth; add gt/p1.*" in printed.err
    assert "lonely.png has no pair; add it or remove this" in printed.err


def test_data_set(pairs, fused, tmp_path):
    """A data set gets the same scores as the files that it was built from."""
    evaluate.main(str(tmp_path / "folder"), fused=[str(fused)], pairs=str(pairs))
    pairs.rename(tmp_path / "test")
    (tmp_path / "splits").mkdir()
    (tmp_path / "test").rename(tmp_path / "splits/test")
    build(tmp_path / "splits", "ivif", "mine", tmp_path / "data")
    where = {"dataset": "mine", "data_dir": str(tmp_path / "data")}
    assert evaluate.main(str(tmp_path / "out"), fused=[str(fused)], **where) == 0
    assert rows(tmp_path / "out") == rows(tmp_path / "folder")


def test_unknown_data_set(fused, tmp_path):
    arguments = {"fused": [str(fused)], "dataset": "mine", "data_dir": str(tmp_path)}
    with pytest.raises(ConfigError, match=f"no data set in {tmp_path / 'mine'}"):
        evaluate.main(str(tmp_path / "out"), **arguments)


def test_bad_files_fail_alone(pairs, model, tmp_path, capsys):
    save(pairs / "b/p0.bmp", scene(10, size=(32, 32)))
    (pairs / "a/p2.png").write_bytes(b"")
    (pairs / "a/broken.png").write_bytes((pairs / "a/p1.png").read_bytes()[:60])
    save(pairs / "b/broken.png", scene(5))
    save(pairs / "a/single.png", scene(6))
    save(pairs / "a/tiny.png", scene(7, size=(16, 32)))
    save(pairs / "b/tiny.png", scene(8, size=(16, 32)))
    out = tmp_path / "out"
    assert evaluate.main(str(out), checkpoint="workdir", pairs=str(pairs)) == 2
    errors = capsys.readouterr().err.splitlines()
    failures = json.loads((out / "metrics.json").read_text())["failures"]
    assert len(failures) == 5
    assert "5 failed:" in errors
    assert [line.strip() for line in errors[-5:]] == failures
    for expected in (
        ("p0", "32x24", "32x32"),
        ("p2.png",),
        ("broken.png",),
        ("single.png",),
        ("tiny",),
    ):
        assert sum(all(part in line for part in expected) for line in failures) == 1, expected
    assert [name for method, name in rows(out) if method == "Max"] == ["p1", "mean"]
    assert [p.name for p in (out / "fused").iterdir()] == ["p1.png"]


def test_fused_missing_or_of_another_size(pairs, fused, tmp_path, capsys):
    (fused / "p0.tif").unlink()
    save(fused / "p1.tif", scene(0, size=(12, 16)))
    out = tmp_path / "out"
    assert evaluate.main(str(out), fused=[str(fused)], pairs=str(pairs)) == 2
    errors = capsys.readouterr().err
    assert f"no image p0.* in {fused}" in errors
    assert f"{fused / 'p1.tif'} and its source a are 16x12 and 32x24 pixels" in errors
    assert [name for method, name in rows(out) if method == "other"] == ["p2", "mean"]
    assert [name for method, name in rows(out) if method == "Max"] == ["p0", "p1", "p2", "mean"]


def test_fused_images_of_no_pair_are_told(pairs, fused, tmp_path, capsys):
    save(fused / "other.tif", scene(0))
    (pairs / "a/p2.png").write_bytes(b"")
    assert evaluate.main(str(tmp_path / "out"), fused=[str(fused)], pairs=str(pairs)) == 2
    failures = json.loads((tmp_path / "out/metrics.json").read_text())["failures"]
    assert failures[1:] == [f"{fused}: no pair was scored for other, p2"]
    for i in range(12):
        save(fused / f"more{i:02}.tif", scene(0))
    assert evaluate.main(str(tmp_path / "out"), fused=[str(fused)], pairs=str(pairs)) == 2
    failures = json.loads((tmp_path / "out/metrics.json").read_text())["failures"]
    assert failures[1].endswith("more08, more09 and 4 more")


def test_nothing_to_score_leaves_nothing(pairs, fused, tmp_path):
    for file in fused.iterdir():
        file.write_bytes(b"")
    out = tmp_path / "out"
    with pytest.raises(ImageError, match=r"^nothing could be scored: .*p0.tif.*\(and 2 more\)$"):
        evaluate.main(str(out), fused=[str(fused)], pairs=str(pairs))
    assert not out.exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"fused": ["x"]}, "either --pairs=DIR or --dataset=NAME"),
        ({"fused": ["x"], "pairs": "p", "dataset": "d"}, "either --pairs=DIR or --dataset=NAME"),
        ({"pairs": "{pairs}"}, "give --checkpoint=WORKDIR or --fused=DIR"),
        ({"pairs": "{pairs}", "fused": ["X="]}, "--fused=X=: give --fused=DIR or"),
        ({"pairs": "{pairs}", "fused": ["={pairs}/a"]}, "give --fused=DIR or --fused=NAME=DIR"),
        ({"pairs": "{pairs}", "fused": ["nowhere"]}, "nowhere is no folder"),
        ({"pairs": "{pairs}", "fused": ["{pairs}/a"], "chosen": "MI,VIP"}, "no metric VIP, but EN"),
        ({"pairs": "{pairs}", "fused": ["{pairs}/a"], "dialect": "octave"}, "no dialect octave"),
        ({"pairs": "{pairs}", "fused": ["{pairs}/a", "a={pairs}/b"]}, "--fused=NAME=DIR"),
        ({"pairs": "{pairs}/a", "fused": ["{pairs}/a"]}, "a/a is no folder"),
        ({"pairs": "{pairs}", "fused": ["{pairs}/a"], "out": "{pairs}/a/p0.png"}, "is a file"),
    ],
)
def test_wrong_arguments(pairs, tmp_path, given, message):
    def fill(value):
        return [fill(v) for v in value] if isinstance(value, list) else value.format(pairs=pairs)

    arguments = {"out": str(tmp_path / "out")} | {k: fill(v) for k, v in given.items()}
    with pytest.raises(InputError, match=re.escape(message)) as raised:
        evaluate.main(arguments.pop("out"), **arguments)
    assert len(str(raised.value).splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_command(pairs, fused, tmp_path, monkeypatch):
    monkeypatch.setenv("SMC_JAX_CACHE", str(tmp_path / "cache"))
    command = [sys.executable, "evaluate.py", f"--pairs={pairs}", f"--out={tmp_path / 'out'}"]
    run = subprocess.run(
        [*command, f"--fused={fused}", f"--fused=Again={fused}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    assert "Again" in run.stdout
    assert (tmp_path / "out/metrics.csv").is_file()
    save(fused / "p2.tif", scene(1, size=(40, 40)))
    run = subprocess.run([*command, f"--fused={fused}"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 2
    assert "p2.tif and its source a are 40x40 and" in run.stderr
