"""Exports a trained network: as a weight file, a folder of parameters, or programs.

python -m smc_jax.export WORKDIR --out=NAME.safetensors --metrics=MSRS=results/metrics.json
python -m smc_jax.export WORKDIR --format=orbax --out=FOLDER
python -m smc_jax.export WORKDIR --format=stablehlo --sizes=640x480,1024x768 --out=FOLDER
python -m smc_jax.export WORKDIR WORKDIR ... --out=NAME.safetensors    (the mean of their weights)

Instead of WORKDIR: a checkpoint, a .safetensors file, an exported folder or a packaged name.
Without --overwrite nothing is overwritten; with it, NAME.safetensors and its model card NAME.md are
replaced, but never a folder.
"""

import argparse
import dataclasses
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax

from smc_jax import border, checkpoint, command, files, model_card, stablehlo, weights
from smc_jax.config import Data, override
from smc_jax.errors import ConfigError
from smc_jax.weights import Weights, folder


class Wanted(NamedTuple):
    """What is to be written."""

    out: Path
    dtype: str
    sizes: Sequence[tuple[int, int]]
    """Height and width of the images, for StableHLO programs."""
    overwrite: bool = False
    """Whether a weight file and its card may replace existing ones."""


def _safetensors(loaded: Weights, wanted: Wanted) -> list[Path]:
    out, dtype = wanted.out, wanted.dtype
    if out.suffix != weights.SUFFIX:
        raise ConfigError(f"--out={out}: give a file NAME{weights.SUFFIX}")
    card = out.with_suffix(".md")
    for path in (out, card):
        _check_free(path, overwrite=wanted.overwrite)
    where = (
        "The whole configuration is in the file's header:\n"
        f"`smc_jax.weights.read('{out.name}').config`."
    )
    text = model_card.markdown(out.stem, loaded, dtype, where).encode()
    content = weights.encoded(loaded, dtype)
    # Neither file takes its final name before both are on the disk.
    with files.replacing(out) as file:
        file.write(content)
        file.flush()
        files.write(card, text)
    return [out, card]


def _check_free(path: Path, *, overwrite: bool) -> None:
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; give --out another name")
    if os.path.lexists(path) and not overwrite:
        raise ConfigError(
            f"{path} is there already; give --out another name, or --overwrite to replace it"
        )


def _orbax(loaded: Weights, wanted: Wanted) -> list[Path]:
    where = (
        f"The parameters are in `{folder.PARAMS}`, written by orbax, the whole configuration in\n"
        f"`{weights.CONFIG}`; `{folder.EXAMPLE}` loads them."
    )
    card = model_card.markdown(wanted.out.name, loaded, wanted.dtype, where)
    folder.write(wanted.out, loaded, card, wanted.dtype)
    return [wanted.out]


def _stablehlo(loaded: Weights, wanted: Wanted) -> list[Path]:
    where = (
        "A program for each size, width by height, and platform. They take batches of luma in\n"
        f"[0, 1], float32 `b h w 1`; `{stablehlo.EXAMPLE}` runs them without smc_jax."
    )
    card = model_card.markdown(wanted.out.name, loaded, wanted.dtype, where)
    stablehlo.write(wanted.out, loaded, card, wanted.sizes, wanted.dtype)
    return [wanted.out]


FORMATS: dict[str, Callable[[Weights, Wanted], list[Path]]] = {
    "safetensors": _safetensors,
    "orbax": _orbax,
    "stablehlo": _stablehlo,
}
"""Each writes a network to a path and returns the files that it made."""
COMPUTED = ("scan_method", "remat")
"""Fields of `config.model` that say how the network is computed, not which network it is."""


def main(arguments: Sequence[str] | None = None) -> int | None:
    """Runs the command; returns the exit status."""
    parser = command.Parser(
        prog="python -m smc_jax.export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "checkpoints",
        nargs="+",
        metavar="checkpoint",
        help="training workdir, checkpoint, .safetensors file, exported folder or packaged name; "
        "if several are given, their mean is exported",
    )
    parser.add_argument("--format", choices=FORMATS, default="safetensors")
    parser.add_argument("--out", type=Path, required=True, help="file or folder to write")
    parser.add_argument(
        "--sizes",
        default="640x480",
        metavar="WxH,...",
        help="for stablehlo: width and height of the images (default: %(default)s)",
    )
    parser.add_argument("--dtype", choices=weights.TYPES, default="float32", help="how to store it")
    parser.add_argument("--data", default="", help="for the model card: the training data")
    parser.add_argument("--command", default="", help="for the model card: the training command")
    parser.add_argument(
        "--metrics",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="for the model card: a test set's name and its metrics.json; may repeat",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace a weight file and its model card; a folder is never replaced",
    )
    given = parser.parse_args(arguments)
    return command.guarded(lambda: _export(given))


def _export(given: argparse.Namespace) -> int:
    told = {"data": given.data, "command": given.command}
    told["metrics"] = dict(map(model_card.read_metrics, given.metrics))
    loaded = mean([read(path) for path in given.checkpoints])
    about = loaded.about | {name: value for name, value in told.items() if value}
    wanted = Wanted(given.out, given.dtype, read_sizes(given.sizes), given.overwrite)
    made = FORMATS[given.format](loaded._replace(about=about), wanted)
    print("wrote " + ", ".join(map(str, made)))
    return 0


def read(path: str) -> Weights:
    """Reads a network from a training workdir or one of its checkpoints, as `checkpoint.load` does,
    from a .safetensors file, from an exported folder or from packaged weights.

    Raises:
      ConfigError: there are no weights that can be read.
    """
    if (file := weights.located(path)).suffix == weights.SUFFIX:
        return weights.read(file)
    if weights.is_folder(path):
        return folder.read(path)
    config, params, step = checkpoint.load(path)
    about = {"data": config.data.name, "steps": step, "seed": config.train.seed}
    if config.train.init_from:
        about["begun with"] = "/".join(Path(config.train.init_from).parts[-2:])
    # Paths on this machine are of no use to others.
    config = override(config, {"data.dir": Data().dir, "train.init_from": ""})
    return Weights(config, params, about)


def mean(networks: Sequence[Weights]) -> Weights:
    """Returns the network whose parameters are the means over `networks`. Everything else is that
    of the last network, except for its scores, which are not those of the mean.

    Runs that began with the same weights can be averaged: the result lies between them, and is
    often better than each (Wortsman et al. 2022, "Model soups").

    Raises:
      ConfigError: the networks are of different kinds, or for different tasks.
    """
    last = networks[-1]
    if len(networks) == 1:
        return last
    models = [dataclasses.asdict(network.config.model) for network in networks]
    differ = [
        name
        for name, value in models[-1].items()
        if name not in COMPUTED and any(model[name] != value for model in models)
    ]
    if differ:
        fields = ", ".join(f"config.model.{name}" for name in differ)
        raise ConfigError(f"the mean is of one network alone; these differ in {fields}")
    tasks = list(dict.fromkeys(network.config.task for network in networks))
    if len(tasks) > 1:
        raise ConfigError(f"the mean is of networks for one task; these are for {', '.join(tasks)}")
    trees = (network.params for network in networks)
    params = jax.tree.map(lambda *values: sum(values) / len(values), *trees)
    about = {name: value for name, value in last.about.items() if name != "metrics"}
    return last._replace(params=params, about=about | {"mean of": len(networks)})


def read_sizes(text: str) -> list[tuple[int, int]]:
    """Returns the height and width of each size in a text such as `640x480,1024x768`, where width
    comes first.

    Raises:
      ConfigError: the text is not a list of sizes, or one of them is smaller than 16x16.
    """
    sizes = [re.fullmatch(r"\s*(\d+)x(\d+)\s*", part) for part in text.split(",")]
    found = [(int(size[2]), int(size[1])) for size in sizes if size]
    if len(found) < len(sizes) or min(min(size) for size in found) < border.SMALLEST:
        least = f"{border.SMALLEST}x{border.SMALLEST}"
        raise ConfigError(
            f"--sizes={text}: give width and height, such as 640x480,1024x768; {least} is least"
        )
    return list(dict.fromkeys(found))


if __name__ == "__main__":
    sys.exit(main())
