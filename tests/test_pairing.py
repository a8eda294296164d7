"""Which files of a folder form pairs, and what is reported about the others."""

import numpy as np
import pytest
from PIL import Image

from smc_jax import pairing
from smc_jax.errors import ImageError


def save(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(path)


def test_pairs(tmp_path):
    for name in ("a/2.png", "a/10.JPG", "a/1.tiff", "b/1.bmp", "b/2.PNG", "b/3.jpeg", "b/2.tif"):
        save(tmp_path / name)
    for name in ("a/Thumbs.db", "a/._1.png", "b/.hidden.png", "b/3.txt"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "a/folder.png").mkdir()
    found, problems = pairing.pairs(tmp_path)
    assert [(p.name, p.a.name, p.b.name) for p in found] == [
        ("1", "1.tiff", "1.bmp"),
        ("2", "2.png", "2.PNG"),
    ]
    assert problems == [
        f"{tmp_path}/b/2.tif has the name of 2.PNG; keep one of them",
        f"{tmp_path}/a/10.JPG has no partner; add b/10.* or remove this",
        f"{tmp_path}/b/3.jpeg has no partner; add a/3.* or remove this",
    ]
    with pytest.raises(ImageError, match=r"2\.tif has the name of 2\.PNG"):
        pairing.images(tmp_path / "b")


def test_no_pairs(tmp_path):
    split = tmp_path / "test"
    save(split / "a/1.png")
    with pytest.raises(ImageError, match="b is no folder"):
        pairing.pairs(split)
    with pytest.raises(ImageError, match=f"no folder.* there are some in {split}$"):
        pairing.pairs(tmp_path)
    save(split / "b/2.png")
    with pytest.raises(ImageError, match="holds no pair"):
        pairing.pairs(split)


def test_names_that_cannot_be_printed_are_told(tmp_path):
    for side in "ab":
        save(tmp_path / side / "good.png")
        save(tmp_path / side / "new\nline.png")
    found, problems = pairing.pairs(tmp_path)
    assert [pair.name for pair in found] == ["good"]
    assert len(problems) == 2
    assert all("new\\nline.png" in line and len(line.splitlines()) == 1 for line in problems)
