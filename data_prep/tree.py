"""A published tree of files: a folder, or an archive that is unpacked file by file."""

import contextlib
import shutil
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from data_prep.folder import BuildError
from smc_jax.color import SUFFIXES


class Tree(NamedTuple):
    """Image files by their paths in the tree, and the folder that they can be read from."""

    root: Path
    images: list[str]

    def file(self, path: str) -> Path:
        """Where a file of the tree lies."""
        return self.root / path


@contextlib.contextmanager
def opened(source: Path, unpacked: Path) -> Iterator[Tree]:
    """The tree in a folder or an archive, whose images are unpacked to `unpacked`.

    Raises:
      BuildError: it is neither, or damaged.
    """
    if source.is_dir():
        root = source
    elif not source.is_file():
        raise BuildError(f"--source={source} does not exist; give a folder or an archive")
    else:
        root = unpacked
        try:
            _unpack(source, unpacked)
        except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
            raise BuildError(f"{source} is damaged; download it again ({error})") from None
    paths = (p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())
    yield Tree(root, sorted(p for p in paths if _is_image(p)))


def sketch(tree: Tree) -> str:
    """The folders of a tree and how many images each holds, in one line."""
    folders = Counter(str(PurePosixPath(path).parent) for path in tree.images)
    parts = [f"{name}/ ({count} images)" for name, count in list(folders.items())[:8]]
    return ", ".join(parts + ["…"] * (len(folders) > 8)) or "no image"


def _unpack(archive: Path, target: Path) -> None:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            for member in opened.infolist():
                if _is_image(member.filename):
                    opened.extract(member, target)
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as opened:
            for member in opened:
                if member.isfile() and _is_image(member.name):
                    opened.extract(member, target, filter="data")
    else:
        raise BuildError(f"{archive} is no zip or tar archive; unpack it and give the folder")
    if not target.exists():
        target.mkdir(parents=True)
    shutil.rmtree(target / "__MACOSX", ignore_errors=True)


def _is_image(path: str) -> bool:
    parts = PurePosixPath(path)
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts.parts)
    return parts.suffix.lower() in SUFFIXES and not hidden
