"""A prepared data set: opening a split, and reading its pairs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from smc_jax import image_files
from smc_jax.errors import ConfigError, ImageError


class Example(NamedTuple):
    """A decoded pair: images of uint8 or uint16, "h w" or "h w 3"."""

    name: str
    a: np.ndarray
    b: np.ndarray
    truth: np.ndarray | None


def open(dir: str, name: str, split: str) -> Any:
    """Opens a split of a data set that `data_prep` wrote; records are read by index.

    Raises:
      ConfigError: there is no such data set or split, or its files are damaged.
    """
    # Slow to import, and not needed for fusing files.
    import tensorflow_datasets as tfds

    folder = Path(dir) / name
    versions = sorted(folder.glob("*/dataset_info.json"))
    if not versions:
        raise ConfigError(
            f"no data set in {folder}; build it: python -m data_prep {name} --source=… "
            f"--out={dir}, or from pairs of your own: python -m data_prep pairs --source=FOLDER "
            f"--task=TASK --name={name} --out={dir}"
        )
    try:
        builder: Any = tfds.builder_from_directory(versions[-1].parent)
        there = _holds(builder.info.splits, split)
        source = builder.as_data_source(split) if there else None
        _ = source and source[0]
    except Exception as error:
        # Several libraries read these files, each with its own errors.
        raise ConfigError(
            f"{folder} is damaged; build it again with --overwrite ({type(error).__name__})"
        ) from None
    if source is None:
        raise ConfigError(
            f"{folder} has no split {split!r}, but {', '.join(builder.info.splits)}, and parts "
            "like train[90%:] that are not empty"
        )
    return source


def _holds(splits: Mapping[str, Any], split: str) -> bool:
    """Whether a split, or a part of one, exists and is not empty."""
    if split.partition("[")[0] not in splits:
        return False
    try:
        return splits[split].num_examples > 0
    except ValueError:
        return False  # no part that TFDS understands


def pair(source: Any, index: int, *, truth: bool = True) -> Example:
    """Reads and decodes a pair of an open data set, with its ground truth if `truth` asks for it.

    Raises:
      ImageError: its record or one of its files is damaged.
    """
    try:
        record = source[index]
    except RuntimeError as error:
        raise ImageError(f"record {index} of the data set is damaged ({error})") from None
    return decode(record if truth else record | {"gt": b""})


def decode(record: dict) -> Example:
    """Decodes the image files of a record.

    Raises:
      ImageError: a file is damaged.
    """
    name = record["name"].decode()
    sides = ("a", "b", "gt") if record.get("gt") else ("a", "b")
    images = {side: image_files.decode(record[side], f"{name} ({side})") for side in sides}
    return Example(name, images["a"], images["b"], images.get("gt"))


def smallest(source: Any, name: str, split: str) -> Mapping[str, Any]:
    """Returns `name`, `height` and `width` of the pair with the shortest side in a split.

    Args:
      source: a data set from `open`.
      name: its name.
      split: the split, or a part of one, for which the whole split counts.

    Raises:
      ConfigError: another version of this package built the data set.
    """
    metadata = source.dataset_info.metadata or {}
    if not {"task", "smallest"} <= metadata.keys():
        raise ConfigError(f"{name} is not of this version; build it again with --overwrite")
    return metadata["smallest"][split.partition("[")[0]]
