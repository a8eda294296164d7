import io
import os
import struct
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from smc_jax import color, image_files
from smc_jax.errors import ImageError, InputError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (5, 7), dtype=np.uint8)
RGB = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (5, 7), dtype=np.uint16)


def save(path, image, **kwargs):
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    image.save(path, **kwargs)
    return path


def with_alpha(image):
    image = Image.fromarray(image)
    image.putalpha(100)
    return image


def palette():
    image = Image.fromarray(GREY % 3, "P")
    image.putpalette([10, 20, 30, 255, 0, 0, 7, 7, 7])
    return image


@pytest.mark.parametrize(
    ("suffix", "image", "expected"),
    [
        (".png", GREY, GREY),
        (".png", RGB, RGB),
        (".png", DEEP, DEEP),
        (".tif", DEEP, DEEP),
        (".bmp", RGB, RGB),
        (".TIFF", GREY, GREY),
        (".png", with_alpha(RGB), RGB),
        (".png", with_alpha(GREY), GREY),
        (".png", Image.fromarray(GREY > 99), np.where(GREY > 99, 255, 0)),
        (".tif", Image.fromarray(DEEP.astype(np.int32)), DEEP),
        (".tif", Image.fromarray(DEEP.astype(np.float32)), DEEP),
        (".tif", Image.fromarray(255 - RGB).convert("CMYK"), 255 - RGB),
    ],
)
def test_read(tmp_path, suffix, image, expected):
    found = image_files.read(save(tmp_path / f"x{suffix}", image))
    assert found.dtype == (np.uint16 if expected is DEEP else np.uint8)
    np.testing.assert_array_equal(found, expected)


def test_read_palette(tmp_path):
    colors = np.array([[10, 20, 30], [255, 0, 0], [7, 7, 7]], np.uint8)
    np.testing.assert_array_equal(
        image_files.read(save(tmp_path / "x.png", palette())), colors[GREY % 3]
    )


def test_read_big_endian(tmp_path):
    # A big-endian 2x1 TIFF, made by hand because Pillow writes little-endian ones.
    tags = [(256, 2), (257, 1), (258, 16), (259, 1), (262, 1), (273, 122), (278, 1), (279, 4)]
    entries = b"".join(
        tag.to_bytes(2, "big") + b"\0\4\0\0\0\1" + value.to_bytes(4, "big") for tag, value in tags
    )
    header = b"MM\0*\0\0\0\x08" + len(tags).to_bytes(2, "big") + entries + b"\0\0\0\0"
    (tmp_path / "x.tif").write_bytes(header.ljust(122, b"\0") + b"\x01\x02\xff\xfe")
    found = image_files.read(tmp_path / "x.tif")
    assert found.dtype == np.dtype("=u2")
    np.testing.assert_array_equal(found, [[0x0102, 0xFFFE]])


def test_read_applies_rotation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # The camera was turned: rotate by 90 degrees clockwise.
    found = image_files.read(save(tmp_path / "x.png", GREY, exif=exif))
    np.testing.assert_array_equal(found, np.rot90(GREY, -1))


def test_read_names_the_bad_file(tmp_path, monkeypatch):
    cut = io.BytesIO()
    Image.fromarray(np.tile(RGB, (20, 20, 1))).save(cut, "PNG")
    contents = {
        "empty": (b"", "is empty"),
        "text": (b"no pixels", "is no image"),
        "cut": (cut.getvalue()[:300], "cannot be decoded"),
    }
    for name, (content, message) in contents.items():
        path = tmp_path / f"{name}.png"
        path.write_bytes(content)
        with pytest.raises(ImageError, match=rf"{name}\.png {message}") as caught:
            image_files.read(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(ImageError, match=r"none\.png cannot be read: No such file"):
        image_files.read(tmp_path / "none.png")
    with pytest.raises(ImageError, match="Is a directory"):
        image_files.read(tmp_path)
    with pytest.raises(ImageError, match="whole numbers from 0 to 65535"):
        image_files.read(save(tmp_path / "x.tif", np.float32([[0.5, np.nan]])))
    with pytest.raises(ImageError, match="whole numbers from 0 to 65535"):
        image_files.read(save(tmp_path / "y.tif", np.int32([[-1, 70000]])))
    big = save(tmp_path / "big.png", GREY)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(ImageError, match=r"big\.png has too many pixels"):
        image_files.read(big)


@pytest.mark.filterwarnings("ignore")  # Pillow's warnings about damaged TIFF files and huge sizes
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "JPEG"])
def test_no_damage_escapes_as_another_error(kind):
    file = io.BytesIO()
    Image.fromarray(RGB).save(file, kind)
    failed = 0
    for cut in range(0, len(file.getvalue()), 3):
        damaged = bytearray(file.getvalue())
        damaged[cut] ^= 0xFF
        try:
            image_files.decode(bytes(damaged[: len(damaged) - cut % 4]), "x")
        except ImageError:
            failed += 1
    assert failed > 2


def test_kinds_of_pixels_that_pillow_does_not_know():
    """Pillow raises errors of its own for them."""
    header = struct.pack("<4I 12x 44x 2I 4s", 124, 0x1007, 8, 8, 32, 4, b"ABCD")
    with pytest.raises(ImageError, match=r"x\.png cannot be decoded \(.*\); replace it by"):
        image_files.decode(b"DDS " + header + bytes(200), "x.png")


@pytest.mark.parametrize("image", [GREY, RGB, DEEP, np.stack([DEEP] * 3, -1)])
def test_luma(image):
    found = color.luma(image)
    assert found.dtype == np.float32
    top = np.iinfo(image.dtype).max
    weights = [Fraction(299, 1000), Fraction(587, 1000), Fraction(114, 1000)]
    for y, x in np.ndindex(image.shape[:2]):
        pixel = [int(v) for v in np.atleast_1d(image[y, x])]
        exact = pixel[0] if len(pixel) == 1 else sum(map(Fraction.__mul__, weights, pixel))
        assert found[y, x] == pytest.approx(float(Fraction(exact) / top), abs=1e-6)


def test_chroma():
    reference = np.asarray(Image.fromarray(RGB).convert("YCbCr"))[..., 1:].astype(float)
    np.testing.assert_allclose(color.chroma(RGB) * 255 + 128, reference, atol=1)
    np.testing.assert_array_equal(color.chroma(GREY), np.zeros((5, 7, 2)))


@pytest.mark.parametrize("image", [GREY, RGB, DEEP])
def test_write(tmp_path, image):
    path = tmp_path / "new" / "x.png"
    image_files.write(path, image)
    with Image.open(path) as file:
        assert file.format == "PNG"
        np.testing.assert_array_equal(np.asarray(file), image)
    assert [p.name for p in path.parent.iterdir()] == ["x.png"]


def test_write_rounds_deep_color(tmp_path):
    deep = np.uint16([[[0, 128, 129], [257, 65535, 65406]]])
    image_files.write(tmp_path / "x.png", deep)
    np.testing.assert_array_equal(
        image_files.read(tmp_path / "x.png"), [[[0, 0, 1], [1, 255, 254]]]
    )


def test_write_fails_whole(tmp_path, monkeypatch):
    path = tmp_path / "x.png"
    image_files.write(path, GREY)

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(InputError, match=r"x\.png cannot be written: No space left"):
        image_files.write(path, RGB)
    assert [p.name for p in tmp_path.iterdir()] == ["x.png"]
    np.testing.assert_array_equal(image_files.read(path), GREY)
    with pytest.raises(InputError, match="cannot be written"):
        image_files.write(path / "y.png", GREY)


def test_same_size():
    color.same_size(GREY, RGB, "x")
    with pytest.raises(ImageError, match="x are 7x5 and 7x4 pixels"):
        color.same_size(GREY, RGB[:4], "x")
