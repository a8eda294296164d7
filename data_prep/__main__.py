"""Prepares a published data set, or a folder of pairs.

python -m data_prep list
python -m data_prep NAME --source=DIR_OR_ARCHIVE --out=DIR
python -m data_prep pairs --source=DIR --task=ivif --name=NAME --out=DIR

The files of the published tree are laid out as `data_prep.build` expects, checked, and built.
"""

import json
import re
import signal
import sys
from collections import defaultdict
from pathlib import Path

from absl import flags

from data_prep import build, checks, folder, tree
from data_prep.datasets import DATASETS, Published
from data_prep.folder import BuildError
from smc_jax import color, command, files, image_files
from smc_jax.errors import ImageError


def prepare(
    dataset: str,
    source: Path,
    out: Path,
    *,
    task: str = "",
    name: str = "",
    strict: bool = False,
    overwrite: bool = False,
) -> Path:
    """Builds `out/name` from the published tree `source`; it appears whole or not at all.

    Args:
      dataset: a name of `DATASETS`.
      source: a folder, or a zip or tar archive, that holds the tree.
      out: where data sets are kept.
      task: the task of `pairs`; other data sets have their own.
      name: the name of the data set; by default `dataset`.
      strict: treat any finding of the checks as an error.
      overwrite: replace an existing data set.

    Raises:
      BuildError: an argument or a file is wrong; the message names the bad files.
    """
    published, name = DATASETS[dataset], name or dataset
    task = task or published.task
    build.check(task, name)
    target = out / name
    if source.is_dir() and target.resolve().is_relative_to(source.resolve()):
        raise BuildError(f"--out={out} lies in --source={source}; keep data sets in a folder apart")
    folder.check(target, build.MARK, overwrite=overwrite)
    with folder.whole(target) as new, tree.opened(source, new.parent / "unpacked") as found:
        pairs = new.parent / "pairs"
        origin = {str(found.root): str(source)}
        try:
            origin |= _lay_out(dataset, published, source, found, pairs)
            splits = build.scan(pairs)
            report = {"licence": published.licence, "home": published.home, "cite": published.cite}
            report |= checks.report(pairs, published.counts)
        except (BuildError, ImageError) as error:
            raise BuildError(_as_published(str(error), origin)) from None
        report["findings"] = _as_published("\n".join(report["findings"]), origin).splitlines()
        if strict and report["findings"]:
            raise BuildError("\n".join(report["findings"]))
        build.write(splits, task, new)
        files.write(new / "report.json", json.dumps(report, indent=2).encode())
    print(checks.table(report))
    return target


def _lay_out(dataset, published: Published, source, found: tree.Tree, pairs: Path):
    """Links the tree's files to `pairs/<split>/{a,b,gt}/<name>.*`; returns each link's origin."""
    sides: dict[str, dict[tuple[str, str], list[str]]] = {}
    for side in ("a", "b", "gt"):
        pattern = getattr(published, side)
        sides[side] = defaultdict(list)
        for path in found.images if pattern else ():
            match = re.search(rf"(?:^|/){pattern}$", path.rpartition(".")[0])
            if match:
                groups = match.groupdict()
                name = "_".join(filter(None, (groups.get("part"), groups["name"])))
                rule = published.split
                split = groups.get("split") or (rule if isinstance(rule, str) else rule(name))
                sides[side][split, name].append(path)
    if dataset == "sice":
        sides["a"], sides["b"] = _exposures(found, sides["a"])
    if not sides["a"] or not sides["b"]:
        raise BuildError(
            f"{source} is not the tree of {dataset}\nexpected: {published.tree}\n"
            f"found: {tree.sketch(found)}"
        )
    origin = {}
    for side, by_pair in sides.items():
        for (split, name), paths in by_pair.items():
            shown = [f"{source}/{path}" for path in paths]
            if len(paths) > 1:
                raise BuildError(f"{shown[0]} and {shown[1]} have one name; keep one of them")
            if not name.isprintable():
                raise BuildError(f"{shown[0]!a} has a name that cannot be printed; rename it")
            link = pairs / split / side / f"{name}{Path(paths[0]).suffix}"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(found.file(paths[0]).resolve())
            origin[str(link)] = shown[0]
    return origin


def _exposures(found: tree.Tree, sequences):
    """Returns the darkest and the brightest image of each sequence, by mean luma.

    Raises:
      BuildError: a sequence has only one image.
    """
    dark, bright = {}, {}
    for key, paths in sequences.items():
        if len(paths) < 2:
            raise BuildError(
                f"{found.file(paths[0])} is the only exposure of its scene; add others"
            )
        means = {
            p: float(color.luma(image_files.read(found.file(p))).mean()) for p in sorted(paths)
        }
        dark[key], bright[key] = (
            [min(means, key=means.__getitem__)],
            [max(means, key=means.__getitem__)],
        )
    return dark, bright


def _as_published(text: str, origin: dict[str, str]) -> str:
    """Replaces the links named in a text by the files that they stand for."""
    for link in sorted(origin, key=len, reverse=True):
        text = text.replace(link, origin[link])
    return text


def _list() -> None:
    rows = [("name", "task", "colour", "pairs", "licence", "home")]
    for name, p in DATASETS.items():
        counts = ", ".join(f"{s} {n}" for s, n in p.counts.items()) or "-"
        rows.append((name, p.task or "any", p.color, counts, p.licence, p.home))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(map(str.ljust, row, widths)).rstrip())


def _stop(*_) -> None:
    sys.exit(command.fail("stopped by SIGTERM; nothing was written"))


def main() -> None:
    signal.signal(signal.SIGTERM, _stop)
    values = flags.FLAGS
    if DATASET == "list":
        return _list()
    if DATASET not in DATASETS:
        raise BuildError(
            f"give a data set, pairs (for your own) or list: python -m data_prep NAME …; "
            f"it may be {', '.join(DATASETS)}"
        )
    if not values.source:
        raise BuildError("give --source, a folder or an archive; see python -m data_prep list")
    if DATASET == "pairs" and not (values.task and values.name):
        raise BuildError("give --task and --name for pairs; see --help")
    if values.task and DATASET != "pairs":
        raise BuildError(f"--task is for pairs; {DATASET} is for {DATASETS[DATASET].task}")
    target = prepare(
        DATASET,
        Path(values.source),
        Path(values.out),
        task=values.task,
        name=values.name,
        strict=values.strict,
        overwrite=values.overwrite,
    )
    print(build.summary(target))
    return None


if __name__ == "__main__":
    DATASET = sys.argv.pop(1) if len(sys.argv) > 1 and not sys.argv[1].startswith("-") else ""
    flags.DEFINE_string("source", "", "Folder, or zip or tar archive, of the published data set.")
    flags.DEFINE_string("task", "", "For `pairs`: their task, ivif, mdif, mfif or meif.")
    flags.DEFINE_string("name", "", "Name of the data set, by default that of the published one.")
    flags.DEFINE_string("out", "data", "Folder of data sets; this one becomes OUT/NAME.")
    flags.DEFINE_bool("strict", False, "Fail on any finding of the checks.")
    flags.DEFINE_bool("overwrite", False, "Replace a data set of this name.")
    command.run(main)
