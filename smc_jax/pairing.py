"""Finds the image files in a folder, and which of them form pairs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from smc_jax.errors import ImageError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


class Pair(NamedTuple):
    """The files of two aligned images."""

    name: str
    a: Path
    b: Path


def pairs(folder: str | Path) -> tuple[list[Pair], list[str]]:
    """Returns the pairs `a/<name>.*`, `b/<name>.*` of a folder, sorted by name.

    Returns:
      The pairs, and a line for each image without a partner or with a name that cannot be used.

    Raises:
      ImageError: the folder has no `a` or `b`, or no pair.
    """
    sides, problems = [], []
    for side in (Path(folder) / "a", Path(folder) / "b"):
        if not side.is_dir():
            raise ImageError(
                f"{side} is no folder; pairs lie in a/ and b/ under equal names{_elsewhere(folder)}"
            )
        found, doubled = listed(side)
        sides.append(found)
        problems += doubled
    a, b = sides
    for some, others, side in ((a, b, "b"), (b, a, "a")):
        lonely = sorted(some.keys() - others)
        problems += [f"{some[n]} has no partner; add {side}/{n}.* or remove this" for n in lonely]
    both = [Pair(name, a[name], b[name]) for name in sorted(a.keys() & b)]
    if not both:
        raise ImageError(f"{folder} holds no pair: no name is in both a/ and b/")
    return both, problems


def _elsewhere(folder: str | Path) -> str:
    """A hint if the pairs lie one level deeper, as in a folder of splits; otherwise empty."""
    deeper = [path.parent for path in sorted(Path(folder).glob("*/a")) if path.is_dir()]
    return f"; there are some in {', '.join(map(str, deeper[:3]))}" if deeper else ""


def truths(folder: str | Path, pairs: Sequence[Pair]) -> tuple[dict[str, Path], list[str]]:
    """Returns the ground truth `gt/<name>.*` of a folder's pairs, by name; often there is none.

    Returns:
      The files, and a line for each that has no pair or whose name cannot be used; if there is any
      ground truth, also a line for each pair without one.

    Raises:
      ImageError: `gt` is no folder.
    """
    place = Path(folder) / "gt"
    if not place.exists():
        return {}, []
    if not place.is_dir():
        raise ImageError(f"{place} is no folder; the ground truth lies in gt/ under equal names")
    found, problems = listed(place)
    return found, problems + _without_partner(pairs, found)


def _without_partner(pairs: Sequence[Pair], truths: Mapping[str, Path]) -> list[str]:
    single = sorted(truths.keys() - {pair.name for pair in pairs})
    lonely = [f"{truths[name]} has no pair; add it or remove this" for name in single]
    if not truths:
        return lonely
    lost = [f"{p.a} has no ground truth; add gt/{p.name}.*" for p in pairs if p.name not in truths]
    return lost + lonely


def images(folder: str | Path) -> dict[str, Path]:
    """Returns the image files of a folder by name without suffix; skips other and hidden files.

    Raises:
      ImageError: two images share a name, or a name cannot be printed.
    """
    found, problems = listed(Path(folder))
    if problems:
        raise ImageError(problems[0])
    return found


def listed(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """Returns image files by name without suffix, and a line for each whose name is taken or
    cannot be printed.
    """
    found: dict[str, Path] = {}
    problems = []
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith("."):
            if not path.name.isprintable():
                problems.append(f"{str(path)!a} has a name that cannot be printed; rename it")
            elif path.stem in found:
                problems.append(f"{path} has the name of {found[path.stem].name}; keep one of them")
            else:
                found[path.stem] = path
    return found, problems
