"""Makes pairs from photographs: focused near and far, or exposed less and more.

python -m data_prep.simulate --photos=FOLDER --task=mfif --out=PAIRS/train [--each=2] [--overwrite]

Writes `PAIRS/train/{a,b,gt}/<photo>_<k>.png`, the sources and the photograph itself, which should
be sharp and well exposed. `a` is focused near (or is dark), `b` far (or is bright); what lies
between, a strip of a smooth scene, is sharp in neither. For exposures the photograph is darkened at
random first. The same photographs always give the same pairs. To build a data set of them, run
`python -m data_prep pairs --source=PAIRS --task=mfif ...`.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import flags
from scipy import ndimage
from tqdm import tqdm

from data_prep import defocus, exposure, folder
from data_prep.folder import BuildError
from smc_jax import color, command, files, image_files, pairing

MARK = "simulated.json"
"""The file that identifies a folder written by this command."""
SMALLEST = 32
"""Least side of a photograph, in pixels."""
OBJECTS = 0.5
"""Share of focus pairs in which near objects have edges and hide far ones."""
STRENGTH = 0.014
"""Radius of the defocus between the nearest and the farthest, as a share of the shorter side."""
VARIETY = 0.5, 2.0
"""Range of the random factor that `focus_pair` multiplies `STRENGTH` by."""
WELL_LIT = 40_000
"""Electrons at which a pixel saturates, in a camera with time to focus."""
SMALL = 8_000
"""Electrons at which a pixel saturates, in a small camera that brackets its exposure."""
DARKENED = 1.0
"""Largest number of stops by which a photograph is darkened first."""
LESS, MORE = (0.3, 3.5), (0.5, 4.0)
"""Ranges of the random stops by which it is then exposed less and more."""


class Sample(NamedTuple):
    """Two sources and the photograph that they were made from, as stored."""

    a: np.ndarray
    b: np.ndarray
    gt: np.ndarray


def multi_focus(
    photograph: np.ndarray, disparity: np.ndarray, *, hides: bool, rng, strength: float = STRENGTH
) -> Sample:
    """The photograph focused near and far.

    Args:
      photograph: uint8, "h w" or "h w 3".
      disparity: "h w", from 0 (far) to 1 (near).
      hides: whether near objects have edges and hide far ones; else depth changes smoothly.
      rng: np.random.Generator of the noise.
      strength: radius of the defocus between the nearest and the farthest, as a share of the
        shorter side.
    """
    light = exposure.linear(np.atleast_3d(photograph))
    render = defocus.stepped if hides else defocus.sloped
    radius = strength * min(disparity.shape)
    near, far = np.quantile(disparity, (0.85, 0.15))
    sources = [
        exposure.expose(render(light, disparity, focus, radius), 0, WELL_LIT, rng)
        for focus in (near, far)
    ]
    return Sample(*(s.reshape(photograph.shape) for s in sources), photograph)


def multi_exposure(
    photograph: np.ndarray,
    rng,
    less: tuple[float, float] = (2, 3),
    more: tuple[float, float] = (1.5, 2.5),
) -> Sample:
    """The photograph exposed less and more, by stops drawn from the given ranges."""
    light = exposure.linear(np.atleast_3d(photograph))
    sources = [
        exposure.expose(light, stops, SMALL, rng)
        for stops in (-rng.uniform(*less), rng.uniform(*more))
    ]
    return Sample(*(s.reshape(photograph.shape) for s in sources), photograph)


def depth(shape: tuple[int, int], tilt: float, rng) -> np.ndarray:
    """A disparity map "h w" in [0, 1]: a slope, bent at random, steepest in the middle."""
    noise = ndimage.gaussian_filter(rng.normal(size=shape), 0.15 * min(shape), mode="reflect")
    noise /= noise.std()
    y, x = (np.linspace(-1, 1, n) for n in shape)
    angle = np.deg2rad(tilt)
    slope = y[:, None] * np.cos(angle) + x * np.sin(angle) + 0.4 * noise
    slope = (slope - np.median(slope)) / slope.std()
    return (1 / (1 + np.exp(-9 * slope))).astype(np.float32)


def objects(shape: tuple[int, int], rng) -> np.ndarray:
    """A disparity map "h w" in [0, 1]: a far background with one to three near objects.

    The objects are equally near, and the first alone covers more than the nearest 15 % that set the
    near focus: nearly every point is in focus in one of the sources.
    """
    disparity = 0.15 * depth(shape, rng.uniform(0, 360), rng)
    near = rng.uniform(0.6, 1.0)
    for _ in range(rng.integers(1, 4)):
        size = min(shape) * rng.uniform(0.06, 0.25)
        noise = ndimage.gaussian_filter(rng.normal(size=shape), size, mode="reflect")
        disparity[noise > np.quantile(noise, rng.uniform(0.6, 0.8))] = near
    return disparity.astype(np.float32)


def focus_pair(photograph: np.ndarray, rng) -> Sample:
    """The photograph focused near and far, with a random disparity map and strength."""
    shape, strength = photograph.shape[:2], STRENGTH * rng.uniform(*VARIETY)
    hides = rng.random() < OBJECTS
    disparity = objects(shape, rng) if hides else depth(shape, rng.uniform(0, 360), rng)
    return multi_focus(photograph, disparity, hides=hides, rng=rng, strength=strength)


def exposure_pair(photograph: np.ndarray, rng) -> Sample:
    """The photograph, darkened at random, exposed less and more, often by unequal stops.

    Daylight scenes are all bright: a model trained on no others makes all scenes bright. A model
    that has seen no pair with one nearly right exposure moves such an exposure halfway to white.
    """
    light = exposure.linear(np.atleast_3d(photograph)) * 2.0 ** -rng.uniform(0, DARKENED)
    return multi_exposure(exposure.encode(light).reshape(photograph.shape), rng, LESS, MORE)


MAKE = {"mfif": focus_pair, "meif": exposure_pair}
KINDS = tuple(MAKE)
"""The tasks that pairs can be simulated for."""
OWN = (*Sample._fields, MARK)


def store(sample: Sample, where: Path, name: str) -> None:
    """Writes the images of a sample as `where/{a,b,gt}/<name>.png`."""
    for side, image in sample._asdict().items():
        image_files.write(where / side / f"{name}.png", image)


def write(photos: Path, task: str, out: Path, *, each: int = 2, overwrite: bool = False) -> int:
    """Writes `each` pairs of every photograph of a folder, all or nothing; returns how many.

    Args:
      photos: a folder of image files.
      task: one of `KINDS`.
      out: a folder for the pairs.
      each: the number of pairs made from each photograph.
      overwrite: replace the output of an earlier run.

    Raises:
      BuildError: an argument is wrong.
      InputError: there are no photographs, or one is damaged or too small.
    """
    if task not in KINDS:
        raise BuildError(f"--task={task} cannot be simulated; it may be {', '.join(KINDS)}")
    if each < 1:
        raise BuildError(f"--each={each}; it must be 1 or more")
    folder.check(out, MARK, overwrite=overwrite, own=OWN)
    if photos.resolve().is_relative_to(out.resolve()):
        raise BuildError(f"--photos={photos} lies in --out={out}; give another --out")
    found = pairing.images(photos) if photos.is_dir() else {}
    if not found:
        raise BuildError(f"--photos={photos} is no folder with image files")
    with folder.whole(out) as new:
        pairs = _pairs(found, task, each)
        for name, sample in tqdm(pairs, "pairs", len(found) * each, disable=None):
            store(sample, new, name)
        about = {"task": task, "photographs": len(found), "each": each}
        files.write(new / MARK, json.dumps(about).encode())
    return len(found) * each


def _pairs(found: dict[str, Path], task: str, each: int) -> Iterator[tuple[str, Sample]]:
    for number, (stem, path) in enumerate(sorted(found.items())):
        photograph = color.bytes8(image_files.read(path))
        height, width = photograph.shape[:2]
        if min(height, width) < SMALLEST:
            raise BuildError(f"{path} is {width}x{height}; it needs {SMALLEST}x{SMALLEST} at least")
        for k in range(each):
            yield f"{stem}_{k}", MAKE[task](photograph, np.random.default_rng((number, k)))


def main() -> None:
    values = flags.FLAGS
    for name in ("photos", "task", "out"):
        if not values[name].value:
            raise BuildError(f"give --{name}; see --help")
    out = Path(values.out)
    count = write(
        Path(values.photos), values.task, out, each=values.each, overwrite=values.overwrite
    )
    print(f"{count} pairs: {out}")


if __name__ == "__main__":
    flags.DEFINE_string("photos", "", "Folder of photographs.")
    flags.DEFINE_string("task", "", f"What the pairs are for: {' or '.join(KINDS)}.")
    flags.DEFINE_string("out", "", "Folder for the pairs.")
    flags.DEFINE_integer("each", 2, "Pairs per photograph.")
    flags.DEFINE_bool("overwrite", False, "Replace the pairs of an earlier run.")
    command.run(main)
