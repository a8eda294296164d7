import io
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from data_prep import build as build_module
from data_prep import folder
from data_prep.build import build
from data_prep.folder import BuildError
from smc_jax import data_source
from smc_jax.errors import InputError

ROOT = Path(__file__).parents[1]
RNG = np.random.default_rng(0)
KINDS = {
    "grey8": RNG.integers(0, 256, (6, 9), dtype=np.uint8),
    "rgb8": RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8),
    "grey16": RNG.integers(0, 65536, (6, 9), dtype=np.uint16),
}


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def fill(folder, kinds=("grey8", "grey8"), names=("p1", "p2"), gt=False):
    for name in names:
        for side, kind in zip("ab", kinds, strict=True):
            save(folder / side / f"{name}.png", KINDS[kind])
        if gt:
            save(folder / "gt" / f"{name}.png", KINDS["rgb8"])


def listing(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "data_prep.build", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def examples(out, name, split):
    source = data_source.open(str(out), name, split)
    return [data_source.pair(source, index) for index in range(len(source))]


@pytest.mark.parametrize("kinds", [("grey8", "rgb8"), ("grey16", "grey16"), ("rgb8", "grey16")])
def test_round_trip(tmp_path, kinds):
    fill(tmp_path / "in/train", kinds, names=["b", "a", "c"], gt=True)
    fill(tmp_path / "in/val-2", kinds, names=["d"], gt=True)
    (tmp_path / "in/notes").mkdir()
    target = build(tmp_path / "in", "mfif", "x1", tmp_path / "out")
    assert target == tmp_path / "out/x1"
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["x1"]
    for split, names in (("train", ["a", "b", "c"]), ("val-2", ["d"])):
        found = examples(tmp_path / "out", "x1", split)
        assert [e.name for e in found] == names
        for example in found:
            for image, kind in zip(example[1:], (*kinds, "rgb8"), strict=True):
                assert image.dtype == KINDS[kind].dtype
                np.testing.assert_array_equal(image, KINDS[kind])


def test_files_are_stored_as_published(tmp_path):
    fill(tmp_path / "in/train")
    Image.fromarray(KINDS["rgb8"]).save(tmp_path / "in/train/b/p3.jpg", quality=50)
    Image.fromarray(KINDS["grey8"]).save(tmp_path / "in/train/a/p3.bmp")
    target = build(tmp_path / "in", "ivif", "x", tmp_path / "out")
    # Read with TFDS alone, without this project.
    source = tfds.builder_from_directory(target / "1.0.0").as_data_source("train")
    record = source[2]
    assert record["name"] == b"p3"
    assert record["task"] == b"ivif"
    assert (record["height"], record["width"]) == (6, 9)
    assert record["a"] == (tmp_path / "in/train/a/p3.bmp").read_bytes()
    assert record["b"] == (tmp_path / "in/train/b/p3.jpg").read_bytes()
    assert "gt" not in record
    assert Image.open(io.BytesIO(record["b"])).size == (9, 6)


def test_no_temporary_folder_is_left(tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    fill(tmp_path / "in/train")
    build(tmp_path / "in", "ivif", "x", tmp_path / "out")
    assert len(examples(tmp_path / "out", "x", "train")) == 2
    assert listing(tmp_path / "temporary") == []


def test_ground_truth_in_one_split_only(tmp_path):
    fill(tmp_path / "in/train", gt=True)
    fill(tmp_path / "in/test")
    build(tmp_path / "in", "mfif", "x", tmp_path / "out")
    for split, truth in (("train", True), ("test", False)):
        for example in examples(tmp_path / "out", "x", split):
            assert (example.truth is not None) == truth


def test_all_problems_are_listed(tmp_path):
    train, test = tmp_path / "in/train", tmp_path / "in/test"
    fill(train, names=["good", "lonely", "size", "text", "empty", "untrue", "long"], gt=True)
    (train / "b/lonely.png").unlink()
    save(train / "b/size.png", KINDS["grey8"][:5])
    save(train / "gt/long.png", KINDS["grey8"][:, :5])
    (train / "a/text.png").write_text("no image")
    (train / "b/empty.png").write_bytes(b"")
    (train / "gt/untrue.png").unlink()
    save(train / "gt/more.png", KINDS["grey8"])
    fill(test, names=["1"])
    (test / "b/1.png").unlink()
    (tmp_path / "in/all/a").mkdir(parents=True)
    (tmp_path / "in/third/a").mkdir(parents=True)
    with pytest.raises(BuildError) as caught:
        build(tmp_path / "in", "mfif", "x", tmp_path / "out")
    lines = [line.replace(f"{tmp_path}/in/", "") for line in str(caught.value).splitlines()]
    align = "pixels; align and crop them to one size"
    assert lines == [
        "all: no name for a split; take letters and digits, not `all`",
        "test holds no pair: no name is in both a/ and b/",
        "third/b is no folder; pairs lie in a/ and b/ under equal names",
        "train/a/lonely.png has no partner; add b/lonely.* or remove this",
        "train/a/untrue.png has no ground truth; add gt/untrue.*",
        "train/gt/lonely.png has no pair; add it or remove this",
        "train/gt/more.png has no pair; add it or remove this",
        "train/b/empty.png is empty; replace it by a PNG, JPEG, BMP or TIFF",
        f"train/a/long.png and train/gt/long.png are 9x6 and 5x6 {align}",
        f"train/a/size.png and train/b/size.png are 9x6 and 9x5 {align}",
        "train/a/text.png is no image; replace it by a PNG, JPEG, BMP or TIFF",
    ]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "xray"}, "--task=xray is unknown; it may be ivif, mdif, mfif, meif"),
        ({"name": "My-Set"}, "--name=My-Set must be"),
        ({"name": "../x"}, "--name=../x must be"),
        ({"pairs": "nowhere"}, "nowhere is no folder"),
        ({"pairs": "."}, "lies in --pairs="),
        ({"pairs": "in/train"}, "train holds no split; it needs folders like train/a"),
    ],
)
def test_bad_arguments(tmp_path, change, message):
    fill(tmp_path / "in/train")
    arguments = {"pairs": "in", "task": "ivif", "name": "x"} | change
    with pytest.raises(BuildError, match=message):
        build(tmp_path / arguments["pairs"], arguments["task"], arguments["name"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_overwrite(tmp_path):
    fill(tmp_path / "in/train", names=["old"])
    out = tmp_path / "out"
    build(tmp_path / "in", "ivif", "x", tmp_path / "out")
    fill(tmp_path / "in/train", names=["young"])
    with pytest.raises(BuildError, match="x exists; add --overwrite"):
        build(tmp_path / "in", "ivif", "x", tmp_path / "out")
    assert [e.name for e in examples(out, "x", "train")] == ["old"]
    build(tmp_path / "in", "ivif", "x", tmp_path / "out", overwrite=True)
    assert [e.name for e in examples(out, "x", "train")] == ["old", "young"]
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["x"]


def test_only_data_sets_are_overwritten(tmp_path):
    fill(tmp_path / "in/train")
    precious = tmp_path / "out/x/precious.txt"
    precious.parent.mkdir(parents=True)
    precious.write_text("years of work")
    with pytest.raises(BuildError, match="was not written by this command"):
        build(tmp_path / "in", "ivif", "x", tmp_path / "out", overwrite=True)
    assert precious.read_text() == "years of work"


@pytest.mark.parametrize("error", [OSError("disk is gone"), KeyboardInterrupt()])
def test_broken_off_build_leaves_nothing(tmp_path, monkeypatch, error):
    fill(tmp_path / "in/train", names=["1", "2", "3"])
    out = tmp_path / "out"
    build(tmp_path / "in", "ivif", "old", out)
    before = listing(out)

    def break_off(items, description, disable):
        for number, item in enumerate(items):
            if description == "writing train" and number == 2:
                assert listing(out) != before  # Writing has begun.
                raise error
            yield item

    monkeypatch.setattr(build_module, "tqdm", break_off)
    for name in ("old", "new"):
        with pytest.raises(type(error)):
            build(tmp_path / "in", "ivif", name, out, overwrite=True)
        assert listing(out) == before
    assert len(examples(out, "old", "train")) == 3


def test_what_killed_runs_left_goes_away(tmp_path):
    target, place = tmp_path / "x", tmp_path / ".x.part"
    # A run was killed in the middle of the exchange: the replaced folder is restored first.
    (place / "old").mkdir(parents=True)
    (place / "x/1.0.0").mkdir(parents=True)
    (place / "lock").write_text("process 1 on mars")
    with folder.whole(target) as new:
        assert target.is_dir()
        assert listing(place) == ["lock"]
        second = folder.whole(target)
        with pytest.raises(InputError, match=r"x\.part is in use by process"):
            second.__enter__()
        (new / "2.0.0").mkdir(parents=True)
    assert listing(tmp_path) == ["x", "x/2.0.0"]


def test_command(tmp_path):
    fill(tmp_path / "in/train")
    fill(tmp_path / "in/test", names=["1"])
    arguments = [f"--pairs={tmp_path}/in", "--task=ivif", "--name=x", f"--out={tmp_path}/out"]
    done = run(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{tmp_path}/out/x: test 1, train 2\n"
    (tmp_path / "in/test/a/1.png").write_bytes(b"")
    done = run(*arguments, "--overwrite")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: {tmp_path}/in/test/a/1.png is empty; replace it by a PNG, JPEG, BMP or TIFF\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"), [([], "give --pairs; see --help"), (["x"], "unknown argument x")]
)
def test_command_line_errors(arguments, message):
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {message}")


def test_tensorflow_is_never_imported(tmp_path):
    fill(tmp_path / "in/train")
    # An installation that is broken, as after half an upgrade, does no harm either.
    (tmp_path / "path/tensorflow").mkdir(parents=True)
    (tmp_path / "path/tensorflow/__init__.py").write_text("raise ImportError('broken')")
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path / "path")!r})
from pathlib import Path
from data_prep.build import build
from smc_jax import config, data_source, input_pipeline

build(Path({str(tmp_path / "in")!r}), "ivif", "x", Path({str(tmp_path)!r}))
data_source.pair(data_source.open({str(tmp_path)!r}, "x", "train"), 0)
next(input_pipeline.batches(config.Data("x", {str(tmp_path)!r}, crop=4), "ivif", 0))
assert "tensorflow" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
