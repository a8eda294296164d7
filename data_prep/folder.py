"""Folders that appear whole or not at all."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from smc_jax import files
from smc_jax.errors import InputError


class BuildError(InputError):
    """What cannot be built; the message holds a line for each reason."""


def check(target: Path, mark: str, *, overwrite: bool) -> None:
    """Raises BuildError unless `target` is free, or may be overwritten.

    Args:
      target: the folder that is to be written.
      mark: a glob pattern that tells a folder of its kind; no other folder is ever replaced.
      overwrite: replace such a folder.
    """
    if not target.exists():
        files.check_folder(target.parent, "--out")
        return
    if not target.is_dir() or not any(target.glob(mark)):
        raise BuildError(f"{target} exists and was not written by this command; take another name")
    if not overwrite:
        raise BuildError(f"{target} exists; add --overwrite to replace it")


@contextlib.contextmanager
def whole(target: Path) -> Iterator[Path]:
    """A path to write a folder to; it becomes `target` when the block ends, unless it raises.

    It lies in a hidden folder beside `target`, which goes away in either case.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as temporary:
        new = Path(temporary) / target.name
        yield new
        if target.exists():
            target.rename(Path(temporary) / "old")
        new.rename(target)
