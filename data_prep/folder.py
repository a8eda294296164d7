"""Folders that appear whole or not at all."""

import contextlib
import shutil
from collections.abc import Container, Iterator
from pathlib import Path

from smc_jax import files
from smc_jax.errors import InputError


class BuildError(InputError):
    """Something cannot be built; the message has one line per reason."""


def check(target: Path, mark: str, *, overwrite: bool, own: Container[str] | None = None) -> None:
    """Raises BuildError unless `target` is free or may be overwritten.

    Args:
      target: the folder to be written.
      mark: a glob pattern that identifies a folder of this kind; no other is ever replaced.
      overwrite: replace such a folder.
      own: all names that the folder may hold, or None if it may hold anything.
    """
    if not target.exists():
        files.check_folder(target.parent, "--out")
        return
    if not target.is_dir() or not any(target.glob(mark)):
        raise BuildError(f"{target} exists and was not written by this command; take another name")
    if not overwrite:
        raise BuildError(f"{target} exists; add --overwrite to replace it")
    names = sorted(path.name for path in target.iterdir())
    if foreign := [name for name in names if own is not None and name not in own]:
        raise BuildError(f"{target} holds {foreign[0]}, not of this command; give another --out")


@contextlib.contextmanager
def whole(target: Path) -> Iterator[Path]:
    """Yields a path to write a folder to; it becomes `target` at the end, unless the block raises.

    The path lies in a hidden folder beside `target` that only one run at a time can use. The folder
    is removed in either case; what a killed run has left there is removed by the next run.

    Raises:
      InputError: another run builds `target`, or its folder cannot be written to.
    """
    target = target.resolve()
    place = target.with_name(f".{target.name}.part")
    old, new = place / "old", place / target.name
    with files.locked(place):
        try:
            if old.exists() and not target.exists():
                old.rename(target)  # A run was killed between the two renames below.
            for left in place.iterdir():
                if left.is_dir():
                    shutil.rmtree(left)
            yield new
            if target.exists():
                target.rename(old)
            new.rename(target)
        finally:
            shutil.rmtree(place, ignore_errors=True)
