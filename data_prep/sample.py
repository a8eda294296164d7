"""Makes sample pairs from the photographs that scikit-image ships; nothing is downloaded.

python -m data_prep.sample --out=DIR [--data=DIR]     (needs `pip install '.[sample]'`)

Writes `OUT/mfif/<split>/{a,b,gt}/<name>.png`, multi-focus pairs (`a` near, `b` far), and
`OUT/meif/...`, multi-exposure pairs (`a` dark, `b` bright). `gt` is the photograph itself. With
--data, the data sets DATA/sample_mfif and DATA/sample_meif are built from them. No scene is in two
splits. The same package versions make the same files.
"""

import json
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import flags
from scipy import ndimage
from tqdm import tqdm

from data_prep import build, folder
from data_prep.folder import BuildError
from data_prep.simulate import KINDS, Sample, depth, multi_exposure, multi_focus, store
from smc_jax import command, files, image_files

MARK = "sample.json"
"""The file that identifies a folder written by this command."""


class Scene(NamedTuple):
    """A photograph, its split, the number of pairs of each kind made from it, and its depth."""

    file: str
    split: str
    pairs: int
    tilt: float
    """Direction in degrees in which the scene comes nearer; 0 is down, 90 to the right."""


SCENES = (
    Scene("astronaut.png", "train", 2, 20),
    Scene("brick.png", "train", 2, 0),
    Scene("camera.png", "train", 2, -60),
    Scene("coins.png", "train", 2, 60),
    Scene("grass.png", "train", 2, -20),
    Scene("gravel.png", "train", 2, 30),
    Scene("page.png", "train", 2, 0),
    Scene("rocket.jpg", "train", 2, -30),
    Scene("chelsea.png", "test", 1, 45),
    Scene("coffee.png", "test", 1, 0),
    Scene("motorcycle_left.png", "test", 1, 0),
)
DISPARITY = {"motorcycle_left.png": "motorcycle_disp.npz"}
"""Files of measured disparities, by photograph."""


def measured_depth(file: str, photograph: np.ndarray) -> np.ndarray:
    """The stereo pair's disparity in [0, 1].

    Points that only one camera saw have none: they take that of the nearest known pixel to the left
    or right in the row, whichever has the more similar colour.
    """
    with np.load(_shipped() / file) as archive:
        disparity = archive["arr_0"]
    known = np.isfinite(disparity)
    known[:, [0, -1]] = True
    disparity[~np.isfinite(disparity)] = disparity[np.isfinite(disparity)].min()
    column = np.arange(known.shape[1])
    left = np.maximum.accumulate(np.where(known, column, 0), axis=1)
    right = np.minimum.accumulate(np.where(known, column, column[-1])[:, ::-1], axis=1)[:, ::-1]
    row = np.arange(len(known))[:, None]
    colors = ndimage.gaussian_filter(photograph.astype(np.float32), (1, 1, 0))
    unlike = [((photograph - colors[row, side]) ** 2).sum(-1) for side in (left, right)]
    filled = np.where(unlike[0] <= unlike[1], disparity[row, left], disparity[row, right])
    filled = ndimage.median_filter(filled, 3)
    low, high = filled.min(), filled.max()
    return ((filled - low) / (high - low)).astype(np.float32)


def samples() -> Iterator[tuple[str, str, str, Sample]]:
    """Yields all samples as task, split, name and images."""
    for number, scene in enumerate(SCENES):
        photograph = image_files.read(_shipped() / scene.file)
        stem = Path(scene.file).stem
        for pair in range(scene.pairs):
            name = f"{stem}_{pair}" if scene.pairs > 1 else stem
            rng = np.random.default_rng((number, pair))
            if measurement := DISPARITY.get(scene.file):
                disparity = measured_depth(measurement, photograph)
            else:
                disparity = depth(photograph.shape[:2], scene.tilt, rng)
            focus = multi_focus(photograph, disparity, hides=measurement is not None, rng=rng)
            yield "mfif", scene.split, name, focus
            # How many random numbers that noise took depends on the machine's arithmetic.
            rng = np.random.default_rng((number, pair, 1))
            yield "meif", scene.split, name, multi_exposure(photograph, rng)


def write(out: Path, data: Path | None = None, *, overwrite: bool = False) -> list[Path]:
    """Writes all samples as `out/<task>/<split>/{a,b,gt}/<name>.png`.

    Args:
      out: a folder for the pairs, written whole or not at all.
      data: a folder for data sets `sample_<task>` built from them, or None for no data sets.
      overwrite: replace the output of an earlier run.

    Returns:
      The folders of the data sets.

    Raises:
      BuildError: a folder may not be overwritten, `data` lies in `out`, or scikit-image is missing.
    """
    sets = {task: data / f"sample_{task}" for task in KINDS} if data else {}
    folder.check(out, MARK, overwrite=overwrite, own=(*KINDS, MARK))
    for target in sets.values():
        folder.check(target, build.MARK, overwrite=overwrite)
        if target.resolve().is_relative_to(out.resolve()):
            raise BuildError(f"--data={data} lies in --out={out}; keep data sets in a folder apart")
    with folder.whole(out) as new:
        total = len(KINDS) * sum(scene.pairs for scene in SCENES)
        bar = tqdm(samples(), "sample pairs", total, disable=None)
        for task, split, name, sample in bar:
            store(sample, new / task / split, name)
        files.write(new / MARK, json.dumps({"photographs": len(SCENES)}).encode())
    return [
        build.build(out / task, task, target.name, target.parent, overwrite=overwrite)
        for task, target in sets.items()
    ]


def _shipped():
    try:
        return resources.files("skimage") / "data"
    except ModuleNotFoundError:
        raise BuildError(
            "the photographs are those of scikit-image: pip install '.[sample]' in the clone"
        ) from None


def main() -> None:
    values = flags.FLAGS
    if not values.out:
        raise BuildError("give --out; see --help")
    data = Path(values.data) if values.data else None
    sets = write(Path(values.out), data, overwrite=values.overwrite)
    for task in KINDS:
        print(f"pairs: {Path(values.out) / task}")
    for target in sets:
        print(f"data set: {build.summary(target)}")


if __name__ == "__main__":
    flags.DEFINE_string("out", "", "Folder for the pairs.")
    flags.DEFINE_string("data", "", "Folder of data sets; builds them from the pairs there.")
    flags.DEFINE_bool("overwrite", False, "Replace pairs and data sets of an earlier run.")
    command.run(main)
