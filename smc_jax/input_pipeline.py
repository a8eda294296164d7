"""Batches from a prepared data set: decoded, cropped, flipped and turned ahead of the training."""

import threading
from collections.abc import Sequence
from typing import Any

import grain
import jax
import numpy as np
from jaxtyping import Float

from smc_jax import color, config, data_source, mixture
from smc_jax.data_source import Example
from smc_jax.errors import ConfigError
from smc_jax.types import Batch

FLAT = 0.01
"""A crop is drawn again if the standard deviation of both sources is less than this."""
DRAWS = 8
"""The largest number of draws of a crop; the last one is kept whatever it shows."""
SEEDS_APART = 1_000_003
"""Difference between the seeds of the data sets of a mixture."""


def batches(
    data: config.Data, task: str, seed: int, *, truth: bool = False
) -> grain.DatasetIterator:
    """Returns an endless iterator over shuffled, augmented batches, determined by the seed.

    Several data sets take turns according to their shares, each shuffled by itself. Each process
    reads its own share of each batch. The iterator's `get_state` is the same in all processes, and
    `set_state` resumes it exactly, in any number of processes.

    Args:
      data: the data sets, and how crops are taken.
      task: the task that all pairs must be for; `general` accepts any.
      seed: determines the order and the augmentation.
      truth: include the ground truth of pairs that have one.

    Raises:
      ConfigError: there is no such data set, it is for another task, an image is smaller than
        a crop, or no pair has the ground truth that is asked for.
    """
    shards = jax.process_count()
    if data.batch % shards:
        raise ConfigError(f"config.data.batch is {data.batch}; {shards} processes must divide it")
    sources = _open(data)
    if truth and not any("gt" in source.dataset_info.features for source in sources.values()):
        raise ConfigError(
            f"config.loss.truth needs pairs with a ground truth, and {data.name} has none; set it "
            "to 0, or build a data set with gt/ beside a/ and b/"
        )
    room = Room(data.cache_mb * 1_000_000)
    parts = []
    for name, source in sources.items():
        its_task = _check(source, name, data, task)
        parts.append(Decoded(source, its_task, room, truth=truth))
    dataset = _ordered(data, parts, seed)
    dataset = dataset.random_map(Augment(data.crop, data.augment, truth=truth), seed=seed)
    # Each process takes a slice of every batch, so that their number does not change the batches.
    dataset = dataset.batch(data.batch // shards, drop_remainder=True)
    dataset = dataset[jax.process_index() :: shards]
    reading = grain.ReadOptions(num_threads=data.threads, prefetch_buffer_size=2 * data.threads)
    return iter(dataset.to_iter_dataset(reading))


def names(data: config.Data, seed: int, step: int) -> list[str]:
    """The names of the pairs in the batch that `batches` gives for a step, counted from 1."""
    order: Any = _ordered(data, list(_open(data).values()), seed)
    first = (step - 1) * data.batch
    return [order[i]["name"].decode() for i in range(first, first + data.batch)]


def _open(data: config.Data) -> dict[str, Any]:
    return {
        name: data_source.open(data.dir, name, data.split) for name in mixture.shares(data.name)
    }


def _check(source: Any, name: str, data: config.Data, task: str) -> str:
    """Checks that a data set fits the config; returns its task."""
    least = data_source.smallest(source, name, data.split)
    its_task = source.dataset_info.metadata["task"]
    if task not in (its_task, "general"):
        raise ConfigError(f"{name} holds pairs for {its_task}, but config.task is {task}")
    if min(least["height"], least["width"]) < data.crop:
        raise ConfigError(
            f"config.data.crop is {data.crop}, but {least['name']} of {name} is "
            f"{least['width']}x{least['height']}; take a smaller crop or leave such images out"
        )
    return its_task


def _ordered(data: config.Data, parts: Sequence[Any], seed: int) -> grain.MapDataset:
    """The pairs of all data sets in training order, each data set reshuffled in every epoch."""
    shuffled = [
        # Otherwise data sets of equal length would be shuffled alike.
        grain.MapDataset.source(part).seed(seed + place * SEEDS_APART).shuffle().repeat()
        for place, part in enumerate(parts)
    ]
    return grain.MapDataset.mix(shuffled, list(mixture.shares(data.name).values()))


class Room:
    """A thread-safe budget of bytes for decoded images."""

    def __init__(self, size: int):
        self._left = size
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        """Takes `size` bytes if they are left; returns whether they were."""
        with self._lock:
            fits = size <= self._left
            self._left -= size * fits
        return fits


class Decoded:
    """The examples of a data set, decoded once and kept while there is room.

    Nothing is evicted: every image is read once per epoch, so it does not matter which ones stay.
    """

    def __init__(self, source: Any, task: str, room: Room, *, truth: bool = False):
        self._source = source
        self._truth = truth
        self._task: Any = np.int32(config.TASKS.index(task))
        self._room = room
        self._kept: dict[int, Example] = {}

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> tuple[Example, Any]:
        """The decoded pair and its task; raises ImageError as `data_source.pair` does."""
        found = self._kept.get(index)
        if found is None:
            found = data_source.pair(self._source, index, truth=self._truth)
            images = found.a, found.b, found.truth
            if self._room.take(sum(image.nbytes for image in images if image is not None)):
                self._kept[index] = found
        return found, self._task


class Augment(grain.transforms.RandomMap):
    """A random crop of a pair's luma; the same flips and quarter turns for all of its images."""

    def __init__(self, crop: int, augment: bool, *, truth: bool = False):
        self.crop = crop
        self.augment = augment
        self.truth = truth

    # pyrefly: ignore[bad-override]  # grain does not type the elements that it maps.
    def random_map(self, element: tuple[Example, Any], rng: np.random.Generator) -> Batch:
        """Returns crops, float32 "crop crop 1" in [0, 1], and the task."""
        example, task = element
        for _ in range(DRAWS):
            crops = _crop(example, self.crop, self.truth, rng)
            if crops[:2].std((1, 2)).max() > FLAT:
                break
        if self.augment:
            crops = np.rot90(crops, int(rng.integers(4)), axes=(1, 2))
            crops = crops[:, ::-1] if rng.integers(2) else crops
        a, b, *truth = np.ascontiguousarray(crops)[..., None]
        return Batch(a, b, task, *truth)


def _crop(
    example: Example, size: int, truth: bool, rng: np.random.Generator
) -> Float[np.ndarray, "images s s"]:
    top, left = (int(rng.integers(extent - size + 1)) for extent in example.a.shape[:2])
    window = slice(top, top + size), slice(left, left + size)
    crops = [color.luma(image[window]) for image in (example.a, example.b)]
    if truth:
        gt = example.truth
        crops.append(np.full_like(crops[0], -1) if gt is None else color.luma(gt[window]))
    return np.stack(crops)
