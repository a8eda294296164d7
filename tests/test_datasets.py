"""Data sets built from folders and archives with the published trees in miniature."""

import json
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from data_prep import checks
from data_prep.__main__ import prepare
from data_prep.datasets import DATASETS, by_case
from data_prep.folder import BuildError
from smc_jax import config, data_source
from smc_jax.errors import ConfigError

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared" / "data"
# The files of each tree, and the names of the pairs that they become in each split.
TREES = {
    "msrs": (
        ["train/ir/1D.png", "train/vi/1D.png", "test/ir/2N.png", "test/vi/2N.png"],
        {"train": ["1D"], "test": ["2N"]},
    ),
    "roadscene": (
        [f"{side}/F_{n}.jpg" for side in ("cropinfrared", "crop_LR_visible") for n in (10, 11)],
        {"test": ["F_10"], "train": ["F_11"]},
    ),
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
        [f"CT-MRI/{s}/{n}.png" for s in ("CT", "MRI") for n in ("2006", "20005", "20006", "41003")]
        + ["MyDatasets/CT-MRI/test/CT/2006.png", "MyDatasets/CT-MRI/test/MRI/2006.png"],
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
        [
            f"Dataset_Part{part}/{name}"
            for part in (1, 2)
            for name in ("1/1.JPG", "1/2.JPG", "1/3.JPG", "Label/1.JPG")
        ],
        {"train": ["Part1_1", "Part2_1"]},
    ),
    "mefb": (
        ["input/Sky/sKY_a.png", "input/Sky/Sky_B.png", "input/Sky/under.png", "input/Sky/over.JPG"],
        {"test": ["Sky"]},
    ),
    "pairs": (["train/a/x.png", "train/b/x.tif"], {"train": ["x"]}),
}


def fill(folder, names):
    for number, name in enumerate(names):
        image = np.random.default_rng(number).integers(
            0, min(80 + 20 * number, 256), (24, 32), np.uint8
        )
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
        records = data_source.open(str(tmp_path / "out"), target.name, split)
        assert [records[i]["name"].decode() for i in range(len(records))] == expected
        assert ("gt" in records[0]) == bool(DATASETS[name].gt and name != "pairs")
    report = json.loads((target / "report.json").read_text())
    assert {s: v["pairs"] for s, v in report["splits"].items()} == {
        s: len(v) for s, v in splits.items()
    }


def test_sice_takes_the_darkest_and_the_brightest(tmp_path):
    fill(tmp_path / "in", TREES["sice"][0])
    prepared("sice", tmp_path / "in", tmp_path / "out")
    # Both parts number their scenes from 1.
    for number, part in enumerate(("Dataset_Part1", "Dataset_Part2")):
        record = data_source.open(str(tmp_path / "out"), "sice", "train")[number]
        assert record["a"] == (tmp_path / "in" / part / "1/1.JPG").read_bytes()
        assert record["b"] == (tmp_path / "in" / part / "1/3.JPG").read_bytes()
        assert record["gt"] == (tmp_path / "in" / part / "Label/1.JPG").read_bytes()


def test_sice_needs_two_exposures(tmp_path):
    fill(tmp_path / "in", ["Part1/1/1.JPG", "Part1/1/2.JPG", "Part1/2/1.JPG"])
    with pytest.raises(BuildError, match=f"{tmp_path}/in/Part1/2/1.JPG is the only exposure"):
        prepared("sice", tmp_path / "in", tmp_path / "out")


def test_damaged_exposure_of_an_archive_is_named(tmp_path):
    fill(tmp_path / "in", ["1/1.JPG", "1/2.JPG"])
    (tmp_path / "in/1/2.JPG").write_bytes(b"no image")
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for name in ("1/1.JPG", "1/2.JPG"):
            archive.write(tmp_path / "in" / name, name)
    with pytest.raises(BuildError, match=f"^{tmp_path}/in.zip/1/2.JPG is no image"):
        prepared("sice", tmp_path / "in.zip", tmp_path / "out")


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


def test_all_bad_files_are_named(tmp_path):
    fill(tmp_path / "in", TREES["msrs"][0])
    for name in ("train/ir/1D.png", "test/vi/2N.png"):
        (tmp_path / "in" / name).write_bytes(b"no image")
    with pytest.raises(BuildError) as caught:
        prepared("msrs", tmp_path / "in", tmp_path / "out")
    assert [line.split(" ")[0] for line in str(caught.value).splitlines()] == [
        f"{tmp_path}/in/test/vi/2N.png",
        f"{tmp_path}/in/train/ir/1D.png",
    ]


def test_name_that_cannot_be_printed(tmp_path):
    fill(tmp_path / "in", ["train/ir/a\nb.png", "train/vi/a\nb.png"])
    with pytest.raises(
        BuildError, match=r"in/train/ir/a\\nb.png' has a name that cannot be printed"
    ):
        prepared("msrs", tmp_path / "in", tmp_path / "out")


def tar(folder, kind):
    path = folder.parent / f"in.tar.{kind}"
    with tarfile.open(path, f"w:{kind}") as archive:
        archive.add(folder, "in")
    return path


@pytest.mark.parametrize("damage", ["cut", "header", "packed", "password"])
def test_damaged_archives(tmp_path, damage):
    fill(tmp_path / "in", TREES["msrs"][0])
    message = "is damaged; download it again"
    source = tar(tmp_path / "in", "xz" if damage == "packed" else "")
    content = bytearray(source.read_bytes())
    if damage == "cut":
        # Cut between two files, which tarfile takes for the end.
        with tarfile.open(source) as archive:
            del content[archive.getmembers()[-1].offset :]
    elif damage == "header":
        with tarfile.open(source) as archive:
            content[archive.getmembers()[-1].offset] ^= 255
    elif damage == "packed":
        content[len(content) // 2] ^= 255
    else:
        message = "has a password or a rare compression; unpack it"
        source = tmp_path / "in.zip"
        with zipfile.ZipFile(source, "w") as archive:
            archive.write(tmp_path / "in/train/ir/1D.png", "train/ir/1D.png")
        content = bytearray(source.read_bytes())
        content[6] |= 1  # The flag of an encrypted file, in both of its headers.
        content[content.index(b"PK\1\2") + 8] |= 1
    source.write_bytes(content)
    with pytest.raises(BuildError, match=message):
        prepared("msrs", source, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_links_to_folders_are_followed_unless_they_lead_back(tmp_path):
    fill(tmp_path / "elsewhere", TREES["msrs"][0])
    (tmp_path / "in").mkdir()
    (tmp_path / "in/MSRS").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/train/back").symlink_to(tmp_path / "elsewhere")
    prepared("msrs", tmp_path / "in", tmp_path / "out")
    assert len(data_source.open(str(tmp_path / "out"), "msrs", "train")) == 1


def test_every_kind_of_image_is_kept_as_published(tmp_path):
    color = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8))
    turned = Image.Exif()
    turned[274] = 6
    kinds = {
        "rgba.png": (color.convert("RGBA"), {}),
        "palette.PNG": (color.convert("P"), {}),
        "grey16.tiff": (Image.fromarray(np.arange(768, dtype=np.uint16).reshape(24, 32) * 85), {}),
        "grey.bmp": (color.convert("L").convert("RGB"), {}),
        "turned.JPG": (color.transpose(Image.Transpose.ROTATE_90), {"exif": turned}),
    }
    for side in ("ir", "vi"):
        (tmp_path / "in/test" / side).mkdir(parents=True)
        for file, (image, options) in kinds.items():
            image.save(tmp_path / "in/test" / side / file, **options)
    target = prepared("msrs", tmp_path / "in", tmp_path / "out")
    source = data_source.open(str(tmp_path / "out"), "msrs", "test")
    for record, file in zip(source, sorted(kinds), strict=True):
        assert record["a"] == (tmp_path / "in/test/ir" / file).read_bytes()
        assert (record["height"], record["width"]) == (24, 32)
        example = data_source.decode(record)
        assert example.a.dtype == (np.uint16 if file == "grey16.tiff" else np.uint8)
        assert example.a.shape[:2] == (24, 32)
    report = json.loads((target / "report.json").read_text())
    assert report["splits"]["test"]["in_color"] == {"a": 3, "b": 3}
    assert report["cite"].startswith("Tang et al.")


def test_images_of_one_pixel(tmp_path):
    for side in "ab":
        (tmp_path / "in/train" / side).mkdir(parents=True)
        Image.new("L", (1, 1)).save(tmp_path / "in/train" / side / "x.png")
    prepared("pairs", tmp_path / "in", tmp_path / "out")


def test_copies_are_found_when_compressed_anew(tmp_path):
    fill(tmp_path / "in", TREES["msrs"][0])
    for seed, side in enumerate(("ir", "vi")):
        small = np.random.default_rng(seed).integers(0, 256, (9, 12), np.uint8)
        image = Image.fromarray(small).resize((160, 120), Image.Resampling.BICUBIC)
        image.save(tmp_path / f"in/train/{side}/5D.png")
        image.resize((80, 60)).save(tmp_path / f"in/test/{side}/6D.jpg", quality=50)
    target = prepared("msrs", tmp_path / "in", tmp_path / "out")
    findings = json.loads((target / "report.json").read_text())["findings"]
    copy, copied = (tmp_path / "in" / name for name in ("train/ir/5D.png", "test/ir/6D.jpg"))
    assert findings[0] == f"{copy} looks like {copied} of another split"
    assert len(findings) == 3


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
@pytest.mark.parametrize("change", ["none", "negative", "out of focus"])
def test_shift(change, moved):
    noise = np.random.default_rng(0).random((160, 180), np.float32)
    # Structure of all sizes, as photographs have it.
    scales = (k * ndimage.gaussian_filter(noise, k, mode="wrap") for k in (1, 2, 4, 8))
    image = sum(scales) / 15
    other = np.roll(image, moved, (0, 1))
    if change == "negative":
        other = 1 - other
    if change == "out of focus":
        half = np.arange(180) < 90
        image, other = (
            np.where(sharp, x, ndimage.gaussian_filter(x, 3))
            for x, sharp in ((image, half), (other, ~half))
        )
    assert checks.shift(image, other) == moved


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


def run(*arguments, largest="unlimited"):
    """Runs the command; no file may grow beyond `largest` blocks of 512 bytes."""
    command = [sys.executable, "-m", "data_prep", *map(str, arguments)]
    command = ["sh", "-c", f'ulimit -f {largest} && exec "$@"', "sh", *command]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_command(tmp_path):
    listed = run("list")
    assert listed.returncode == 0
    assert [line.split()[0] for line in listed.stdout.splitlines()] == ["name", *DATASETS]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mrsr"], "give a data set, pairs (for your own) or list"),
        (["msrs"], "give --source"),
        (["msrs", "--source=none"], "--source=none does not exist"),
        (["msrs", "--source=.", "--task=mdif"], "--task is for pairs; msrs is for ivif"),
        (["msrs", "--source=.", "--name=../x"], "--name=../x must be"),
        (["pairs", "--source=.", "--task=xray", "--name=x"], "--task=xray is unknown"),
    ],
)
def test_wrong_arguments(tmp_path, arguments, message):
    done = run(*arguments, f"--out={tmp_path}/out")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {message}")
    assert list(tmp_path.rglob("*")) in ([], [tmp_path / "out"])


# One image takes 40 kB, all of them 320 kB.
@pytest.mark.parametrize(("packed", "largest"), [(False, 200), (True, 40)])
def test_full_disk(tmp_path, packed, largest):
    source = tmp_path / "in"
    for side in "ab":
        (source / "train" / side).mkdir(parents=True)
        for number in range(4):
            noise = np.random.default_rng(number).integers(0, 256, (200, 200), np.uint8)
            Image.fromarray(noise).save(source / "train" / side / f"{number}.png")
    source = tar(source, "gz") if packed else source
    done = run(
        *("pairs", "--task=mfif", "--name=mine", f"--source={source}", f"--out={tmp_path}/out"),
        largest=largest,
    )
    message = f"{source} cannot be unpacked" if packed else "mine cannot be written"
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(f"error: {message}: .*File too large\n", done.stderr)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_killed_build(tmp_path, number):
    fill(tmp_path / "in", [f"train/{side}/{n}.png" for side in "ab" for n in range(300)])
    place = tmp_path / "out/.mine.part"
    arguments = ["pairs", f"--source={tmp_path}/in", "--task=ivif", "--name=mine"]
    with subprocess.Popen(
        [sys.executable, "-m", "data_prep", *arguments, f"--out={tmp_path}/out"],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    ) as build:
        while not (place / "pairs/train/b").exists():
            assert build.poll() is None
            time.sleep(0.01)
        build.send_signal(number)
        _, errors = build.communicate()
    if number == signal.SIGTERM:
        assert build.returncode == 2
        assert errors == "error: stopped by SIGTERM; nothing was written\n"
    left = [p.name for p in (tmp_path / "out").iterdir()]
    assert left == ([] if number == signal.SIGTERM else [".mine.part"])
    with pytest.raises(ConfigError, match="no data set in"):
        data_source.open(str(tmp_path / "out"), "mine", "train")
    prepared("pairs", tmp_path / "in", tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["mine"]
    assert len(data_source.open(str(tmp_path / "out"), "mine", "train")) == 300


@pytest.mark.skipif(not SHARED.is_dir(), reason="no ../shared/data with real pairs")
@pytest.mark.parametrize(
    ("folder", "task"), [("mfif/Lytro", "mfif"), ("mdif/Harvard-PET-MRI", "mdif")]
)
def test_real_pairs(tmp_path, folder, task):
    target = prepare("pairs", SHARED / folder, tmp_path, task=task, name="real")
    source = data_source.open(str(tmp_path), "real", "test")
    assert (
        len(source) == json.loads((target / "report.json").read_text())["splits"]["test"]["pairs"]
    )
    assert len(source) == len(list((SHARED / folder / "test/a").iterdir()))
