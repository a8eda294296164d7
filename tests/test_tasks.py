"""Which task two images are judged to be for, and by which statistics."""

import numpy as np
import pytest
from scipy import ndimage

from smc_jax import tasks
from smc_jax.errors import ConfigError


def texture(seed, smooth=3, size=(96, 120)):
    image = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=size), smooth)
    image = (image - image.min()) / np.ptp(image)
    return (40 + 170 * image).astype(np.uint8)


def tinted(image):
    return np.stack([image, image // 2, image // 3], -1)


def head(image):
    """The image on a black background, like that of a medical scan."""
    h, w = image.shape
    y, x = np.mgrid[-1 : 1 : h * 1j, -1 : 1 : w * 1j]
    return np.where(x**2 + y**2 < 0.6, image, 0).astype(np.uint8)


SHARP = (0.8 * texture(0, 8) + 0.2 * texture(1, 1)).astype(np.uint8)
BLURRED = ndimage.gaussian_filter(SHARP, 2)
LEFT = np.where(np.arange(120) < 60, SHARP, BLURRED).astype(np.uint8)
RIGHT = np.where(np.arange(120) < 60, BLURRED, SHARP).astype(np.uint8)
WIDE = texture(7, 8)


@pytest.mark.parametrize(
    ("task", "a", "b"),
    [
        ("mdif", head(texture(1)), head(texture(2))),
        ("mdif", tinted(head(texture(1))), head(texture(2))),
        ("ivif", texture(1), tinted(texture(2))),
        # A night scene: dark, but not black.
        ("ivif", np.maximum(head(texture(1)), 8), tinted(np.maximum(head(texture(2)), 9))),
        ("ivif", tinted(texture(1)), texture(2)),
        ("ivif", texture(1), texture(2)),
        ("mfif", LEFT, RIGHT),
        ("mfif", tinted(LEFT), tinted(RIGHT)),
        ("meif", WIDE // 4, 255 - (255 - WIDE) // 4),
        ("meif", tinted(WIDE) // 3, tinted(WIDE)),
        ("general", tinted(texture(1)), tinted(texture(2))),
    ],
)
def test_judged(task, a, b):
    assert tasks.resolve("auto", a, b)[0] == task
    found, reason = tasks.resolve("auto", b, a)
    assert found == task
    assert reason
    deep = [v.astype(np.uint16) * 257 for v in (a, b)]
    assert tasks.resolve("auto", *deep)[0] == task


@pytest.mark.parametrize("level", [0, 128, 255])
def test_flat_images_are_judged(level):
    flat = np.full((16, 16), level, np.uint8)
    assert tasks.resolve("auto", flat, flat)[0] in tasks.CHOICES[1:]


def test_a_named_task_stays():
    assert tasks.resolve("meif", SHARP, SHARP) == ("meif", "")
    with pytest.raises(ConfigError, match="no task xyz; it may be auto, ivif"):
        tasks.resolve("xyz", SHARP, SHARP)


def test_statistics():
    a = np.zeros((40, 60), np.uint8)
    b = np.zeros((40, 60, 3), np.uint8)
    b[10:30, 20:40] = [255, 0, 0]
    seen = tasks.measure(a, b)
    assert seen.colored == 1
    assert seen.border == 1
    assert seen.background == pytest.approx(1 - 400 / 2400)
    assert seen.brighter == pytest.approx(0.299 * 400 / 2400)
    a[10:30, 20:40] = 100
    assert tasks.measure(a, b).correlation == pytest.approx(1)
    assert tasks.measure(a, b).edges == pytest.approx(1)
    assert tasks.measure(255 - a, b).edges == pytest.approx(-1)
