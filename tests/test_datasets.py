"""Published trees in miniature, from folders and archives, to data sets."""

import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep import checks
from data_prep.__main__ import prepare
from data_prep.datasets import DATASETS, by_case
from data_prep.folder import BuildError
from smc_jax import config, data

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared" / "data"
# Files of each tree, and what becomes of them: split and name.
TREES = {
    "msrs": (
        ["train/ir/1D.png", "train/vi/1D.png", "test/ir/2N.png", "test/vi/2N.png"],
        {"train": ["1D"], "test": ["2N"]},
    ),
    "roadscene": (["cropinfrared/F_1.jpg", "crop_LR_visible/F_1.JPG"], {"test": ["F_1"]}),
    "m3fd": (["M3FD_Fusion/Ir/01.png", "M3FD_Fusion/Vis/01.png"], {"test": ["01"]}),
    "tno": (["ir/1.bmp", "vi/1.png"], {"test": ["1"]}),
    "llvip": (
        [
            "infrared/train/1.jpg",
            "visible/train/1.jpg",
            "infrared/test/2.jpg",
            "visible/test/2.jpg",
        ],
        {"train": ["1"], "test": ["2"]},
    ),
    "harvard_ct": (
        [f"CT-MRI/{s}/{n}.png" for s in ("CT", "MRI") for n in ("2006", "20005", "20006", "41003")],
        {"train": ["2006", "41003"], "test": ["20005", "20006"]},
    ),
    "harvard_pet": (["PET-MRI/PET/4001.png", "PET-MRI/MRI/4001.png"], {"train": ["4001"]}),
    "harvard_spect": (["SPECT-MRI/SPECT/4001.png", "SPECT-MRI/MRI/4001.png"], {"train": ["4001"]}),
    "mfi_whu": (
        ["source_1/1.jpg", "source_2/1.jpg", "full_clear/1.jpg"],
        {"train": ["1"]},
    ),
    "lytro": (["lytro-01-A.jpg", "lytro-01-B.jpg"], {"test": ["lytro-01"]}),
    "mffw": (["MFFW2/1_A.jpg", "MFFW2/1_B.jpg"], {"test": ["1"]}),
    "real_mff": (
        ["imageA/001_A.png", "imageB/001_B.png", "Fusion/001_F.png"],
        {"train": ["001"]},
    ),
    "mfifb": (["input/books/books_A.jpg", "input/books/books_B.jpg"], {"test": ["books"]}),
    "sice": (
        ["Part1/1/1.JPG", "Part1/1/2.JPG", "Part1/1/3.JPG", "Part1/Label/1.JPG"],
        {"train": ["1"]},
    ),
    "mefb": (["input/a/a_A.jpg", "input/a/a_B.jpg"], {"test": ["a"]}),
    "pairs": (["train/a/x.png", "train/b/x.tif"], {"train": ["x"]}),
}


def fill(folder, names):
    for number, name in enumerate(names):
        image = np.random.default_rng(number).integers(0, 80 + 20 * number, (24, 32), np.uint8)
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
        (path.parent / "Thumbs.db").write_bytes(b"no image")
        (path.parent / f"._{path.name}").write_bytes(b"no image")


def prepared(name, source, out, **options):
    given = {"task": "ivif", "name": "mine"} if name == "pairs" else {}
    return prepare(name, source, out, **given, **options)


def test_every_data_set_has_a_tree_here_and_a_task():
    assert TREES.keys() == DATASETS.keys()
    assert all(p.task in config.TASKS for name, p in DATASETS.items() if name != "pairs")


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
@pytest.mark.parametrize("name", TREES)
def test_published_tree(tmp_path, name, kind):
    names, splits = TREES[name]
    fill(tmp_path / "in/top", names)
    source = tmp_path / "in"
    if kind == "zip":
        source = tmp_path / "in.zip"
        with zipfile.ZipFile(source, "w") as archive:
            for path in sorted((tmp_path / "in").rglob("*")):
                archive.write(path, path.relative_to(tmp_path / "in"))
    if kind == "tar":
        source = tmp_path / "in.tar.gz"
        with tarfile.open(source, "w:gz") as archive:
            archive.add(tmp_path / "in", "in")
    target = prepared(name, source, tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == [target.name]
    for split, expected in splits.items():
        records = data.open_source(str(tmp_path / "out"), target.name, split)
        assert [records[i]["name"].decode() for i in range(len(records))] == expected
        assert ("gt" in records[0]) == bool(DATASETS[name].gt and name != "pairs")
    report = json.loads((target / "report.json").read_text())
    assert {s: v["pairs"] for s, v in report["splits"].items()} == {
        s: len(v) for s, v in splits.items()
    }


def test_sice_takes_the_darkest_and_the_brightest(tmp_path):
    fill(tmp_path / "in", TREES["sice"][0])
    prepared("sice", tmp_path / "in", tmp_path / "out")
    record = data.open_source(str(tmp_path / "out"), "sice", "train")[0]
    assert record["a"] == (tmp_path / "in/Part1/1/1.JPG").read_bytes()
    assert record["b"] == (tmp_path / "in/Part1/1/3.JPG").read_bytes()
    assert record["gt"] == (tmp_path / "in/Part1/Label/1.JPG").read_bytes()


def test_slices_of_a_patient_stay_together():
    assert {by_case(f"16{n:03}") for n in range(30)} == {"train"}
    assert {by_case(f"20{n:03}") for n in range(30)} == {"test"}


def test_wrong_folder_shows_both_trees(tmp_path):
    fill(tmp_path / "in", ["images/ir.png"])
    with pytest.raises(BuildError) as caught:
        prepared("msrs", tmp_path / "in", tmp_path / "out")
    assert "expected: {train,test}/{ir,vi}/<name>.png" in str(caught.value)
    assert "found: images/ (1 images)" in str(caught.value)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("damage", ["truncated", "partner", "size"])
def test_bad_files_are_named_as_published(tmp_path, damage):
    fill(tmp_path / "in", TREES["msrs"][0])
    path = tmp_path / "in/train/vi/1D.png"
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:200])
    elif damage == "size":
        Image.new("L", (5, 5)).save(path)
    else:
        shutil.copy(path, path.with_name("lonely.png"))
        path = path.with_name("lonely.png")
    with pytest.raises(BuildError, match=str(path)):
        prepared("msrs", tmp_path / "in", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("name", ["x.rar", "x.zip"])
def test_archives_that_cannot_be_read(tmp_path, name):
    (tmp_path / name).write_bytes(b"Rar!" * 100)
    with pytest.raises(BuildError, match="is no zip or tar archive; unpack it"):
        prepared("msrs", tmp_path / name, tmp_path / "out")


def test_findings_and_strict(tmp_path):
    fill(tmp_path / "in", TREES["msrs"][0])
    for side in ("ir", "vi"):
        shutil.copy(tmp_path / f"in/train/{side}/1D.png", tmp_path / f"in/test/{side}/3D.png")
    Image.new("L", (32, 24), 7).save(tmp_path / "in/test/ir/2N.png")
    target = prepared("msrs", tmp_path / "in", tmp_path / "out")
    findings = json.loads((target / "report.json").read_text())["findings"]
    assert findings == [
        f"{tmp_path}/in/test/ir/2N.png is of one value throughout",
        f"{tmp_path}/in/train/ir/1D.png looks like {tmp_path}/in/test/ir/3D.png of another split",
        "train has 1 pairs; 1083 were published",
        "test has 2 pairs; 361 were published",
    ]
    with pytest.raises(BuildError, match="1083 were published"):
        prepared("msrs", tmp_path / "in", tmp_path / "out", strict=True, overwrite=True)
    assert (target / "report.json").exists()


@pytest.mark.parametrize("moved", [(0, 0), (5, -3)])
def test_shift(moved):
    image = np.random.default_rng(0).random((80, 90), np.float32)
    assert checks.shift(image, np.roll(image, moved, (0, 1))) == moved


def test_tfds_reads_it_without_this_project(tmp_path):
    fill(tmp_path / "in", TREES["msrs"][0])
    target = prepared("msrs", tmp_path / "in", tmp_path / "out")
    code = f"""
import tensorflow_datasets as tfds
source = tfds.builder_from_directory({str(target / "1.0.0")!r}).as_data_source("train")
assert (len(source), source[0]["name"], source[0]["task"]) == (1, b"1D", b"ivif")
try:
    import smc_jax
except ImportError:
    print("read")
"""
    done = subprocess.run(
        [sys.executable, "-c", "import sys; sys.modules['smc_jax'] = None" + code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "read\n"), done.stderr


def test_command(tmp_path):
    def run(*arguments):
        command = [sys.executable, "-m", "data_prep", *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    listed = run("list")
    assert listed.returncode == 0
    assert [line.split()[0] for line in listed.stdout.splitlines()] == list(DATASETS)
    wrong = run("mrsr")
    assert (wrong.returncode, wrong.stderr[:29]) == (2, "error: give a data set or lis")
    missing = run("msrs", f"--source={tmp_path}/none", f"--out={tmp_path}/out")
    assert (missing.returncode, "does not exist" in missing.stderr) == (2, True)


@pytest.mark.skipif(not SHARED.is_dir(), reason="no ../shared/data with real pairs")
@pytest.mark.parametrize(
    ("folder", "task"), [("mfif/Lytro", "mfif"), ("mdif/Harvard-PET-MRI", "mdif")]
)
def test_real_pairs(tmp_path, folder, task):
    target = prepare("pairs", SHARED / folder, tmp_path, task=task, name="real")
    source = data.open_source(str(tmp_path), "real", "test")
    assert (
        len(source) == json.loads((target / "report.json").read_text())["splits"]["test"]["pairs"]
    )
    assert len(source) == len(list((SHARED / folder / "test/a").iterdir()))
