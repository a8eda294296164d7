"""The published data sets: where the sources of a pair lie in each tree, its splits and counts.

What is marked unverified is from the literature, and was not seen in the published archive.
"""

import re
from collections.abc import Callable
from typing import NamedTuple


class Published(NamedTuple):
    """One published data set.

    `a`, `b` and `gt` are regular expressions for the end of a file's path without suffix. Their
    group `name` is what the files of a pair share. A group `split`, if any, is the pair's split,
    and a group `part` is put in front of its name.
    """

    task: str
    a: str
    b: str
    tree: str
    """The expected tree in one line, for messages."""
    color: str
    """The sources in colour: `a`, `b`, `ab`; `-` if both are grey, `?` if unknown."""
    counts: dict[str, int]
    """Pairs of each split as published; `all` stands for their sum."""
    home: str
    licence: str
    cite: str
    gt: str = ""
    split: Callable[[str], str] | str = "test"
    """The split, or a function that derives it from a name, where the tree has none."""


def _harvard(kind: str, color: str, count: int) -> Published:
    return Published(
        "mdif",
        rf"{kind}-MRI/{kind}/(?P<name>[^/]+)",
        rf"{kind}-MRI/MRI/(?P<name>[^/]+)",
        f"{kind}-MRI/{{{kind},MRI}}/<case><slice, 3 digits>.png",
        color,
        {"all": count},
        "github.com/xianming-gu/Havard-Medical-Image-Fusion-Datasets",
        NONE_STATED,
        "Harvard whole brain atlas, med.harvard.edu/AANLIB",
        split=by_case,
    )


def by_case(name: str) -> str:
    """Cases whose number ends in 0 are for testing; the last three digits of a name count slices.

    This keeps the slices of a patient together; the archive's own split, in MyDatasets, does not.
    """
    return "test" if re.match(r"\d*0\d{3}$", name) else "train"


def by_frame(name: str) -> str:
    """No split is published: frames whose number ends in 0 are for testing."""
    return "test" if name.endswith("0") else "train"


NONE_STATED = "none stated"
NAME = r"(?P<name>[^/]+)"
PART = r"(?:[^/]*(?P<part>Part\d)/)?"
IN_SPLIT = r"(?P<split>train|test)"
DATASETS = {
    "msrs": Published(
        "ivif",
        rf"{IN_SPLIT}/ir/{NAME}",
        rf"{IN_SPLIT}/vi/{NAME}",
        "{train,test}/{ir,vi}/<name>.png",
        "b",
        {"train": 1083, "test": 361},
        "github.com/Linfeng-Tang/MSRS",
        NONE_STATED,
        "Tang et al., PIAFusion, Information Fusion 2022",
    ),
    "roadscene": Published(
        "ivif",
        rf"cropinfrared/{NAME}",
        rf"crop_LR_visible/{NAME}",
        "{cropinfrared,crop_LR_visible}/<name>.jpg",
        "b",
        {"all": 221},
        "github.com/hanna-xu/RoadScene",
        NONE_STATED,
        "Xu et al., FusionDN, AAAI 2020",
        split=by_frame,
    ),
    "m3fd": Published(
        "ivif",
        rf"Ir/{NAME}",
        rf"Vis/{NAME}",
        "{Ir,Vis}/<name>.png",  # unverified
        "b",
        {"test": 300},
        "github.com/JinyuanLiu-CV/TarDAL",
        "unverified",
        "Liu et al., TarDAL, CVPR 2022",
    ),
    "tno": Published(
        "ivif",
        rf"ir/{NAME}",
        rf"vi/{NAME}",
        "{ir,vi}/<name>.*",  # A common rearrangement; the published tree is unverified.
        "-",
        {},
        "figshare, TNO Image Fusion Dataset",
        "unverified",
        "Toet, The TNO multiband image data collection, Data in Brief 2017",
    ),
    "llvip": Published(
        "ivif",
        rf"infrared/{IN_SPLIT}/{NAME}",
        rf"visible/{IN_SPLIT}/{NAME}",
        "{infrared,visible}/{train,test}/<name>.jpg",
        "b",
        {"train": 12025, "test": 3463},  # The sum, 15488, is verified.
        "github.com/bupt-ai-cz/LLVIP",
        "own, not for commerce",
        "Jia et al., LLVIP, ICCV workshops 2021",
    ),
    "harvard_ct": _harvard("CT", "-", 184),
    "harvard_pet": _harvard("PET", "a", 269),
    "harvard_spect": _harvard("SPECT", "a", 357),
    "mfi_whu": Published(
        "mfif",
        rf"source_1/{NAME}",
        rf"source_2/{NAME}",
        "{source_1,source_2}/<name>.jpg, full_clear/<name>.jpg",  # unverified
        # No split is published: all of it is for training, Lytro for testing.
        "ab",
        {"train": 120},
        "github.com/HaoZhang1018/MFI-WHU",
        "MIT",
        "Zhang et al., MFF-GAN, Information Fusion 2021",
        gt=rf"full_clear/{NAME}",
        split="train",
    ),
    "lytro": Published(
        "mfif",
        r"(?P<name>lytro-\d+)-A",
        r"(?P<name>lytro-\d+)-B",
        "lytro-<number>-{A,B}.jpg",  # unverified
        "ab",
        {"test": 20},
        "Nejati's Lytro multi-focus data set",
        "unverified",
        "Nejati et al., Information Fusion 2015",
    ),
    "mffw": Published(
        "mfif",
        r"(?P<name>[^/]+)_A",
        r"(?P<name>[^/]+)_B",
        "<name>_{A,B}.*",  # unverified
        "ab",
        {"test": 19},  # Some scenes may have more than two settings.
        "arxiv.org/abs/2002.04780",
        "unverified",
        "Xu et al., MFFW, arXiv 2002.04780",
    ),
    "real_mff": Published(
        "mfif",
        rf"imageA/{NAME}_A",
        rf"imageB/{NAME}_B",
        "imageA/<name>_A.png, imageB/<name>_B.png, Fusion/<name>_F.png",  # unverified
        "ab",
        {"train": 710},
        "arxiv.org/abs/2003.12779",
        "unverified",
        "Zhang et al., Real-MFF, Pattern Recognition Letters 2020",
        gt=rf"Fusion/{NAME}_F",
        split="train",
    ),
    "mfifb": Published(
        "mfif",
        r"input/(?P<name>[^/]+)/[^/]+_A",
        r"input/(?P<name>[^/]+)/[^/]+_B",
        "input/<name>/<name>_{A,B}.*",
        "ab",
        {"test": 105},
        "github.com/xingchenzhang/MFIFB",
        NONE_STATED,
        "Zhang, Multi-focus image fusion: a benchmark, arXiv 2005.01116",
    ),
    # Sequences of exposures, from each of which __main__ takes the darkest and the brightest.
    "sice": Published(
        "meif",
        rf"{PART}(?P<name>(?!(?i:label)/)[^/]+)/\d+",
        rf"{PART}(?P<name>(?!(?i:label)/)[^/]+)/\d+",
        # Scenes are numbered from 1 in both parts; unverified.
        "Dataset_Part{1,2}/<scene>/<exposure>.JPG, Dataset_Part{1,2}/Label/<scene>.JPG",
        "ab",
        {"train": 589},
        "github.com/csjcai/SICE",
        NONE_STATED,
        "Cai, Gu and Zhang, TIP 2018",
        gt=rf"{PART}(?i:label)/{NAME}",
        split="train",
    ),
    "mefb": Published(
        "meif",
        r"input/(?P<name>[^/]+)/[^/]+_[Aa]",
        r"input/(?P<name>[^/]+)/[^/]+_[Bb]",
        # Folders also hold the files under their former names; two names of the set end in _a.
        "input/<name>/<name>_{A,B}.*",
        "ab",
        {"test": 100},
        "github.com/xingchenzhang/MEFB",
        NONE_STATED,
        "Zhang, Benchmarking multi-exposure fusion, Information Fusion 2021",
    ),
    "pairs": Published(
        "",
        rf"(?P<split>[^/]+)/a/{NAME}",
        rf"(?P<split>[^/]+)/b/{NAME}",
        "<split>/{a,b}/<name>.*, <split>/gt/<name>.*",
        "?",
        {},
        "your own",
        "yours",
        "",
        gt=rf"(?P<split>[^/]+)/gt/{NAME}",
    ),
}
