"""`smc-fuse`: the inputs that work, and the one-line errors for those that do not."""

import os
import re
import resource
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import weight_files
from PIL import Image

import smc_jax
from smc_jax import cli, picture

RNG = np.random.default_rng(0)
GREY, B = RNG.integers(0, 256, (2, 32, 32), dtype=np.uint8)
RGB = RNG.integers(0, 256, (32, 32, 3), dtype=np.uint8)
ALPHA = RNG.integers(0, 255, (32, 32), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (32, 32), dtype=np.uint16)
FLAT = np.full((32, 32), 90, np.uint8)
ROOT = Path(__file__).parents[1]
superuser = pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read and write all")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "x.safetensors"
    weight_files.make(path)
    return path


@pytest.fixture
def smc_fuse(weights, tmp_path, monkeypatch, capfd):
    """Runs the command in a folder with a good `b.png`; returns status, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    Image.fromarray(B).save("b.png")

    def run(*arguments):
        given = [*map(str, arguments)]
        if not any(text.startswith("--weights") for text in given):
            given.append(f"--weights={weights}")
        try:
            status = cli.main(given)
        except SystemExit as error:
            status = error.code
        return status, *capfd.readouterr()

    return run


def save(name, image, *args, **more):
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    image.save(name, *args, **more)
    return name


def with_alpha(image):
    image = Image.fromarray(image)
    image.putalpha(Image.fromarray(ALPHA))
    return image


def paletted(**more):
    image = Image.fromarray(GREY % 3, "P")
    image.putpalette([10, 20, 30, 255, 0, 0, 7, 7, 7])
    return image


COLORS = np.uint8([[10, 20, 30], [255, 0, 0], [7, 7, 7]])[GREY % 3]


def jpeg(image):
    save("x.jpg", image)
    return np.asarray(Image.open("x.jpg").convert("RGB" if image.mode != "L" else "L"))


def tiff16():
    """A big-endian TIFF of 16-bit grey, made by hand because Pillow writes little-endian ones."""
    tags = [(256, 32), (257, 32), (258, 16), (259, 1), (262, 1), (273, 122), (278, 32), (279, 2048)]
    entries = b"".join(
        tag.to_bytes(2, "big") + b"\0\4\0\0\0\1" + value.to_bytes(4, "big") for tag, value in tags
    )
    header = b"MM\0*\0\0\0\x08" + len(tags).to_bytes(2, "big") + entries + b"\0\0\0\0"
    return header.ljust(122, b"\0") + DEEP.astype(">u2").tobytes()


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return save("a.png", GREY, exif=exif)


def png(width, height):
    """A PNG that declares a size but holds no pixels."""

    def chunk(kind, content):
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def content(name, data):
    Path(name).write_bytes(data)
    return name


def cut():
    save("whole.png", GREY)
    return content("a.png", Path("whole.png").read_bytes()[:400])


def linked(target):
    os.symlink(target, "a.png")
    return "a.png"


def bytes_name():
    name = os.fsdecode(b"caf\xe9\xff.png")
    return save(name, GREY)


WORKS = {
    "grey": (lambda: save("a.png", GREY), GREY),
    "colour": (lambda: save("a.png", RGB), RGB),
    "16-bit PNG": (lambda: save("a.png", DEEP), DEEP),
    "16-bit TIFF": (lambda: save("a.tif", DEEP), DEEP),
    "I;16B TIFF": (lambda: content("a.tif", tiff16()), DEEP),
    "I TIFF": (lambda: save("a.tif", DEEP.astype(np.int32)), DEEP),
    "float TIFF of whole numbers": (lambda: save("a.tif", DEEP.astype(np.float32)), DEEP),
    "RGBA": (lambda: save("a.png", with_alpha(RGB)), RGB),
    "LA": (lambda: save("a.png", with_alpha(GREY)), GREY),
    "palette": (lambda: save("a.png", paletted()), COLORS),
    "palette with transparency": (lambda: save("a.png", paletted(), transparency=1), COLORS),
    "1-bit": (lambda: save("a.png", Image.fromarray(GREY > 99)), (GREY > 99) * np.uint8(255)),
    "CMYK TIFF": (lambda: save("a.tif", Image.fromarray(255 - RGB).convert("CMYK")), 255 - RGB),
    "grey JPEG": (lambda: save("a.jpg", GREY), lambda: jpeg(Image.fromarray(GREY))),
    "colour JPEG": (lambda: save("a.jpg", RGB), lambda: jpeg(Image.fromarray(RGB))),
    "CMYK JPEG": (
        lambda: save("a.jpg", Image.fromarray(RGB).convert("CMYK")),
        lambda: jpeg(Image.fromarray(RGB).convert("CMYK")),
    ),
    "BMP": (lambda: save("a.bmp", RGB), RGB),
    "WebP": (lambda: save("a.webp", RGB, lossless=True), RGB),
    "animated PNG": (
        lambda: save(
            "a.png", RGB, save_all=True, append_images=[Image.fromarray(RGB // 2)], duration=9
        ),
        RGB,
    ),
    "TIFF of many pages": (
        lambda: save("a.tif", GREY, save_all=True, append_images=[Image.fromarray(B)]),
        GREY,
    ),
    "another format's suffix": (lambda: save("a.jpg", GREY, "PNG"), GREY),
    "upper-case suffix": (lambda: save("A.PNG", GREY), GREY),
    "no suffix": (lambda: save("a", GREY, "PNG"), GREY),
    "turned camera": (turned, np.rot90(GREY, -1)),
    "unicode name": (lambda: save("später 夜 🌃.png", GREY), GREY),
    "name that is not UTF-8": (bytes_name, GREY),
    "name with a line break": (lambda: save("a\nb.png", GREY), GREY),
    "name like a glob": (lambda: save("a[1]*.png", GREY), GREY),
    "link": (lambda: linked(save("target.png", GREY)), GREY),
    "the other source itself": (lambda: "b.png", B),
    "flat": (lambda: save("a.png", FLAT), FLAT),
    "damaged EXIF": (lambda: save("a.png", GREY, exif=b"Exif\0\0II*\0\xff\xff\xff"), GREY),
    "damaged profile": (lambda: save("a.png", RGB, icc_profile=b"no profile"), RGB),
}


@pytest.mark.filterwarnings("ignore")  # Pillow's warnings about odd files
@pytest.mark.parametrize("case", WORKS)
def test_odd_input_that_works(case, smc_fuse, weights):
    make, expected = WORKS[case]
    a = make()
    expected = expected() if callable(expected) else expected
    status, out, err = smc_fuse(a, "b.png", "-o", "out.png")
    assert (status, out, err) == (0, "wrote out.png\n", "")
    found = picture.read("out.png").pixels
    right = smc_jax.fuse(expected, B, weights=weights)
    np.testing.assert_array_equal(found, right)
    assert found.dtype == (np.uint16 if expected.dtype == np.uint16 else np.uint8)
    assert not list(Path().glob("*.tmp"))


def fails(name, data):
    return lambda: content(name, data)


def fifo():
    os.mkfifo("a.png")
    return "a.png"


def unreadable():
    save("a.png", GREY)
    os.chmod("a.png", 0)
    return "a.png"


BAD = {
    "empty": (fails("a.png", b""), r"a\.png is empty"),
    "truncated": (cut, r"a\.png cannot be decoded"),
    "text renamed to .png": (fails("a.png", b"no pixels\n"), r"a\.png is no image"),
    "archive renamed to .png": (fails("a.png", b"PK\3\4" + bytes(99)), r"a\.png is no image"),
    "header alone": (fails("a.png", b"\x89PNG\r\n\x1a\n"), r"a\.png (is no|cannot)"),
    "no pixels": (fails("a.png", png(32, 32)), r"a\.png cannot be decoded"),
    "huge declared size": (fails("a.png", png(60000, 60000)), r"a\.png has too many pixels"),
    "size of 0": (fails("a.png", png(0, 32)), r"a\.png (is no|cannot)"),
    "1x1": (lambda: both(GREY[:1, :1]), "1x1 pixels are too small; 16x16 is least"),
    "15x16": (lambda: both(GREY[:16, :15]), "15x16 pixels are too small; 16x16 is least"),
    "unequal sizes": (lambda: save("a.png", GREY[:20]), "a.png and b.png are 32x20 and 32x32 pix"),
    "NaN TIFF": (lambda: save("a.tif", np.full((32, 32), np.nan, np.float32)), "whole numbers"),
    "infinite TIFF": (lambda: save("a.tif", np.full((32, 32), np.inf, np.float32)), "whole num"),
    "fractions": (lambda: save("a.tif", np.full((32, 32), 0.5, np.float32)), "from 0 to 65535"),
    "negative": (lambda: save("a.tif", np.full((32, 32), -1, np.int32)), "from 0 to 65535"),
    "missing": (lambda: "none.png", "there is no none.png; give a file, a folder, or a glob"),
    "missing folder": (lambda: "none/", "there is no none/"),
    "folder": (lambda: os.mkdir("x") or (save("x/a.png", GREY) and "x"), "a file and a folder"),
    "empty folder": (lambda: os.mkdir("x") or "x", "x holds no image; images are files with .png"),
    "glob without match": (lambda: "*.tif", r"no image matches \*\.tif"),
    "glob of other files": (
        lambda: content("a.txt", b"x") and "*.txt",
        r"no image matches \*\.txt; images are files with",
    ),
    "link to itself": (lambda: linked("a.png"), "a.png cannot be read: Too many levels"),
    "link to nothing": (lambda: linked("none"), "a.png cannot be read: No such file"),
    "pipe": (fifo, "a.png is no regular file"),
    "device": (lambda: "/dev/zero", "/dev/zero is no regular file"),
    "long name": (lambda: "a" * 300 + ".png", "there is no aaaa"),
    "nothing": (lambda: "", "there is no"),
    "unreadable": (unreadable, "a.png cannot be read: Permission denied"),
}


def both(image):
    save("b.png", image)
    return save("a.png", image)


@pytest.mark.filterwarnings("ignore")  # Pillow's warnings about odd files
@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_told_in_one_line(case, smc_fuse):
    if case == "unreadable" and os.geteuid() == 0:
        pytest.skip("the superuser may read all")
    make, message = BAD[case]
    a = make()
    status, out, err = smc_fuse(a, "b.png", "-o", "out.png")
    assert (status, out) == (2, "")
    assert re.fullmatch(rf"error: [^\n]*{message}[^\n]*\n", err), err
    assert not list(Path().glob("*.tmp"))
    assert not Path("out.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "the following arguments are required: a, b, -o/--out"),
        (("b.png", "b.png"), "required: -o/--out"),
        (
            ("b.png", "b.png", "b.png", "-o", "x.png"),
            "unrecognized arguments: b.png (globs must be in quotes)",
        ),
        (("b.png", "b.png", "-o", "x.png", "--tusk=ivif"), "unrecognized arguments: --tusk=ivif"),
        (("b.png", "b.png", "-o", "x.png", "--task=mfi"), "invalid choice: 'mfi'"),
        (("b.png", "b.png", "-o", "x.png", "--max-memory=lots"), "'lots' is no size of memory"),
        (("b.png", "b.png", "-o", "x.png", "--max-memory=0"), "'0' is less memory than a tile"),
        (("b.png", "b.png", "-o", "x.png", "--max-memory=1"), "needs; give at least 114MB"),
        (("b.png", "b.png", "-o", "x.png", "--weights=none"), "there are no weights none; give a"),
        (("b.png", "b.png", "-o", "x.png", "--weights=b.safetensors"), "b.safetensors cannot be"),
        (("b.png", "b.png", "-o", "x.gif"), "--out=x.gif: there is no format .gif; give one of"),
        (("b.png", "b.png", "-o", "x"), "--out=x: a suffix is missing; give one of .png"),
        (("b.png", "b.png", "-o", "b.png/x.png"), "b.png is a file; give a folder"),
        (("b.png", "b.png", "-o", "b.png", "--overwrite"), "b.png is a source itself"),
        (("b.png", "b.png", "-o", "b.png"), "b.png is a source itself"),
        (("b.png", "b.png", "-o", "./link.png", "--overwrite"), "link.png is a source itself"),
    ],
)
def test_wrong_arguments(smc_fuse, arguments, message):
    os.symlink("b.png", "link.png")
    before = Path("b.png").read_bytes()
    status, out, err = smc_fuse(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err
    assert len(err.splitlines()) == 1
    assert sorted(os.listdir()) == ["b.png", "link.png"]
    assert Path("b.png").read_bytes() == before


@pytest.mark.parametrize(
    ("out", "kind"),
    [
        ("x.png", "PNG"),
        ("x.JPG", "JPEG"),
        ("x.tiff", "TIFF"),
        ("x.bmp", "BMP"),
        ("new/x.png", "PNG"),
    ],
)
def test_formats(smc_fuse, out, kind):
    assert smc_fuse("b.png", "b.png", "-o", out)[0] == 0
    with Image.open(out) as file:
        assert (file.format, file.size, file.mode) == (kind, (32, 32), "L")


def test_a_folder_as_output(smc_fuse):
    os.mkdir("there")
    assert smc_fuse("b.png", "b.png", "-o", "there")[1] == "wrote there/b.png\n"
    assert smc_fuse("b.png", "b.png", "-o", "new/")[1] == "wrote new/b.png\n"


def test_what_is_there_is_skipped(smc_fuse):
    save("out.png", FLAT)
    status, out, err = smc_fuse("b.png", "b.png", "-o", "out.png", "--weights=unread")
    assert (status, err) == (0, "")
    assert out == "skipped out.png, there already; --overwrite fuses anew\n"
    np.testing.assert_array_equal(picture.read("out.png").pixels, FLAT)
    assert smc_fuse("b.png", "b.png", "-o", "out.png", "--overwrite")[1] == "wrote out.png\n"
    assert (picture.read("out.png").pixels != FLAT).any()


def test_transparency_exif_and_profile(smc_fuse):
    exif = Image.Exif()
    exif[0x8298] = "Owner"
    save("a.png", with_alpha(GREY), exif=exif)
    save("b.png", with_alpha(RGB))
    assert smc_fuse("a.png", "b.png", "-o", "out.png")[0] == 0
    with Image.open("out.png") as file:
        assert file.mode == "RGBA"
        np.testing.assert_array_equal(np.asarray(file)[..., 3], ALPHA)
        assert file.getexif()[0x8298] == "Owner"


@pytest.fixture
def folders(smc_fuse):
    for i in range(3):
        save(f"ir/p{i}.png", np.roll(GREY, i))
        save(f"vis/p{i}.JPG", np.roll(RGB, i))
    return smc_fuse


def test_folders(folders, weights):
    status, out, err = folders("ir", "vis", "-o", "fused")
    assert (status, out, err) == (0, "wrote 3 images to fused\n", "")
    assert sorted(os.listdir("fused")) == ["p0.png", "p1.png", "p2.png"]
    for i in range(3):
        sources = (picture.read(f"ir/p{i}.png").pixels, picture.read(f"vis/p{i}.JPG").pixels)
        expected = smc_jax.fuse(*sources, weights=weights)
        np.testing.assert_array_equal(picture.read(f"fused/p{i}.png").pixels, expected)
    os.unlink("fused/p1.png")
    out = folders("ir/", "vis/", "-o", "fused/")[1]
    assert out.splitlines() == [
        "skipped 2 images, there already; --overwrite fuses anew",
        "wrote 1 image to fused",
    ]


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("ir/*.png", "vis/*.JPG"),
        ("ir/*", "vis"),
        ("ir/p?.png", "vis/p[0-9].JPG"),
    ],
)
def test_globs(folders, a, b):
    status, out, err = folders(a, b, "-o", "fused")
    assert (status, err) == (0, "")
    assert out == "wrote 3 images to fused\n"


def test_globs_pair_by_what_the_wildcards_stand_for(smc_fuse):
    for name in ("one", "two"):
        save(f"s/{name}_ir.png", GREY)
        save(f"s/{name}_vis.png", RGB)
    status, out, err = smc_fuse("s/*_ir.png", "s/*_vis.png", "-o", "fused")
    assert (status, out, err) == (0, "wrote 2 images to fused\n", "")
    assert sorted(os.listdir("fused")) == ["one.png", "two.png"]


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("s/*_ir.*", "s/*_vis.*"),
        ("s/*_ir*", "s/*_vis.[jp]*g"),
        ("s//*_ir.*", ".//s/*_vis.*"),
        ("s/**//*_ir.*", "s/../s/./*_vis.*"),
    ],
)
def test_suffixes_and_slashes_do_not_matter_to_globs(smc_fuse, a, b):
    for name in ("x_ir.png", "x_vis.jpg", "y_ir.png", "y_vis.png"):
        save(f"s/{name}", GREY)
    status, out, err = smc_fuse(a, b, "-o", "fused")
    assert (status, out, err) == (0, "wrote 2 images to fused\n", "")
    assert sorted(os.listdir("fused")) == ["x.png", "y.png"]


def test_globs_find_one_name_twice(smc_fuse):
    for name in ("x_ir.png", "x_ir.jpg", "x_vis.png"):
        save(f"s/{name}", GREY)
    status, out, err = smc_fuse("s/*_ir.*", "s/*_vis.*", "-o", "fused")
    assert (status, out) == (2, "wrote fused/x.png\n")
    assert "s/x_ir.png has the name of s/x_ir.jpg; keep one of them" in err


def test_many_images_are_not_fused_with_themselves(smc_fuse):
    for name in ("x", "y"):
        save(f"s/{name}.png", GREY)
    os.symlink("s", "link")
    for other in ("s/", "link"):
        status, _, err = smc_fuse("s/*.png", other, "-o", "fused")
        told = (
            f"error: s/*.png and {other} pair images with themselves; give the two sources of each"
        )
        assert (status, err, os.path.exists("fused")) == (2, f"{told}\n", False)


def test_wildcards_that_stand_for_nothing(smc_fuse):
    for name in ("ir", "vis", "ir2", "vis2"):
        save(f"s/{name}.png", GREY)
    status, out, err = smc_fuse("s/ir*.png", "s/vis*.png", "-o", "fused")
    assert (status, out, err) == (0, "wrote 2 images to fused\n", "")
    assert sorted(os.listdir("fused")) == ["2.png", "ir.png"]
    status, out, err = smc_fuse("s/ir*.png", "s/vis2*.png", "-o", "other")
    assert (status, out) == (2, "wrote other/ir.png\n")
    assert "s/ir2.png has no partner in s/vis2*.png" in err
    err = smc_fuse("s/ir*.png", "s/v*2.png", "-o", "none")[2]
    assert err.startswith("error: no name is in both s/ir*.png and s/v*2.png, as '' and is;")


def test_an_empty_name_takes_none_that_is_another_pairs(smc_fuse):
    for name in ("ir", "irir", "vis"):
        save(f"s/{name}.png", GREY)
    save("s/irvis.png", RGB)
    status, out, err = smc_fuse("s/*ir.png", "s/*vis.png", "-o", "out")
    assert (status, out) == (2, "wrote out/ir.png\n")
    assert "s/ir.png and s/irir.png would both become out/ir.png; fuse the first by itself" in err
    assert picture.read("out/ir.png").pixels.ndim == 3


def test_many_images_go_to_no_file(smc_fuse):
    save("s/k_ir.png", GREY)
    save("s/k_vis.png", GREY)
    assert smc_fuse("s/*_ir.png", "s/*_vis.png", "-o", "out.png") == (
        2,
        "",
        "error: --out=out.png is for many images; give a folder\n",
    )


def test_names_are_what_each_wildcard_stands_for(smc_fuse):
    save("s/a_b/c_ir.png", GREY)
    save("s/a/b_c_vis.png", GREY)
    status, _, err = smc_fuse("s/*/*_ir.png", "s/*/*_vis.png", "-o", "out")
    assert status == 2
    assert err.startswith("error: no name is in both s/*/*_ir.png and s/*/*_vis.png")
    save("s/a/b_c_ir.png", GREY)
    save("s/a_b/c_vis.png", RGB)
    status, out, err = smc_fuse("s/*/*_ir.png", "s/*/*_vis.png", "-o", "out")
    assert (status, out) == (2, "wrote out/a_b_c.png\n")
    assert re.search("s/a_?.*_ir.png and s/a_?.*_ir.png would both become out/a_b_c.png", err)


@pytest.mark.parametrize("letters", ["[!x]", "[]k]", "[[k]", "[jk\\]", "[!]]", "[a-k]"])
def test_sets_of_letters(smc_fuse, letters):
    save("s/k_ir.png", GREY)
    save("s/k_vis.png", GREY)
    status, out, err = smc_fuse(f"s/{letters}_ir.png", "s/?_vis.png", "-o", "out")
    assert (status, out, err) == (0, "wrote out/k.png\n", "")


def test_sets_of_no_letter(smc_fuse):
    save("s/k_ir.png", GREY)
    status, _, err = smc_fuse("s/[z-a]_ir.png", "s/?_ir.png", "-o", "out")
    assert status == 2
    assert err.startswith("error: no image matches s/[z-a]_ir.png;")


def test_no_pair_takes_the_place_of_anothers_source(smc_fuse):
    for name in ("xir", "xvis", "xirir", "xirvis"):
        save(f"s/{name}.png", GREY)
    before = Path("s/xir.png").read_bytes()
    status, _, err = smc_fuse("s/*ir.png", "s/*vis.png", "-o", "s", "--overwrite")
    assert status == 2
    assert "s/xir.png is a source itself; give another --out" in err
    assert Path("s/xir.png").read_bytes() == before
    assert Path("s/x.png").exists()


def test_a_name_that_is_too_long_is_that_pairs_own_matter(smc_fuse):
    for folder, name in (("f" * 150, "g" * 150), ("k", "k")):
        save(f"s/{folder}/{name}_ir.png", GREY)
        save(f"s/{folder}/{name}_vis.png", GREY)
    for _ in range(2):
        Path("out/k_k.png").unlink(missing_ok=True)
        status, out, err = smc_fuse("s/*/*_ir.png", "s/*/*_vis.png", "-o", "out")
        assert (status, out) == (2, "wrote 1 image to out\n")
        assert "File name too long" in err


def test_failures_stay_alone(folders):
    content("ir/p0.png", b"")
    save("vis/p1.JPG", RGB[:20])
    save("ir/lonely.png", GREY)
    save("vis/p2.bmp", RGB)
    content("ir/new\nline.png", b"x")
    status, out, err = folders("ir", "vis", "-o", "fused")
    assert (status, out) == (2, "wrote 1 image to fused\n")
    first, *lines = err.splitlines()
    assert first == "5 failed:"
    for part in (
        "ir/p0.png is empty",
        "ir/p1.png and vis/p1.JPG are 32x32 and 32x20 pixels",
        "ir/lonely.png has no partner in vis",
        "vis/p2.bmp has the name of p2.JPG",
        "new\\nline.png' has a name that cannot be printed",
    ):
        assert sum(part in line for line in lines) == 1, (part, err)
    assert os.listdir("fused") == ["p2.png"]


def test_no_names_in_common(smc_fuse):
    save("ir/a.png", GREY)
    save("vis/b.png", RGB)
    status, out, err = smc_fuse("ir", "vis", "-o", "fused")
    assert (status, out) == (2, "")
    assert err.startswith("error: no name is in both ir and vis, as a and b; partners have equal")
    assert not Path("fused").exists()


def test_the_folder_of_a_source_as_output(folders):
    before = {path: path.read_bytes() for path in Path("ir").iterdir()}
    status, out, err = folders("ir", "vis", "-o", "ir", "--overwrite")
    assert (status, out) == (2, "")
    assert err.splitlines()[0] == "3 failed:"
    assert "ir/p0.png is a source itself; give another --out" in err
    assert before == {path: path.read_bytes() for path in Path("ir").iterdir()}


def test_auto_tells_why(smc_fuse, weights, tmp_path, monkeypatch):
    monkeypatch.setattr("smc_jax.weights.FOLDER", tmp_path / "packaged")
    for i in range(3):
        save(f"ir/p{i}.png", GREY)
        save(f"vis/p{i}.png", RGB if i else GREY // 2)
    arguments = ("ir", "vis", "-o", "fused")
    status, out, err = smc_fuse(*arguments, "--weights=")
    assert status == 2
    assert out.startswith("task: ivif for ")
    assert "no weights for ivif come with this version (none is packaged yet)" in err
    os.mkdir("packaged")
    os.link(weights, "packaged/general.safetensors")
    assert "task: ivif for " in smc_fuse(*arguments, "--weights=")[1]
    save("a.png", GREY)
    save("c.png", RGB)
    assert smc_fuse("a.png", "c.png", "-o", "out.png", "--weights=")[1].splitlines() == [
        "task: ivif: one is grey, the other in colour (--task=NAME names another)",
        "wrote out.png",
    ]
    named = smc_fuse("a.png", "c.png", "-o", "other.png", "--weights=", "--task=mfif")
    assert named == (0, "wrote other.png\n", "")


@superuser
def test_read_only_output(smc_fuse):
    os.mkdir("there", 0o500)
    status, _, err = smc_fuse("b.png", "b.png", "-o", "there/x.png")
    assert status == 2
    assert "may not be written to" in err


def test_full_disk(smc_fuse):
    """A limit on the size of files stands in for a full disk: writing fails halfway."""
    save("out.png", FLAT)
    before = Path("out.png").read_bytes()
    noise = RNG.integers(0, 256, (64, 64), dtype=np.uint8)
    save("a.png", noise)
    # Compiles first, so that no part of a program is written to a cache under that limit.
    smc_fuse("a.png", "a.png", "-o", "warm.png")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.getsignal(signal.SIGXFSZ)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        status, out, err = smc_fuse("a.png", "a.png", "-o", "out.png", "--overwrite")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert handler == signal.getsignal(signal.SIGXFSZ)
    assert (status, out) == (2, "")
    assert re.fullmatch(r"error: (.*: )?out\.png cannot be written: File too large\n", err)
    assert Path("out.png").read_bytes() == before
    assert not list(Path().glob("*.tmp"))


# In the background of a shell, the tests and their child processes would ignore SIGINT.
INTERRUPTIBLE = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module("smc_jax.cli", run_name="__main__")
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupt_in_the_middle(weights, tmp_path, number, status):
    for i in range(400):
        save(tmp_path / f"ir/{i}.png", np.roll(GREY, i))
        save(tmp_path / f"vis/{i}.png", np.roll(B, i))
    environment = {**os.environ, "SMC_JAX_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    run = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTIBLE, "ir", "vis", "-o", "out", f"--weights={weights}"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while run.poll() is None and not list(tmp_path.glob("out/*.png")):
        time.sleep(0.02)
    run.send_signal(number)
    out, err = run.communicate(timeout=60)
    assert run.returncode == status, (out, err)
    assert out == ""
    assert err == ("interrupted\n" if number == signal.SIGINT else "")
    made = list((tmp_path / "out").iterdir())
    assert 0 < len(made) < 400
    assert {path.suffix for path in made} == {".png"}
    for path in made:
        assert picture.read(path).pixels.shape == (32, 32)


def test_nothing_slow_is_imported(weights, tmp_path):
    """Packages that fusing does not need, such as TensorFlow, grain and orbax, stay out."""
    save(tmp_path / "a.png", GREY)
    slow = {"tensorflow", "tensorflow_datasets", "grain", "orbax", "optax", "scipy", "array_record"}
    script = (
        "import sys; from smc_jax import cli; status = cli.main(); "
        f"print(*({{m.split('.')[0] for m in sys.modules}} & {slow}))"
    )
    given = ["a.png", "a.png", "-o", "out.png", f"--weights={weights}"]
    environment = {**os.environ, "SMC_JAX_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [sys.executable, "-c", script, *given],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[1:] == [""]
