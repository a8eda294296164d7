"""The model card of exported weights, and the scores that it shows."""

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smc_jax import weights
from smc_jax.errors import ConfigError
from smc_jax.weights import Weights


def read_metrics(text: str) -> tuple[str, Mapping[str, Any]]:
    """Returns the name in `NAME=FILE`, and what the model card shows of that metrics.json.

    Raises:
      ConfigError: there is no name, or the file is missing, damaged or not by evaluate.py.
    """
    name, _, path = text.partition("=")
    wrong = f"--metrics={text}: give NAME=FILE, with a metrics.json of evaluate.py"
    if not name or not path:
        raise ConfigError(wrong)
    try:
        found = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise ConfigError(f"{wrong} ({path} cannot be read: {error.strerror or error})") from None
    except (ValueError, RecursionError):
        raise ConfigError(f"{wrong} ({path} is no JSON, or cut off)") from None
    methods = found.get("methods") if isinstance(found, dict) else None
    if not methods or not isinstance(methods, dict):
        raise ConfigError(f"{wrong} ({path} has no methods)")
    for method, row in methods.items():
        if not _is_row(row):
            raise ConfigError(f"{wrong} ({path} lacks pairs or means, as numbers, of {method!r})")
    return name, {
        "pairs": max(row["pairs"] for row in methods.values()),
        "methods": {method: row["mean"] for method, row in methods.items()},
    }


def _is_row(row: Any) -> bool:
    """Whether it is what evaluate.py writes for a method: the number of pairs, means by metric."""
    if not isinstance(row, dict) or not isinstance(row.get("mean"), dict):
        return False
    numbers: list[Any] = [row.get("pairs"), *row["mean"].values()]
    return all(type(n) in (int, float) and abs(n) <= sys.float_info.max for n in numbers)


def markdown(name: str, loaded: Weights, dtype: str, where: str) -> str:
    """Describes exported weights in Markdown; every number comes from `loaded`.

    Args:
      name: the title.
      loaded: the weights that are exported.
      dtype: the type of the stored parameters.
      where: the last paragraph, on what the file or folder holds and where.
    """
    config, about = loaded.config, loaded.about
    networks = about.get("mean of")
    count = sum(value.size for value in weights.flatten(loaded.params).values())
    lines = [f"# {name}", "", f"SMC-Mamba, {count:,} parameters, stored in {dtype}.", ""]
    facts = {
        "task": config.task,
        "setting": f"`{config.setting}`, `model.output={config.model.output}`",
        "data": about.get("data", ""),
        "steps": about.get("steps", ""),
        "seed": about.get("seed", ""),
        "mean of": f"{networks} networks; the lines above tell of the last" if networks else "",
        "crop and batch": f"{config.data.crop}, {config.data.batch}",
        "begun with": _code(about.get("begun with", "")),
        "parts that learned": _code(config.train.only),
        "command": _code(about.get("command", "")),
    }
    lines += ["| | |", "|---|---|"]
    lines += [f"| {key} | {_cell(value)} |" for key, value in facts.items() if value != ""]
    for test, table in about.get("metrics", {}).items():
        lines += ["", f"## {test}", "", f"Means over {table['pairs']} pairs, by `evaluate.py`.", ""]
        names = list(next(iter(table["methods"].values())))
        lines += ["| method | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
        for method, mean in table["methods"].items():
            values = [f"{mean[n]:.4g}" if n in mean else "" for n in names]
            lines.append(f"| {method} | " + " | ".join(values) + " |")
    text = "\n".join([*lines, "", where]) + "\n"
    # A name may hold bytes, and a text escapes, that are not valid characters.
    return text.encode(errors="replace").decode()


def _code(text: str) -> str:
    """Text as code, between more backticks than it has in a row; empty for no text."""
    fence = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    space = " " if "`" in text else ""
    return f"{fence}{space}{text}{space}{fence}" if text else ""


def _cell(value: object) -> str:
    return str(value).replace("|", r"\|")
