"""Turns a folder of aligned pairs into a TFDS data set, without TensorFlow.

python -m data_prep.build --pairs=DIR --task=ivif --name=msrs --out=DIR

DIR holds `<split>/a/<name>.*` and `<split>/b/<name>.*`, and `<split>/gt/<name>.*` where there is a
ground truth. The files go into the data set byte by byte, as they were published; a reader decodes
them with Pillow, or with `smc_jax.data.examples`.
"""

import contextlib
import io
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from absl import app, flags, logging
from tqdm import tqdm

from smc_jax import color
from smc_jax.config import TASKS

_PAIRS = flags.DEFINE_string("pairs", "", "Folder of splits, each with a/ and b/ (and gt/).")
_TASK = flags.DEFINE_string("task", "", f"What the pairs are for: {', '.join(TASKS)}.")
_NAME = flags.DEFINE_string("name", "", "Name of the data set.")
_OUT = flags.DEFINE_string("out", "data", "Folder of data sets; this one becomes OUT/NAME.")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace a data set of this name.")

VERSION = "1.0.0"


class BuildError(ValueError):
    """A data set that cannot be built; the message holds a line for each reason."""


class Files(NamedTuple):
    """One example's files, and its size in pixels."""

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
      name: of the data set: a lower-case letter, then letters, digits and underscores.
      out: where data sets are kept.
      overwrite: replace a data set that is there.

    Returns:
      The data set's folder.

    Raises:
      BuildError: an argument is wrong, or files are; every bad file is named.
    """
    if task not in TASKS:
        raise BuildError(f"--task={task} is unknown; it may be {', '.join(TASKS)}")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise BuildError(f"--name={name} must be lower-case letters, digits and underscores")
    target = out / name
    if target.exists() and not overwrite:
        raise BuildError(f"{target} exists; add --overwrite to replace it")
    splits = _scan(pairs)

    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=out) as temporary:
        builder = _builder(name, task, splits)(data_dir=temporary, file_format="array_record")
        # TFDS reports on a temporary folder and on downloads that there are none of.
        logging.set_verbosity(logging.WARNING)
        tfds.disable_progress_bar()
        with contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare()
        if target.exists():
            shutil.rmtree(target)
        (Path(temporary) / name).rename(target)
    return target


def _scan(pairs: Path) -> dict[str, list[Files]]:
    """The files of every split, all of them read once.

    Raises:
      BuildError: with all that is wrong.
    """
    folders = sorted(f for f in pairs.iterdir() if f.is_dir()) if pairs.is_dir() else []
    folders = [f for f in folders if (f / "a").is_dir() or (f / "b").is_dir()]
    if not folders:
        raise BuildError(f"{pairs} holds no split: it needs folders like train/a and train/b")
    splits, problems = {}, []
    for folder in folders:
        try:
            found, unpaired = color.pairs(folder)
            truths = color.images(folder / "gt") if (folder / "gt").is_dir() else {}
        except color.ImageError as error:
            problems.append(str(error))
            continue
        problems += unpaired
        splits[folder.name] = []
        for pair in tqdm(found, f"checking {folder.name}", disable=not sys.stderr.isatty()):
            try:
                splits[folder.name].append(_check(pair, truths))
            except color.ImageError as error:
                problems.append(str(error))
        problems += [
            f"{truths[n]} has no pair" for n in sorted(truths.keys() - {p.name for p in found})
        ]
    if problems:
        raise BuildError("\n".join(problems))
    return splits


def _check(pair: color.Pair, truths: dict[str, Path]) -> Files:
    a, b = color.read(pair.a), color.read(pair.b)
    color.same_size(a, b, str(pair.a))
    truth = truths.get(pair.name)
    if truths:
        if truth is None:
            raise color.ImageError(f"{pair.a} has no ground truth of its name in gt/")
        color.same_size(a, color.read(truth), str(truth))
    return Files(pair.name, pair.a, pair.b, truth, *a.shape[:2])


def _builder(dataset: str, task: str, splits: dict[str, list[Files]]) -> type:
    """The TFDS builder of these files."""
    truth = any(f.gt for files in splits.values() for f in files)
    file = tfds.features.Tensor(shape=(), dtype=np.object_, doc="An image file, byte by byte.")
    features = {
        "a": file,
        "b": file,
        **({"gt": file} if truth else {}),
        "name": tfds.features.Text(),
        "task": tfds.features.Text(),
        "height": tfds.features.Scalar(np.int32),
        "width": tfds.features.Scalar(np.int32),
    }

    class AlignedPairs(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        name = dataset
        VERSION = tfds.core.Version(VERSION)

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self,
                description=f"Aligned image pairs for {task}.",
                features=tfds.features.FeaturesDict(features),
            )

        def _split_generators(self, dl_manager):
            del dl_manager
            return {split: self._generate_examples(split) for split in splits}

        def _generate_examples(self, split) -> Iterator:
            bar = tqdm(splits[split], f"writing {split}", disable=not sys.stderr.isatty())
            for files in bar:
                example = {
                    "a": files.a.read_bytes(),
                    "b": files.b.read_bytes(),
                    "name": files.name,
                    "task": task,
                    "height": files.height,
                    "width": files.width,
                }
                if files.gt is not None:
                    example["gt"] = files.gt.read_bytes()
                yield files.name, example

    return AlignedPairs


def main(argv: Sequence[str]) -> int:
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]}")
    try:
        for flag in (_PAIRS, _TASK, _NAME):
            if not flag.value:
                raise BuildError(f"give --{flag.name}; see --help")
        folder = build(
            Path(_PAIRS.value),
            _TASK.value,
            _NAME.value,
            Path(_OUT.value),
            overwrite=_OVERWRITE.value,
        )
    except (BuildError, OSError) as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        return 2
    counts = tfds.builder_from_directory(folder / VERSION).info.splits
    print(f"{folder}: " + ", ".join(f"{n} {s.num_examples}" for n, s in counts.items()))
    return 0


if __name__ == "__main__":
    app.run(main)
