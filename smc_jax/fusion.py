"""Fuses images of any size: pads them to few compiled sizes, tiles large ones, restores colour."""

import dataclasses
import functools
import math
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PyTree
from tqdm import tqdm

from smc_jax import (
    black_level,
    border,
    coarse,
    color,
    config,
    glare,
    inputs,
    memory,
    model,
    moe,
    tasks,
    tiles,
    workers,
)
from smc_jax.coarse import Overview
from smc_jax.color import Luma, Stored
from smc_jax.errors import ImageError
from smc_jax.recolor import recolor
from smc_jax.types import Aux, Features, Pooled
from smc_jax.weights import for_task, load, version

T = TypeVar("T")


def fuse(
    a: Any,
    b: Any,
    task: str = "auto",
    weights: str | Path | None = None,
    max_memory: int | str | None = None,
) -> np.ndarray:
    """Fuses two aligned images of one scene, or two batches of them.

    Args:
      a: an image file; or an array, "h w" or "h w 3", or a batch "b h w" or "b h w c" (c 1 or 3),
        of uint8, uint16, or floats in [0, 1]. An array whose last axis has 3 entries is in colour.
        Which source it is depends on the task (README, "Your own pairs"): infrared, CT, near
        focus or the darker exposure.
      b: the other source, of the same size.
      task: `ivif`, `mdif`, `mfif`, `meif`, `general`, or `auto`, which judges each pair from its
        images unless `weights` are for one task.
      weights: what to use instead of the task's packaged weights: a packaged name, a .safetensors
        file, an exported folder or a training workdir.
      max_memory: bytes, or a size such as "2GB"; images that need more are fused in tiles. By
        default half of the free memory.

    Returns:
      The fused image, or a batch of them: float32 if a source is in floats, else uint16 if a
      source is, else uint8. An image is "h w 3" if a source is in colour (three equal channels are
      not), otherwise "h w". A batch is "b h w c" if a source is, with the larger c of the two,
      otherwise "b h w".

    Raises:
      InputError: an image cannot be used, the sizes differ, the task or the weights do not exist,
        or `max_memory` is too small.
    """
    tasks.check(task)
    (a, channels_a), (b, channels_b) = inputs.images(a, "a"), inputs.images(b, "b")
    if len(a) != len(b) or (channels_a is None) != (channels_b is None):
        raise ImageError(f"a holds {len(a)} images and b {len(b)}; give as many of both")
    if isinstance(max_memory, str):
        max_memory = memory.parse(max_memory)
    elif max_memory is not None:
        memory.check(max_memory, f"max_memory={max_memory}")
    results = []
    for one, other in zip(a, b, strict=True):
        color.same_size(one, other, "the sources")
        if weights is None:
            kind = tasks.resolve(task, one, other)[0]
            network = fuser(for_task(kind))
        else:
            kind, network = task, fuser(weights)
        results.append(network(one, other, max_memory, kind))
    if channels_a is None or channels_b is None:
        return results[0]
    channels = max(channels_a, channels_b)
    if channels == 3:
        results = [r if r.ndim == 3 else np.stack([r] * 3, -1) for r in results]
    return np.stack(results)[..., None] if channels == 1 else np.stack(results)


def fuser(weights: str | Path) -> "Fuser":
    """Returns the network with the weights of that name, file or workdir.

    The last four are cached with their compiled programs; weights that have changed are read again.

    Raises:
      ConfigError: there are no such weights, or they cannot be used.
    """
    return _fuser(str(weights), version(weights))


@functools.lru_cache(maxsize=4)
def _fuser(weights: str, version: Hashable) -> "Fuser":
    del version
    return Fuser(*load(weights))


class Fuser:
    """A network with its parameters, as a function of two images."""

    def __init__(self, cfg: config.Config, params: PyTree):
        # Black levels are those of the whole image, not of a tile: `luma` sees to them.
        inner = dataclasses.replace(cfg.model, black_level=False)
        network = model.build(inner)
        encoders = model.build(dataclasses.replace(inner, mccm=False))

        # Tiles, their cores and the gate's windows begin at multiples of this.
        self._block = math.gcd(tiles.UNIT, cfg.model.gate_window)

        def look(params: PyTree, a: Any, b: Any, seen: dict) -> tuple[Features, Features]:
            found = encoders.apply({"params": params}, a, b, **seen)
            aux: Aux = cast(Any, found)[1]
            return moe.blocks(aux.features_a, aux.features_b, self._block)

        def apply(params: PyTree, a: Any, b: Any, seen: dict, pooled: Pooled | None) -> Any:
            return network.apply({"params": params}, a, b, pooled, **seen)[0]

        self._task, self._config, self._params = cfg.task, cfg.model, params
        self._apply, self._look = _Compiled(apply), _Compiled(look)
        self._overview = Overview(cfg.model) if cfg.model.mafe and cfg.model.fr_scan else None

    def __call__(
        self, a: Stored, b: Stored, max_memory: int | None = None, task: str = "auto"
    ) -> Stored:
        """Fuses two aligned images, grey or colour, of 8 or 16 bits or in floats.

        Args:
          a: the first source. If the images show that it is the task's second source, such as the
            brighter of two exposures, the two are swapped.
          b: the second source, of the same size.
          max_memory: see `luma`.
          task: what the sources are; their order and colour depend on it. `auto` is the task that
            the network was trained for, and `general` is judged from the images.

        Raises:
          ImageError: the sources differ in size, or are smaller than 16x16.
        """
        color.same_size(a, b, "the sources")
        if task == "auto":
            task = self._task
        if task == "general":
            task = tasks.resolve("auto", a, b)[0]
        a, b = tasks.in_order(task, a, b)
        y = self.luma(color.luma(a), color.luma(b), max_memory)
        return recolor(y, a, b, task)

    def luma(self, a: Luma, b: Luma, max_memory: int | None = None) -> Luma:
        """Fuses two luma images in [0, 1].

        Args:
          a: the first source.
          b: the second source.
          max_memory: bytes; images that need more are fused in overlapping tiles. By default half
            of the free memory.
        """
        height, width = a.shape
        if min(height, width) < border.SMALLEST:
            raise ImageError(f"images of {width}x{height} pixels are too small; 16x16 is least")
        budget = memory.available() if max_memory is None else max_memory
        fits = self.needed(height, width) <= budget
        a, b = border.mirror(a), border.mirror(b)
        if self._config.black_level:
            a = _stretched(a, b)
        fused = self._run(_batch(a), _batch(b), {}) if fits else self._tiled(a, b, budget)
        return fused[:height, :width]

    def needed(self, height: int, width: int) -> int:
        """Returns an estimate of the bytes that fusing a pair of this size whole takes."""
        pixels = border.filled(height) * border.filled(width)
        return pixels * memory.per_pixel(self._config)

    def _run(self, a: Any, b: Any, seen: dict, pooled: Pooled | None = None) -> Luma:
        return np.asarray(self._apply(self._params, a, b, seen, pooled))[0, ..., 0]

    def _tiled(self, a: Luma, b: Luma, budget: int) -> Luma:
        """Fuses in tiles, as many at once as there are cores and room.

        The gate sees the features of all tiles, so that all tiles use the same experts; for this
        the encoders run a second time.
        """
        height, width = a.shape
        room = max(budget // memory.per_pixel(self._config), tiles.AREA)
        at_once = tiles.at_once(height, width, room, workers.cores())
        found = tiles.cover(height, width, tiles.shape(height, width, room // at_once))
        seen = self._seen(a, b, found, room)

        def part(tile: tiles.Tile) -> tuple[Any, Any, dict[str, Any]]:
            return _batch(a[tile.place]), _batch(b[tile.place]), seen(tile)

        def look(tile: tiles.Tile) -> tuple[Features, Features]:
            # Otherwise a thread would begin its next tile, and take memory for it, at once.
            return jax.block_until_ready(self._look(self._params, *part(tile)))

        pooled = None
        if self._config.mccm:
            with workers.side_by_side(look, found, at_once) as looks:
                looks = _bar(looks, len(found), "tile looked at")
                pooled = self._pooled(a.shape, zip(found, looks, strict=True))

        def run(tile: tiles.Tile) -> Luma:
            return self._run(*part(tile), pooled)

        fused = np.zeros(a.shape, np.float32)
        with workers.side_by_side(run, found, at_once) as results:
            results = _bar(results, len(found), "tile")
            for tile, result in zip(found, results, strict=True):
                fused[tile.place] += tile.weight * result
        return fused

    def _seen(
        self, a: Luma, b: Luma, parts: list[tiles.Tile], room: int
    ) -> Callable[[tiles.Tile], dict[str, Any]]:
        """Returns what the network is told of the whole image in a tile: the coarse result of the
        frequency branch, and what white hides. `room` is the most pixels of a tile.
        """
        step, overviews = coarse.step(a.size, memory.overview(room)), []
        behind = None
        if self._overview:
            first = self._params["source_a"]
            for params, image in (first, a), (self._params.get("source_b", first), b):
                begun = _bar(workers.each(parts), len(parts), "tile begun")
                overviews.append(self._overview(params, image, begun, step))
        if self._config.output == "blend" and self._config.glare:
            pixels = memory.glare(self._config, room)
            behind = glare.whole(a, b, workers.each(glare.parts(a.shape, pixels)))

        def seen(tile: tiles.Tile) -> dict[str, Any]:
            here = tiles.blocks(tile.place, step)
            return {
                "coarse": tuple(v[:, *here] for v in overviews) or None,
                "behind": None if behind is None else _batch(behind[tile.place]),
            }

        return seen

    def _pooled(
        self, shape: tuple[int, ...], looks: Iterable[tuple[tiles.Tile, tuple[Any, Any]]]
    ) -> Pooled:
        """Returns the pooled features that the gate would see of the whole image, from what
        `moe.blocks` gives for each tile.
        """
        side, channels = self._block, 2 * self._config.width
        grid = shape[0] // side, shape[1] // side
        total = np.zeros(channels, np.float32)
        maxima = np.zeros((*grid, channels), np.float32)
        for tile, (mean, most) in looks:
            own = 0, *tiles.blocks(tile.within, side)
            total += np.asarray(mean)[own].sum((0, 1))
            maxima[tiles.blocks(tile.core, side)] = np.asarray(most)[own]
        window = self._config.gate_window // side
        largest = moe.largest(jnp.asarray(maxima)[None], window)
        return jnp.asarray(total / math.prod(grid))[None] + largest


class _Compiled:
    """A compiled function that threads may share: the first thread to call it with a new shape
    compiles it. (With `jax.jit` alone, every thread that does so at the same time would.)
    """

    def __init__(self, function: Callable):
        self._function, self._known = jax.jit(function), set()
        self._compiling = threading.Lock()

    def __call__(self, *args: Any) -> Any:
        shapes = tuple(jnp.shape(v) for v in jax.tree.leaves(args)), jax.tree.structure(args)
        if shapes in self._known:
            return self._function(*args)
        with self._compiling:
            workers.check()
            result = self._function(*args)
            self._known.add(shapes)
        return result


def _stretched(a: Luma, b: Luma) -> Luma:
    first, second = (jnp.asarray(_batch(image)) for image in (a, b))
    found = black_level.stretched(first, black_level.stretch(first, second))
    return np.asarray(found)[0, ..., 0]


def _batch(image: Luma) -> Float[np.ndarray, "1 h w 1"]:
    return np.ascontiguousarray(image, np.float32)[None, ..., None]


def _bar(results: Iterable[T], total: int, unit: str) -> Iterator[T]:
    return iter(tqdm(results, total=total, unit=unit, leave=False, disable=None))
