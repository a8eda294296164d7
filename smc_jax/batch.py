"""Many pairs of image files: finds which belong together, and fuses them in parallel."""

import fnmatch
import glob
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
from tqdm import tqdm

from smc_jax import color, files, image_files, pairing, picture, workers
from smc_jax.errors import ImageError, InputError
from smc_jax.picture import Picture


class Job(NamedTuple):
    """Two image files and the file that their fused image goes to."""

    a: Path
    b: Path
    out: Path


def jobs(a: str, b: str, out: str) -> tuple[list[Job], list[str]]:
    """Returns the pairs that two arguments of the command line stand for.

    Args:
      a: a file, a folder, or a glob.
      b: the same for the other sources. Files of folders pair by name, whatever their suffix; files
        of globs pair by what the wildcards match before the suffix, as in `*_ir.*` and `*_vis.*`.
      out: for two files, a file or a folder; otherwise a folder, which gets `<name>.png`. Where the
        wildcards match nothing, the name is that of the first file.

    Returns:
      The pairs, and a line for each file that has no partner, or whose name is taken or cannot
      be used.

    Raises:
      InputError: nothing can be paired, or `out` cannot be written to.
    """
    sides, problems = [], []
    for text in (a, b):
        found, doubled = _listed(text)
        sides.append(found)
        problems += doubled
    first, second = sides
    if not isinstance(first, dict) and not isinstance(second, dict):
        return [Job(first, second, _single(out, first))], []
    if not (isinstance(first, dict) and isinstance(second, dict)):
        raise ImageError(
            f"{a} and {b} are a file and a folder or glob; give two files, folders or globs"
        )
    if Path(out).suffix.lower() in pairing.SUFFIXES and not Path(out).is_dir():
        raise ImageError(f"--out={out} is for many images; give a folder")
    files.check_folder(out, "--out")
    names = [name for name in first if name in second]
    if not names:
        raise ImageError(
            f"no name is in both {a} and {b}, as {_shown(first)} and {_shown(second)}; "
            "partners have equal names, whatever their suffix"
        )
    if all(_file(first[name]) == _file(second[name]) for name in names):
        raise ImageError(f"{a} and {b} pair images with themselves; give the two sources of each")
    for some, others, where in ((first, second, b), (second, first, a)):
        problems += [f"{some[n]} has no partner in {where}" for n in some if n not in others]
    made: dict[Path, Job] = {}
    # An empty name comes last, so that it cannot take the name of another pair.
    for name in sorted(names, key=lambda name: not name):
        stem = name.replace("/", "_") or first[name].stem
        file = Path(out) / f"{stem}.png"
        if file in made:
            both = f"{first[name]} and {made[file].a} would both become {file}"
            problems.append(f"{both}; fuse the first by itself")
        else:
            made[file] = Job(first[name], second[name], file)
    return list(made.values()), problems


def run(
    todo: Sequence[Job],
    fuse: Callable[[Picture, Picture, int], Picture],
    needed: Callable[[int, int], int],
    budget: int | None,
    overwrite: bool,
) -> tuple[list[Path], list[Path], list[str]]:
    """Fuses pairs in parallel.

    Args:
      todo: the pairs.
      fuse: fuses two pictures within a number of bytes. If it raises InputError or runs out of
        memory, the failure is reported and the other pairs go on.
      needed: returns the bytes that fusing a pair of a height and width takes.
      budget: bytes of all pairs together; see `workers.Room.take`.
      overwrite: whether to replace files that exist already.

    Returns:
      The files that were written, those that were skipped, and a line for each pair that failed.
    """
    written: list[Path] = []
    failures: list[str] = []
    skipped: list[Path] = []
    left: list[Job] = []
    sources = {_file(source) for job in todo for source in (job.a, job.b)} - {None}
    for job in todo:
        if _file(job.out) in sources:
            failures.append(f"{job.out} is a source itself; give another --out")
        elif os.path.lexists(job.out) and not overwrite:
            skipped.append(job.out)
        else:
            left.append(job)

    def one(job: Job) -> str:
        """Fuses a pair; returns what went wrong, as text, since an error would keep the images."""
        try:
            # Taken before the images are read, so that a waiting pair holds none.
            with workers.ROOM.take(needed(*_shape(job.a)), budget) as granted:
                picture.write(job.out, fuse(*_read(job), granted))
        except (InputError, OSError) as error:
            return _about(job, str(error))
        except (MemoryError, jax.errors.JaxRuntimeError) as error:
            reason = " ".join(str(error).split())
            return _about(job, f"{reason:.100}; try a smaller --max-memory")
        return ""

    if not left:
        return written, skipped, failures
    with _bar(len(left)) as bar, workers.pool(workers.count()) as pool:
        for job, problem in zip(left, pool.map(one, left), strict=True):
            if problem:
                failures.append(problem)
            else:
                written.append(job.out)
            bar.update()
    return written, skipped, failures


def _shape(path: Path) -> tuple[int, int]:
    """Height and width as stored; zeros for a bad file, which is reported when it is read."""
    try:
        return image_files.decoded(
            image_files.content(path), str(path), lambda file: (file.height, file.width)
        )
    except ImageError:
        return 0, 0


def _read(job: Job) -> tuple[Picture, Picture]:
    a, b = picture.read(job.a), picture.read(job.b)
    color.same_size(a.pixels, b.pixels, f"{job.a} and {job.b}")
    return a, b


def _listed(text: str) -> tuple[Path | dict[str, Path], list[str]]:
    """A file, or several by name, and a line for each whose name cannot be used or is taken."""
    path = Path(text)
    if not text or len(path.name.encode(errors="surrogateescape")) > 255:
        raise ImageError(f"there is no {text or 'file without a name'}; give a file or a folder")
    if path.is_dir():
        found, problems = pairing.listed(path)
        if not found:
            raise ImageError(f"{text} holds no image; {problems[0] if problems else _suffixes()}")
        return found, problems
    if os.path.lexists(path):
        return path, []
    if not glob.has_magic(text):
        raise ImageError(f"there is no {text}; give a file, a folder, or a glob in quotes")
    many: dict[str, Path] = {}
    problems = []
    # A path has no doubled slashes, some of which glob would drop from the names that it finds.
    pattern = re.compile(_regex(str(path)), re.DOTALL)
    for name in sorted(glob.glob(str(path), recursive=True)):
        match = pattern.fullmatch(name)
        if match and Path(name).suffix.lower() in pairing.SUFFIXES and Path(name).is_file():
            key = _key(match)
            if key in many:
                problems.append(f"{name} has the name of {many[key]}; keep one of them")
            else:
                many[key] = Path(name)
    if not many:
        raise ImageError(f"no image matches {text}; {_suffixes()}")
    return many, problems


def _regex(pattern: str) -> str:
    """A glob as a regular expression with a group for each wildcard."""
    parts = re.split(r"(\*\*/?|\*|\?|\[!?\]?[^\]]*\])", pattern)
    kinds = {"**/": "(.*/|)", "**": "(.*)", "*": "([^/]*)", "?": "([^/])"}
    return "".join(
        (kinds.get(part) or f"({fnmatch.translate(part)[4:-3]})") if index % 2 else re.escape(part)
        for index, part in enumerate(parts)
    )


def _key(match: re.Match[str]) -> str:
    """What the wildcards match in a file's path before its suffix, joined by slashes; it may be
    empty.
    """
    name = match.string
    end = len(name) - len(Path(name).suffix)
    spans = [match.span(group + 1) for group in range(match.re.groups)]
    parts = [name[start : min(stop, end)].strip("/") for start, stop in spans]
    return "/".join(part for part in parts if part)


def _shown(side: dict[str, Path]) -> str:
    return next(iter(side)) or "''"


def _suffixes() -> str:
    return f"images are files with {', '.join(pairing.SUFFIXES)}"


def _single(out: str, a: Path) -> Path:
    path = Path(out)
    if path.is_dir() or out.endswith("/"):
        path = path / f"{a.stem}.png"
    try:
        picture.format_of(path.suffix)
    except ImageError as error:
        raise ImageError(f"--out={out}: {error}") from None
    files.check_folder(path.parent, "--out")
    return path


def _file(path: Path) -> tuple[int, int] | None:
    """The identity of a file, the same under all of its names; None if there is no file."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def _about(job: Job, error: str) -> str:
    return error if any(str(path) in error for path in job) else f"{job.a}: {error}"


def _bar(total: int) -> tqdm:
    # Compiling for a size takes longer than fusing a pair of that size.
    what = "fusing; a new size is compiled first"
    return tqdm(total=total, unit="pair", desc=what, disable=None)
