"""What is scored: baselines, a checkpoint's model, and images that someone else fused."""

import functools
from collections.abc import Callable, Container, Iterable, Sequence
from pathlib import Path

import numpy as np

from smc_jax import color, image_files, pairing
from smc_jax.data_source import Example
from smc_jax.errors import ConfigError, ImageError

Method = Callable[[Example], np.ndarray]
"""Maps a pair to its fused image, as read from a file; raises InputError if there is none."""


def _average(pair: Example) -> np.ndarray:
    a, b = color.luma8(pair.a), color.luma8(pair.b)
    return ((a.astype(np.uint16) + b + 1) // 2).astype(np.uint8)


def _maximum(pair: Example) -> np.ndarray:
    return np.maximum(color.luma8(pair.a), color.luma8(pair.b))


BASELINES: dict[str, Method] = {"Average": _average, "Max": _maximum}
"""What every method is compared with, on luma; halves are rounded up."""


def of_checkpoint(checkpoint: str, folder: Path) -> tuple[str, Method]:
    """Returns the row name and the method of a training workdir, of a .safetensors file or of
    packaged weights; its fused images are written into `folder`.

    Raises:
      ConfigError: there are no weights that can be read.
    """
    # Imported here, since scoring images that others fused needs no model.
    from smc_jax.fusion import Fuser
    from smc_jax.weights import load

    config, params = load(checkpoint)
    fuser = Fuser(config, params)
    fused = set()

    def method(pair: Example) -> np.ndarray:
        path = folder / f"{pair.name}.png"
        if pair.name not in fused:
            image_files.write(path, color.bytes8(fuser(pair.a, pair.b)))
            fused.add(pair.name)
        return image_files.read(path)

    return f"SMC-Mamba ({config.setting})", method


def folders(fused: Sequence[str]) -> dict[str, Path]:
    """Returns the folders of `--fused`, each `DIR` or `NAME=DIR`, by the name of their row.

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
    """Returns a method that reads images that someone else fused, matched by name.

    Raises:
      ImageError: two of them share a name, or a name cannot be printed.
    """
    return functools.partial(_found, folder, pairing.images(folder))


def _found(folder: Path, images: dict[str, Path], pair: Example) -> np.ndarray:
    if pair.name not in images:
        raise ImageError(f"no image {pair.name}.* in {folder}")
    image = image_files.read(images[pair.name])
    color.same_size(image, pair.a, f"{images[pair.name]} and its source a")
    return image


def without_pair(folders: Iterable[Path], scored: Container[str]) -> list[str]:
    """Returns a line for each folder that holds images without a scored pair."""
    lines = []
    for folder in folders:
        lonely = sorted(name for name in pairing.images(folder) if name not in scored)
        if lonely:
            more = f" and {len(lonely) - 10} more" if len(lonely) > 10 else ""
            lines.append(f"{folder}: no pair was scored for {', '.join(lonely[:10])}{more}")
    return lines
