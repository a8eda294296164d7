"""Files that appear whole or not at all, and folders that can be written to."""

import contextlib
import fcntl
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from smc_jax.errors import InputError


def write(path: str | Path, content: bytes) -> None:
    """Writes a file, and makes its folders; an existing file stays until the new one is whole.

    Raises:
      InputError: the folder cannot be written to.
    """
    with replacing(path) as file:
        file.write(content)


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[BinaryIO]:
    """Yields a file to write in parts, which takes its place at the end if there was no error."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(suffix=".tmp", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from None


def check_folder(path: str | Path, flag: str) -> None:
    """Checks before the work begins that its results can be written.

    Args:
      path: a folder that exists or will be made.
      flag: the flag that names it on the command line.

    Raises:
      InputError: it is a file, lies in a file, has an impossible name, or may not be written to.
    """
    where = Path(path).absolute()
    try:
        there = next(p for p in (where, *where.parents) if p.exists())
    except OSError as error:
        raise InputError(f"{flag}={path}: {error.strerror}; give another folder") from None
    if not there.is_dir():
        raise InputError(f"{flag}={path}: {there} is a file; give a folder")
    try:
        # Not os.access: it grants the superuser everything, even in /proc.
        tempfile.TemporaryFile(dir=there).close()
    except OSError as error:
        raise InputError(
            f"{flag}={path}: {there} may not be written to ({error.strerror}); give another folder"
        ) from None


@contextlib.contextmanager
def making(path: str | Path) -> Iterator[Path]:
    """Yields a folder to fill, which appears under its name at the end if there was no error.

    Raises:
      InputError: the name is taken, or the folder cannot be written to.
    """
    path = Path(path).absolute()
    if path.exists():
        raise InputError(f"{path} is there already; give another name, or remove it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as temporary:
            folder = Path(temporary) / path.name
            folder.mkdir()
            yield folder
            os.rename(folder, path)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from None


@contextlib.contextmanager
def locked(folder: str | Path) -> Iterator[None]:
    """Keeps other runs out of a folder, which is made if it does not exist.

    The system drops the lock when the process ends, however it ends.

    Raises:
      InputError: another run holds the lock, or the folder cannot be written to.
    """
    path = Path(folder) / "lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise InputError(
                f"{folder} is in use by {file.read().strip() or 'another run'}; wait for its end "
                "or give another folder"
            ) from None
        try:
            file.truncate(0)
            os.write(file.fileno(), f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        except OSError as error:
            raise InputError(f"{path} cannot be written: {error.strerror or error}") from None
        yield
