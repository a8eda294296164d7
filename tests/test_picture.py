"""Image files with their transparency, EXIF and ICC profiles."""

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from smc_jax import picture
from smc_jax.errors import ImageError
from smc_jax.picture import Picture

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (5, 7), dtype=np.uint8)
RGB = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)
ALPHA = RNG.integers(0, 256, (5, 7), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (5, 7), dtype=np.uint16)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def tags(turned=1):
    exif = Image.Exif()
    exif[0x010F], exif[0x8298], exif[0x0112] = "Maker", "Owner", turned
    exif[0x8769] = {0x829A: 0.5}  # exposure time
    exif[0x8825] = {1: "N"}
    return exif


def save(path, image, **more):
    Image.fromarray(image).save(path, **more)
    return picture.read(path)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".TIFF"])
def test_exif_and_profile_survive(tmp_path, suffix):
    kind = {"exif": tags(6).tobytes(), "icc_profile": SRGB}
    source = save(tmp_path / f"a{suffix}", RGB, **kind)
    assert source.pixels.shape == (7, 5, 3)  # turned upright
    picture.write(tmp_path / f"out{suffix}", source)
    with Image.open(tmp_path / f"out{suffix}") as file:
        assert file.size == (5, 7)
        assert file.info["icc_profile"] == SRGB
        found = file.getexif()
        assert 0x0112 not in found or found[0x0112] == 1
        assert (found[0x010F], found[0x8298]) == ("Maker", "Owner")
        assert found.get_ifd(0x8769)[0x829A] == 0.5
        assert found.get_ifd(0x8825)[1] == "N"


def test_the_preview_of_a_source_is_not_kept(tmp_path):
    exif = tags()
    exif.get_ifd(1)[0x0201] = 7
    source = save(tmp_path / "a.jpg", RGB, exif=exif)
    kept = Image.Exif()
    kept.load(source.exif)
    assert not kept.get_ifd(1)
    assert kept[0x010F] == "Maker"


@pytest.mark.filterwarnings("ignore")  # Pillow's warnings
def test_damaged_exif_is_left_out(tmp_path):
    source = save(tmp_path / "a.jpg", RGB, exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert source.exif == b""
    assert source.pixels.shape == (5, 7, 3)


@pytest.mark.parametrize(
    ("suffix", "pixels", "expected"),
    [
        (".png", DEEP, DEEP),
        (".tif", DEEP, DEEP),
        (".bmp", RGB, RGB),
        (".bmp", DEEP, (DEEP.astype(float) / 257).round().astype(np.uint8)),
        (".png", RGB, RGB),
        (".png", RGB.astype(np.uint16) * 257, RGB),
    ],
)
def test_pixels_survive(tmp_path, suffix, pixels, expected):
    picture.write(tmp_path / f"x{suffix}", Picture(pixels, exif=tags().tobytes(), icc=SRGB))
    found = picture.read(tmp_path / f"x{suffix}")
    assert found.pixels.dtype == expected.dtype
    np.testing.assert_array_equal(found.pixels, expected)


@pytest.mark.parametrize("pixels", [GREY, RGB])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".bmp"])
def test_transparency(tmp_path, pixels, suffix):
    picture.write(tmp_path / f"x{suffix}", Picture(pixels, ALPHA))
    found = picture.read(tmp_path / f"x{suffix}").alpha
    if suffix in (".png", ".tif"):
        np.testing.assert_array_equal(found, ALPHA)
    else:
        assert found is None


def test_profile_of_other_channels_is_left_out():
    encoded = picture.encode(Picture(GREY, icc=SRGB), ".png")
    with Image.open(io.BytesIO(encoded)) as file:
        assert "icc_profile" not in file.info


def test_unknown_formats_are_refused():
    for suffix, message in ((".xyz", "there is no format .xyz"), ("", "a suffix is missing")):
        with pytest.raises(ImageError, match=rf"{message}; give one of \.png, \.jpg"):
            picture.encode(Picture(GREY), suffix)


def test_what_is_inherited():
    plain = Picture(GREY)
    grey, colour = Picture(GREY, None, b"grey", b"g"), Picture(RGB, None, b"colour", b"c")
    assert picture.inherit(RGB, grey, colour)[2:] == (b"colour", b"c")
    assert picture.inherit(RGB, colour, grey)[2:] == (b"colour", b"c")
    assert picture.inherit(GREY, grey, grey._replace(exif=b"other"))[2:] == (b"grey", b"g")
    assert picture.inherit(RGB, grey, Picture(RGB))[2:] == (b"grey", b"g")
    assert picture.inherit(GREY, plain, plain) == (GREY, None, b"", b"")
    faint, half = plain._replace(alpha=ALPHA), plain._replace(alpha=np.full_like(ALPHA, 128))
    assert picture.inherit(GREY, faint, plain).alpha is None
    np.testing.assert_array_equal(picture.inherit(GREY, faint, half).alpha, np.maximum(ALPHA, 128))
