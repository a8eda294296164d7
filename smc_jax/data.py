"""From a prepared data set to batches: decode, crop, flip, turn, batch, ahead of the training."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import grain
import jax
import numpy as np
from jaxtyping import Float

from smc_jax import color, config
from smc_jax.errors import ConfigError, ImageError
from smc_jax.types import Batch

FLAT = 0.01
"""A crop whose both sources deviate less than this (standard deviation) is drawn again."""
DRAWS = 8
"""How often, at most: a wholly black image ends in the last draw."""


class Example(NamedTuple):
    """A pair as its files hold it: uint8 or uint16, "h w" or "h w 3"."""

    name: str
    a: np.ndarray
    b: np.ndarray
    truth: np.ndarray | None


def open_source(dir: str, name: str, split: str) -> Any:
    """The records of a data set that `data_prep.build` wrote, by index.

    Raises:
      ConfigError: there is no such data set or split, or its files are damaged.
    """
    # Slow to import, and not needed by who fuses files.
    import tensorflow_datasets as tfds

    folder = Path(dir) / name
    versions = sorted(folder.glob("*/dataset_info.json"))
    if not versions:
        raise ConfigError(
            f"no data set in {folder}; build it: python -m data_prep.build "
            f"--pairs=FOLDER --task=TASK --name={name} --out={dir}"
        )
    try:
        builder: Any = tfds.builder_from_directory(versions[-1].parent)
        splits = builder.info.splits
        source = builder.as_data_source(split) if split.partition("[")[0] in splits else None
        _ = source and source[0]
    except Exception as error:
        # Each of the files is read by another library, with errors of its own.
        raise ConfigError(
            f"{folder} is damaged; build it again with --overwrite ({type(error).__name__})"
        ) from None
    if source is None:
        raise ConfigError(f"{folder} has no split {split!r}, but {', '.join(splits)}")
    return source


def pair(source: Any, index: int) -> Example:
    """A pair of an open data set, decoded.

    Raises:
      ImageError: its record or one of its files is damaged.
    """
    try:
        record = source[index]
    except RuntimeError as error:
        raise ImageError(f"record {index} of the data set is damaged ({error})") from None
    return decode(record)


def decode(record: dict) -> Example:
    """Decodes the image files of a record.

    Raises:
      ImageError: a file is damaged.
    """
    name = record["name"].decode()
    sides = ("a", "b", "gt") if record.get("gt") else ("a", "b")
    images = {side: color.decode(record[side], f"{name} ({side})") for side in sides}
    return Example(name, images["a"], images["b"], images.get("gt"))


def batches(data: config.Data, task: str, seed: int) -> grain.DatasetIterator:
    """An endless iterator over shuffled, augmented batches; the same seed gives the same batches.

    Each process reads its own share of each batch. The iterator's `get_state` is the same in all of
    them, and `set_state` resumes it exactly, in any number of processes.

    Args:
      data: which data sets, and how their crops are made.
      task: what their pairs must be for, or `general`.
      seed: of the order and of the augmentation.

    Raises:
      ConfigError: there is no such data set, it is for another task, or an image is smaller than
        a crop.
    """
    shards = jax.process_count()
    if data.batch % shards:
        raise ConfigError(f"config.data.batch is {data.batch}; {shards} processes must divide it")
    sources = _open(data)
    for name, source in sources.items():
        _check(source.dataset_info.metadata, name, data, task)
    dataset = _ordered(data, sources, seed)
    dataset = dataset.random_map(Augment(data.crop, data.augment), seed=seed)
    # Shares are cut from each batch, so that the batches are the same for any number of processes.
    dataset = dataset.batch(data.batch // shards, drop_remainder=True)
    dataset = dataset[jax.process_index() :: shards]
    reading = grain.ReadOptions(num_threads=data.threads, prefetch_buffer_size=2 * data.threads)
    return iter(dataset.to_iter_dataset(reading))


def shares(names: str) -> dict[str, float]:
    """The data sets of `config.data.name`, e.g. `msrs:2,roadscene`, and their shares of the pairs.

    Raises:
      ConfigError: a share is no number above 0, or a name is missing or there twice.
    """
    found: dict[str, float] = {}
    for part in names.split(","):
        name, _, share = part.partition(":")
        try:
            value = float(share or 1)
        except ValueError:
            value = 0.0
        if not name or name in found or not 0 < value < math.inf:
            raise ConfigError(
                f"config.data.name is {names!r}; give a data set, or several with their shares "
                "as in msrs:2,roadscene:1"
            )
        found[name] = value
    return found


def names(data: config.Data, seed: int, step: int) -> list[str]:
    """The names of the pairs in the batch that `batches` gives to a step, counted from 1."""
    order: Any = _ordered(data, _open(data), seed)
    first = (step - 1) * data.batch
    return [order[i]["name"].decode() for i in range(first, first + data.batch)]


def _open(data: config.Data) -> dict[str, Any]:
    return {name: open_source(data.dir, name, data.split) for name in shares(data.name)}


def _ordered(data: config.Data, sources: Mapping[str, Any], seed: int) -> grain.MapDataset:
    """The records of all data sets in the order of training, each shuffled anew in every epoch."""
    parts = [
        grain.MapDataset.source(source).seed(seed + index).shuffle().repeat()
        for index, source in enumerate(sources.values())
    ]
    return grain.MapDataset.mix(parts, list(shares(data.name).values()))


class Augment(grain.transforms.RandomMap):
    """A random crop of a record's luma; the same flips and quarter turns for both sources."""

    def __init__(self, crop: int, augment: bool):
        self.crop = crop
        self.augment = augment

    # pyrefly: ignore[bad-override]  # grain leaves out the types of what it maps.
    def random_map(self, element: dict, rng: np.random.Generator) -> Batch:
        """Returns two crops, float32 "crop crop 1" in [0, 1], and the task."""
        example = decode(element)
        pair = np.stack([color.luma(example.a), color.luma(example.b)])
        for _ in range(DRAWS):
            crops = _crop(pair, self.crop, rng)
            if crops.std((1, 2)).max() > FLAT:
                break
        if self.augment:
            crops = np.rot90(crops, int(rng.integers(4)), axes=(1, 2))
            crops = crops[:, ::-1] if rng.integers(2) else crops
        a, b = np.ascontiguousarray(crops)[..., None]
        task: Any = np.int32(config.TASKS.index(element["task"].decode()))
        return Batch(a, b, task)


def _crop(pair: Float[np.ndarray, "2 h w"], size: int, rng: np.random.Generator):
    top, left = (rng.integers(extent - size + 1) for extent in pair.shape[1:])
    return pair[:, top : top + size, left : left + size]


def _check(metadata: Mapping[str, Any], name: str, data: config.Data, task: str) -> None:
    if not {"task", "smallest"} <= (metadata or {}).keys():
        raise ConfigError(f"{name} is not of this version; build it again with --overwrite")
    if task not in ("general", metadata["task"]):
        raise ConfigError(f"{name} holds pairs for {metadata['task']}, but config.task is {task}")
    least = metadata["smallest"][data.split.partition("[")[0]]
    if min(least["height"], least["width"]) < data.crop:
        raise ConfigError(
            f"config.data.crop is {data.crop}, but {least['name']} of {name} is "
            f"{least['width']}x{least['height']}; take a smaller crop or leave such images out"
        )
