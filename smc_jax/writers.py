"""What a run leaves to look at: `metrics.jsonl` and image panels."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float

from smc_jax import color, files
from smc_jax.errors import InputError


class Writer:
    """Appends to a workdir's `metrics.jsonl` and `images/`.

    A run that resumes from `step` drops the metrics that a run before it wrote of later steps, and
    writes its images again.
    """

    def __init__(self, workdir: str | Path, step: int):
        self._images = Path(workdir) / "images"
        path = Path(workdir) / "metrics.jsonl"
        kept = [line for line in _lines(path) if _step(line, path) <= step]
        files.write(path, "".join(kept).encode())
        self._file = path.open("a")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """One line: the step, and each value by name."""
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()

    def panel(self, step: int, *images: Float[np.ndarray, "h w 1"]) -> None:
        """Images in [0, 1], side by side, as `images/<step>.png`."""
        row = np.concatenate([np.clip(i[..., 0], 0, 1) for i in images], axis=1)
        color.write(self._images / f"{step:07d}.png", np.rint(row * 255).astype(np.uint8))

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def _lines(path: Path) -> list[str]:
    """Whole lines: what a killed run left of the last one is passed over."""
    text = path.read_text(errors="replace") if path.exists() else ""
    return [line for line in text.splitlines(keepends=True) if line.endswith("\n")]


def _step(line: str, path: Path) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path} is damaged at {line.strip():.40}; remove that line") from None
