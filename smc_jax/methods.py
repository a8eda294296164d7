"""What is scored: baselines, a checkpoint's model, and images that someone else fused."""

import functools
from collections.abc import Callable, Container, Iterable, Sequence
from pathlib import Path

import numpy as np

from smc_jax import color, pairing
from smc_jax.data import Example
from smc_jax.errors import ConfigError, ImageError

Method = Callable[[Example], np.ndarray]
"""The fused image of a pair, as read from its file. Raises InputError if there is none."""


def _average(pair: Example) -> np.ndarray:
    a, b = color.luma8(pair.a), color.luma8(pair.b)
    return ((a.astype(np.uint16) + b + 1) // 2).astype(np.uint8)


def _maximum(pair: Example) -> np.ndarray:
    return np.maximum(color.luma8(pair.a), color.luma8(pair.b))


BASELINES: dict[str, Method] = {"Average": _average, "Max": _maximum}
"""What every method is compared with, on luma; halves are rounded up."""


def of_checkpoint(checkpoint: str, folder: Path) -> tuple[str, Method]:
    """The name of its row, and the model of a training workdir, of a .safetensors file or of
    packaged weights; its images go into `folder`.

    Raises:
      ConfigError: there are no weights that can be read.
    """
    # Scoring what others fused needs no model.
    from smc_jax.fusion import Fuser
    from smc_jax.weights import load

    config, params = load(checkpoint)
    fuser = Fuser(config, params)
    fused = set()

    def method(pair: Example) -> np.ndarray:
        path = folder / f"{pair.name}.png"
        if pair.name not in fused:
            color.write(path, color.bytes8(fuser(pair.a, pair.b)))
            fused.add(pair.name)
        return color.read(path)

    return f"SMC-Mamba ({config.setting})", method


def folders(fused: Sequence[str]) -> dict[str, Path]:
    """The folders of `--fused`, each `DIR` or `NAME=DIR`, by the name of their row.

    Raises:
      InputError: a name is taken or missing, or there is no such folder.
    """
    found: dict[str, Path] = {}
    for text in fused:
        name, equals, folder = text.partition("=")
        if not equals or Path(text).is_dir():
            name, folder = Path(text).resolve().name, text
        if not name or not folder:
            raise ConfigError(f"--fused={text}: give --fused=DIR or --fused=NAME=DIR")
        if name in (*BASELINES, *found):
            raise ConfigError(f"--fused: there is a row {name} already; use --fused=NAME=DIR")
        if not Path(folder).is_dir():
            raise ImageError(f"{folder} is no folder; --fused takes a folder of fused images")
        found[name] = Path(folder)
    return found


def of_folder(folder: Path) -> Method:
    """Images that someone else fused, matched by name.

    Raises:
      ImageError: two of them share a name.
    """
    return functools.partial(_found, folder, pairing.images(folder))


def _found(folder: Path, images: dict[str, Path], pair: Example) -> np.ndarray:
    if pair.name not in images:
        raise ImageError(f"no image {pair.name}.* in {folder}")
    image = color.read(images[pair.name])
    color.same_size(image, pair.a, f"{images[pair.name]} and its source a")
    return image


def without_pair(folders: Iterable[Path], scored: Container[str]) -> list[str]:
    """A line for each folder that holds images of no pair that was scored."""
    lines = []
    for folder in folders:
        lonely = sorted(name for name in pairing.images(folder) if name not in scored)
        if lonely:
            more = f" and {len(lonely) - 10} more" if len(lonely) > 10 else ""
            lines.append(f"{folder}: no pair was scored for {', '.join(lonely[:10])}{more}")
    return lines
