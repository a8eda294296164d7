"""Turns a folder of aligned pairs into a TFDS data set, without TensorFlow.

python -m data_prep.build --pairs=DIR --task=ivif --name=msrs --out=DIR

DIR holds `<split>/a/<name>.*` and `<split>/b/<name>.*`, and `<split>/gt/<name>.*` where there is a
ground truth. The files go into the data set byte by byte, as they were published: nothing is lost
or inflated, whatever their format, depth or channels. Any TFDS reader can read them:

    source = tfds.builder_from_directory("DIR/msrs/1.0.0").as_data_source("train")
    image = PIL.Image.open(io.BytesIO(source[0]["a"]))
"""

import contextlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from absl import flags
from tqdm import tqdm

from data_prep import folder
from data_prep.folder import BuildError
from smc_jax import color, command, image_files, pairing
from smc_jax.config import TASKS
from smc_jax.errors import ImageError

VERSION = "1.0.0"
MARK = "*/dataset_info.json"
"""Glob pattern of a file that any TFDS data set has."""


class Files(NamedTuple):
    """The files of one example, and its size in pixels."""

    name: str
    a: Path
    b: Path
    gt: Path | None
    height: int
    width: int


def build(pairs: Path, task: str, name: str, out: Path, *, overwrite: bool = False) -> Path:
    """Builds `out/name`, whole or not at all.

    Args:
      pairs: the folder of splits.
      task: one of `config.TASKS`.
      name: the data set's name: a lower-case letter, then such letters, digits and underscores.
      out: the folder of data sets.
      overwrite: replace an existing data set.

    Returns:
      The data set's folder.

    Raises:
      BuildError: an argument or a file is wrong; the message names every bad file.
    """
    check(task, name)
    target = out / name
    if target.resolve().is_relative_to(pairs.resolve()):
        raise BuildError(f"--out={out} lies in --pairs={pairs}; keep data sets in a folder apart")
    folder.check(target, MARK, overwrite=overwrite)
    splits = scan(pairs)
    with folder.whole(target) as new:
        write(splits, task, new)
    return target


def check(task: str, name: str) -> None:
    """Raises BuildError unless `task` is known and `name` is a valid name of a data set."""
    if task not in TASKS:
        raise BuildError(f"--task={task} is unknown; it may be {', '.join(TASKS)}")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise BuildError(
            f"--name={name} must be a lower-case letter, then such letters, digits and underscores"
        )


def write(splits: dict[str, list[Files]], task: str, target: Path) -> None:
    """Writes the files of all splits as the data set `target`.

    Raises:
      BuildError: it cannot be written, for instance because the disk is full.
    """
    tfds.disable_progress_bar()
    builder: Any = _builder(target.name, task, splits)
    try:
        # TFDS prints the temporary folder, and that nothing had to be downloaded.
        with contextlib.redirect_stdout(io.StringIO()):
            builder(data_dir=target.parent, file_format="array_record").download_and_prepare()
    except RuntimeError as error:  # from array_record
        reason = str(error).partition("; writing")[0]
        raise BuildError(f"{target.name} cannot be written: {reason}") from None


def summary(target: Path) -> str:
    """One line on the data set in `target`: its splits and their sizes."""
    splits = tfds.builder_from_directory(target / VERSION).info.splits
    return f"{target}: " + ", ".join(f"{n} {s.num_examples}" for n, s in splits.items())


def scan(pairs: Path) -> dict[str, list[Files]]:
    """Returns the files of every split, after reading each file once.

    Raises:
      BuildError: something is wrong; the message lists all problems.
    """
    if not pairs.is_dir():
        raise BuildError(f"--pairs={pairs} is no folder")
    folders = [f for f in sorted(pairs.iterdir()) if (f / "a").is_dir() or (f / "b").is_dir()]
    if not folders:
        raise BuildError(f"{pairs} holds no split; it needs folders like train/a and train/b")
    splits, problems = {}, []
    for split in folders:
        if split.name == "all" or not re.fullmatch(r"[A-Za-z0-9_-]+", split.name):
            problems.append(f"{split}: no name for a split; take letters and digits, not `all`")
            continue
        try:
            found, unpaired = pairing.pairs(split)
            truths, untold = pairing.truths(split, found)
        except ImageError as error:
            problems.append(str(error))
            continue
        problems += unpaired + untold
        splits[split.name] = []
        for pair in tqdm(found, f"checking {split.name}", disable=None):
            try:
                splits[split.name].append(_check(pair, truths.get(pair.name)))
            except ImageError as error:
                problems.append(str(error))
    if problems:
        raise BuildError("\n".join(problems))
    return splits


def _check(pair: pairing.Pair, truth: Path | None) -> Files:
    a, b = image_files.read(pair.a), image_files.read(pair.b)
    color.same_size(a, b, f"{pair.a} and {pair.b}")
    if truth is not None:
        color.same_size(a, image_files.read(truth), f"{pair.a} and {truth}")
    return Files(pair.name, pair.a, pair.b, truth, *a.shape[:2])


def _smallest(files: list[Files]) -> dict[str, str | int]:
    """The pair with the shortest side, which limits the size of crops."""
    least = min(files, key=lambda f: min(f.height, f.width))
    return {"name": least.name, "height": least.height, "width": least.width}


class _Info(tfds.core.DatasetInfo):
    """Info of a local data set: TFDS does not look for a copy online, since each attempt leaves an
    empty temporary folder.
    """

    def initialize_from_bucket(self) -> None:
        pass


def _builder(dataset: str, task: str, splits: dict[str, list[Files]]) -> type:
    """The TFDS builder of these files."""
    truth = any(f.gt for files in splits.values() for f in files)
    file = tfds.features.Tensor(shape=(), dtype=np.object_, doc="An image file, byte by byte.")
    features = {
        "a": file,
        "b": file,
        # Empty in splits without a ground truth.
        **({"gt": file} if truth else {}),
        "name": tfds.features.Text(),
        "task": tfds.features.Text(),
        "height": tfds.features.Scalar(np.int32),
        "width": tfds.features.Scalar(np.int32),
    }

    class AlignedPairs(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        name = dataset
        VERSION = tfds.core.Version(VERSION)
        # TFDS would look here for checksums of downloads, with a package that it does not require.
        code_path = None

        def _info(self):
            return _Info(
                builder=self,
                description=f"Aligned image pairs for {task}, in the order of their names.",
                features=tfds.features.FeaturesDict(features),
                disable_shuffling=True,
                metadata=tfds.core.MetadataDict(
                    task=task,
                    smallest={split: _smallest(found) for split, found in splits.items()},
                ),
            )

        def _split_generators(self, dl_manager):
            del dl_manager
            return {split: self._generate_examples(split) for split in splits}

        def _generate_examples(self, split) -> Iterator:
            bar = tqdm(splits[split], f"writing {split}", disable=None)
            for files in bar:
                example = {
                    "a": files.a.read_bytes(),
                    "b": files.b.read_bytes(),
                    "name": files.name,
                    "task": task,
                    "height": files.height,
                    "width": files.width,
                }
                if truth:
                    example["gt"] = files.gt.read_bytes() if files.gt else b""
                yield files.name, example

    return AlignedPairs


def main() -> None:
    values = flags.FLAGS
    for flag in ("pairs", "task", "name"):
        if not values[flag].value:
            raise BuildError(f"give --{flag}; see --help")
    pairs, out = Path(values.pairs), Path(values.out)
    print(summary(build(pairs, values.task, values.name, out, overwrite=values.overwrite)))


if __name__ == "__main__":
    flags.DEFINE_string("pairs", "", "Folder of splits, each with a/ and b/ (and gt/).")
    flags.DEFINE_string("task", "", f"What the pairs are for: {', '.join(TASKS)}.")
    flags.DEFINE_string("name", "", "Name of the data set.")
    flags.DEFINE_string("out", "data", "Folder of data sets; this one becomes OUT/NAME.")
    flags.DEFINE_bool("overwrite", False, "Replace a data set of this name.")
    command.run(main)
