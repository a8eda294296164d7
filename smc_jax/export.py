"""Turns a checkpoint into what others can use.

python -m smc_jax.export WORKDIR --out=NAME.safetensors --metrics=MSRS=results/metrics.json
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from smc_jax import checkpoint, command, files, weights
from smc_jax.config import Data, override
from smc_jax.errors import ConfigError
from smc_jax.weights import Weights


def _safetensors(loaded: Weights, out: Path, dtype: str) -> list[Path]:
    if out.suffix != weights.SUFFIX:
        raise ConfigError(f"--out={out}: give a file NAME{weights.SUFFIX}")
    card = out.with_suffix(".md")
    weights.write(out, loaded, dtype)
    files.write(card, model_card(out.stem, weights.read(out), dtype).encode())
    return [out, card]


FORMATS: dict[str, Callable[[Weights, Path, str], list[Path]]] = {"safetensors": _safetensors}
"""Each writes a network to a path and returns the files that it made."""


def main(arguments: Sequence[str] | None = None) -> int | None:
    """The command; returns the exit status."""
    parser = command.Parser(prog="python -m smc_jax.export", description=__doc__)
    parser.add_argument("checkpoint", help="training workdir, or a .safetensors file")
    parser.add_argument("--format", choices=FORMATS, default="safetensors")
    parser.add_argument("--out", type=Path, required=True, help="what to write")
    parser.add_argument("--dtype", choices=weights.TYPES, default="float32", help="how to store it")
    parser.add_argument("--data", default="", help="for the model card: what it was trained on")
    parser.add_argument("--command", default="", help="for the model card: how it was trained")
    parser.add_argument(
        "--metrics",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="for the model card: a test set's name and what evaluate.py wrote; may repeat",
    )
    given = parser.parse_args(arguments)
    return command.guarded(lambda: _export(given))


def _export(given: argparse.Namespace) -> int:
    told = {"data": given.data, "command": given.command}
    told["metrics"] = dict(map(read_metrics, given.metrics))
    loaded = read(given.checkpoint)
    about = loaded.about | {name: value for name, value in told.items() if value}
    made = FORMATS[given.format](loaded._replace(about=about), given.out, given.dtype)
    print("wrote " + ", ".join(map(str, made)))
    return 0


def read(path: str) -> Weights:
    """The network of a training workdir's newest checkpoint or of a .safetensors file.

    Raises:
      ConfigError: there is none that can be read.
    """
    if Path(path).suffix == weights.SUFFIX:
        return weights.read(path)
    config, params, step = checkpoint.load(path)
    # Where the data lay on this machine helps nobody.
    config = override(config, {"data.dir": Data().dir, "train.init_from": ""})
    about = {"data": config.data.name, "steps": step, "seed": config.train.seed}
    return Weights(config, params, about)


def read_metrics(text: str) -> tuple[str, Mapping[str, Any]]:
    """Of `NAME=FILE`, the name and what the model card shows of evaluate.py's metrics.json.

    Raises:
      ConfigError: it is none.
    """
    name, _, path = text.partition("=")
    try:
        methods = json.loads(Path(path).read_bytes())["methods"]
        rows = {method: (row["pairs"], row["mean"]) for method, row in methods.items()}
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError(
            f"--metrics={text}: give NAME=FILE, with a metrics.json of evaluate.py"
        ) from None
    return name, {
        "pairs": max(pairs for pairs, _ in rows.values()),
        "methods": {method: mean for method, (_, mean) in rows.items()},
    }


def model_card(name: str, loaded: Weights, dtype: str) -> str:
    """What a weight file is, in Markdown; every number comes from its header."""
    config, about = loaded.config, loaded.about
    count = sum(value.size for value in weights.flatten(loaded.params).values())
    lines = [f"# {name}", "", f"SMC-Mamba, {count:,} parameters, stored in {dtype}.", ""]
    facts = {
        "task": config.task,
        "setting": f"`{config.setting}`, `model.output={config.model.output}`",
        "data": about.get("data", ""),
        "steps": about.get("steps", ""),
        "seed": about.get("seed", ""),
        "crop and batch": f"{config.data.crop}, {config.data.batch}",
        "command": f"`{about['command']}`" if about.get("command") else "",
    }
    lines += ["| | |", "|---|---|"]
    lines += [f"| {key} | {value} |" for key, value in facts.items() if value != ""]
    for test, table in about.get("metrics", {}).items():
        lines += ["", f"## {test}", "", f"Means over {table['pairs']} pairs, by `evaluate.py`.", ""]
        names = list(next(iter(table["methods"].values())))
        lines += ["| method | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
        for method, mean in table["methods"].items():
            values = [f"{mean[n]:.4g}" if n in mean else "" for n in names]
            lines.append(f"| {method} | " + " | ".join(values) + " |")
    lines += ["", "The whole configuration is in the file's header:"]
    lines += [f"`smc_jax.weights.read('{name}.safetensors').config`."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
