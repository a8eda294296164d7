"""A published tree of files: a folder, or an archive that is unpacked file by file."""

import contextlib
import lzma
import os
import shutil
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from data_prep.folder import BuildError
from smc_jax.pairing import SUFFIXES


class Tree(NamedTuple):
    """Image files by their paths in the tree, and the folder that they can be read from."""

    root: Path
    images: list[str]

    def file(self, path: str) -> Path:
        """The location of a file of the tree."""
        return self.root / path


@contextlib.contextmanager
def opened(source: Path, unpacked: Path) -> Iterator[Tree]:
    """Yields the tree in a folder or an archive, whose images are unpacked to `unpacked`.

    Raises:
      BuildError: `source` is neither, is damaged or cannot be unpacked.
    """
    if source.is_dir():
        root = source
    elif not source.is_file():
        raise BuildError(f"--source={source} does not exist; give a folder or an archive")
    else:
        root = unpacked
        try:
            _unpack(source, unpacked)
        except (
            zipfile.BadZipFile,
            tarfile.TarError,
            zlib.error,
            lzma.LZMAError,
            EOFError,
        ) as error:
            raise BuildError(f"{source} is damaged; download it again ({error})") from None
        except RuntimeError:
            raise BuildError(
                f"{source} has a password or a rare compression; unpack it and give the folder"
            ) from None
        except OSError as error:
            raise BuildError(f"{source} cannot be unpacked: {error.strerror or error}") from None
    paths = (path.relative_to(root).as_posix() for path in _files(root))
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
            # tarfile takes a broken or missing header for the end; a whole archive ends with zeros.
            file: Any = opened.fileobj
            file.seek(opened.offset)
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError("its end is missing")
    else:
        raise BuildError(f"{archive} is no zip or tar archive; unpack it and give the folder")
    if not target.exists():
        target.mkdir(parents=True)
    shutil.rmtree(target / "__MACOSX", ignore_errors=True)


def _files(root: Path) -> Iterator[Path]:
    """Yields the files below a folder; follows links, but not to a folder that they lie in."""
    for folder, below, names in os.walk(root, followlinks=True):
        here = Path(folder).resolve()
        below[:] = [n for n in below if not here.is_relative_to((here / n).resolve())]
        yield from (path for name in names if (path := Path(folder, name)).is_file())


def _is_image(path: str) -> bool:
    parts = PurePosixPath(path)
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts.parts)
    return parts.suffix.lower() in SUFFIXES and not hidden
