"""Where a run's numbers and images go: files in its workdir, and other loggers behind the same
`write`.
"""

import contextlib
import json
import math
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from smc_jax import files, image_files, processes
from smc_jax.config import Config
from smc_jax.errors import ConfigError, InputError

HOST = "host/"
"""Prefix of numbers that describe the machine, which differ between otherwise equal runs."""

Panel = Float[np.ndarray, "h w"]
"""A grey image in [0, 1]."""


@runtime_checkable
class Writer(Protocol):
    """A place for numbers and images."""

    def write(
        self, step: int, scalars: Mapping[str, float], images: Mapping[str, Panel]
    ) -> None: ...

    def close(self) -> None: ...


class Files:
    """Appends to a workdir's `metrics.jsonl`, `host.jsonl` and `images/`.

    A run that resumes from `step` drops the lines that an earlier run wrote for later steps, and
    writes its images again.
    """

    def __init__(self, workdir: str | Path, step: int):
        self._images = Path(workdir) / "images"
        self._metrics = Lines(Path(workdir) / "metrics.jsonl", step)
        self._host = Lines(Path(workdir) / "host.jsonl", step)

    def write(self, step: int, scalars: Mapping[str, float], images: Mapping[str, Panel]) -> None:
        """Appends lines with the step and each value, and writes `images/<step>.<name>.png`."""
        host = {k.removeprefix(HOST): v for k, v in scalars.items() if k.startswith(HOST)}
        self._metrics.append(step, {k: v for k, v in scalars.items() if not k.startswith(HOST)})
        self._host.append(step, host)
        for name, image in images.items():
            grey = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
            image_files.write(self._images / f"{step:07d}.{name}.png", grey)

    def sync(self) -> None:
        """Returns when all lines of `metrics.jsonl` so far would outlast a crash of the machine."""
        self._metrics.sync()

    def close(self) -> None:
        """Closes the files."""
        self._metrics.close()
        self._host.close()


class Lines:
    """A file of JSON lines, one per step; existing lines after `step` are dropped."""

    def __init__(self, path: Path, step: int):
        self._path = path
        kept = [line for line in _lines(path) if _step(line, path) <= step]
        files.write(path, "".join(kept).encode())
        self._file = path.open("a")

    def append(self, step: int, values: Mapping[str, float]) -> None:
        if values:
            # JSON has no NaN or infinity, which a skipped step may have measured.
            finite = {k: v if math.isfinite(v) else None for k, v in values.items()}
            with _full_disk(self._path):
                self._file.write(json.dumps({"step": step, **finite}) + "\n")
                self._file.flush()

    def sync(self) -> None:
        with _full_disk(self._path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        # A write that failed has raised its error already.
        with contextlib.suppress(OSError):
            self._file.close()


class TensorBoard:
    """Event files in `<workdir>/tensorboard`."""

    def __init__(self, workdir: str | Path, step: int):
        try:
            from tensorboardX import SummaryWriter  # pyrefly: ignore[missing-import]
        except ImportError:
            raise ConfigError(
                "config.train.tensorboard needs tensorboardX: pip install '.[tensorboard]' in the "
                "clone"
            ) from None
        self._events = SummaryWriter(str(Path(workdir) / "tensorboard"), purge_step=step + 1)

    def write(self, step: int, scalars: Mapping[str, float], images: Mapping[str, Panel]) -> None:
        """Adds each number and image under its name."""
        for name, value in scalars.items():
            self._events.add_scalar(name, value, step)
        for name, image in images.items():
            self._events.add_image(name, np.clip(image, 0, 1), step, dataformats="HW")
        self._events.flush()

    def close(self) -> None:
        """Closes the file."""
        self._events.close()


class WeightsAndBiases:
    """A run of a project at Weights & Biases; a resumed workdir continues its run."""

    def __init__(self, workdir: str | Path, project: str, cfg: Config):
        try:
            import wandb  # pyrefly: ignore[missing-import]
        except ImportError:
            raise ConfigError(
                "config.train.wandb needs wandb: pip install '.[wandb]' in the clone"
            ) from None
        self._image = wandb.Image
        # Two workdirs may have the same name, so an id tells their runs apart.
        known = Path(workdir) / "wandb_id"
        if not known.exists():
            files.write(known, secrets.token_hex(8).encode())
        try:
            self._run: Any = wandb.init(
                project=project,
                dir=str(workdir),
                id=known.read_text(),
                name=Path(workdir).absolute().name,
                resume="allow",
                config=json.loads(cfg.to_json()),
            )
        except Exception as error:
            # No account, no network, a forbidden name: each raises errors of its own type.
            raise ConfigError(
                f"config.train.wandb={project}: {' '.join(str(error).split()):.200}"
            ) from None

    def write(self, step: int, scalars: Mapping[str, float], images: Mapping[str, Panel]) -> None:
        """Logs the numbers and images of a step together."""
        pictures = {name: self._image(np.clip(image, 0, 1)) for name, image in images.items()}
        self._run.log({**scalars, **pictures}, step=step)

    def close(self) -> None:
        """Ends the run."""
        self._run.finish()


class Writers:
    """Several writers as one; `Files` is the first of them."""

    def __init__(self, files: Files | None, others: Sequence[Writer] = ()):
        self._files = files
        self._all = [files, *others] if files else []

    def write(self, step: int, scalars: Mapping[str, float], images: Mapping[str, Panel]) -> None:
        """Passes numbers and images on to each writer."""
        for writer in self._all:
            writer.write(step, scalars, images)

    def sync(self) -> None:
        """Calls `Files.sync`."""
        if self._files:
            self._files.sync()

    def close(self) -> None:
        """Closes each writer."""
        for writer in self._all:
            writer.close()


def of(cfg: Config, workdir: str | Path, step: int, console: Writer) -> Writers:
    """Returns the writers that the configuration asks for, for a run that begins or resumes after
    `step`. Only the first process of a job writes anything.

    Raises:
      ConfigError: a package is not installed, or Weights & Biases cannot begin a run.
      InputError: a file of the workdir is damaged, or cannot be written.
    """
    if not processes.first():
        return Writers(None)
    others = [console]
    if cfg.train.tensorboard:
        others.append(TensorBoard(workdir, step))
    if cfg.train.wandb:
        others.append(WeightsAndBiases(workdir, cfg.train.wandb, cfg))
    return Writers(Files(workdir, step), others)


@contextlib.contextmanager
def _full_disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from None


def _lines(path: Path) -> list[str]:
    """The complete lines of a file; a last line that a killed run left unfinished is skipped."""
    text = path.read_text(errors="replace") if path.exists() else ""
    return [line for line in text.splitlines(keepends=True) if line.endswith("\n")]


def _step(line: str, path: Path) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path} is damaged at {line.strip():.40}; remove that line") from None
