"""The published data sets: where the sources of a pair lie in each tree, its splits and counts.

What a comment calls unverified is from the literature, and was not seen in the published archive.
"""

import re
from collections.abc import Callable
from typing import NamedTuple


class Published(NamedTuple):
    """One published data set.

    `a`, `b` and `gt` are regular expressions for the end of a file's path without suffix. Their
    group `name` is what a pair shares, and their group `split`, where there is one, its split.
    """

    task: str
    a: str
    b: str
    tree: str
    """The expected tree in a line, for messages."""
    counts: dict[str, int]
    """Pairs of each split as published."""
    home: str
    licence: str
    cite: str
    gt: str = ""
    split: Callable[[str], str] | str = "test"
    """The split of a name, where the tree tells none."""


def _harvard(kind: str, count: int) -> Published:
    return Published(
        "mdif",
        rf"{kind}-MRI/{kind}/(?P<name>[^/]+)",
        rf"{kind}-MRI/MRI/(?P<name>[^/]+)",
        f"{kind}-MRI/{{{kind},MRI}}/<case><slice, 3 digits>.png",
        # The archive has no split; the sum over splits is compared.
        {"all": count} if count else {},
        "github.com/xianming-gu/Havard-Medical-Image-Fusion-Datasets",
        NONE_STATED,
        "Harvard whole brain atlas, med.harvard.edu/AANLIB",
        split=by_case,
    )


def by_case(name: str) -> str:
    """Slices of one patient stay together: cases whose number ends in 0 or 5 are for testing.

    The last three digits of a name count the slices of a case.
    """
    found = re.match(r"(\d+)\d{3}", name)
    return "test" if found and int(found[1]) % 5 == 0 else "train"


NONE_STATED = "none stated"
NAME = r"(?P<name>[^/]+)"
IN_SPLIT = r"(?P<split>train|test)"
DATASETS = {
    "msrs": Published(
        "ivif",
        rf"{IN_SPLIT}/ir/{NAME}",
        rf"{IN_SPLIT}/vi/{NAME}",
        "{train,test}/{ir,vi}/<name>.png",
        {"train": 1083, "test": 361},
        "github.com/Linfeng-Tang/MSRS",
        NONE_STATED,
        "Tang et al., PIAFusion, Information Fusion 2022",
    ),
    "roadscene": Published(
        "ivif",
        rf"cropinfrared/{NAME}",
        rf"crop_LR_visible/{NAME}",
        "{cropinfrared,crop_LR_visible}/<name>.jpg",  # unverified
        {"test": 221},
        "github.com/hanna-xu/RoadScene",
        NONE_STATED,
        "Xu et al., U2Fusion, TPAMI 2022",
    ),
    "m3fd": Published(
        "ivif",
        rf"Ir/{NAME}",
        rf"Vis/{NAME}",
        "{Ir,Vis}/<name>.png",  # unverified
        {"test": 300},
        "github.com/JinyuanLiu-CV/TarDAL",
        "unverified",
        "Liu et al., TarDAL, CVPR 2022",
    ),
    "tno": Published(
        "ivif",
        rf"ir/{NAME}",
        rf"vi/{NAME}",
        "{ir,vi}/<name>.*",  # As many rearrange it; the published tree is unverified.
        {},
        "figshare, TNO Image Fusion Dataset",
        "unverified",
        "Toet, The TNO multiband image data collection, Data in Brief 2017",
    ),
    "llvip": Published(
        "ivif",
        rf"infrared/{IN_SPLIT}/{NAME}",
        rf"visible/{IN_SPLIT}/{NAME}",
        "{infrared,visible}/{train,test}/<name>.jpg",  # unverified
        {"train": 12025, "test": 3463},  # The sum, 15488, is verified.
        "github.com/bupt-ai-cz/LLVIP",
        "unverified",
        "Jia et al., LLVIP, ICCV workshops 2021",
    ),
    # The counts of the tree, which the authors do not state, are not known to us.
    "harvard_ct": _harvard("CT", 0),
    "harvard_pet": _harvard("PET", 0),
    "harvard_spect": _harvard("SPECT", 0),
    "mfi_whu": Published(
        "mfif",
        rf"source_1/{NAME}",
        rf"source_2/{NAME}",
        "{source_1,source_2}/<name>.jpg, full_clear/<name>.jpg",  # unverified
        # No split is published: all of it is for training, Lytro for testing.
        {"train": 120},
        "github.com/HaoZhang1018/MFI-WHU",
        "unverified",
        "Zhang et al., MFF-GAN, Information Fusion 2021",
        gt=rf"full_clear/{NAME}",
        split="train",
    ),
    "lytro": Published(
        "mfif",
        r"(?P<name>lytro-\d+)-A",
        r"(?P<name>lytro-\d+)-B",
        "lytro-<number>-{A,B}.jpg",  # unverified
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
        {"test": 105},  # As the paper says; the repository's folder has fewer.
        "github.com/xingchenzhang/MFIFB",
        NONE_STATED,
        "Zhang, Multi-focus image fusion: a benchmark, arXiv 2005.01116",
    ),
    # An image of a sequence of exposures: `sequence` of __main__ chooses the darkest and brightest.
    "sice": Published(
        "meif",
        r"(?P<name>[^/]+)/\d+",
        r"(?P<name>[^/]+)/\d+",
        "<scene>/<exposure>.jpg, Label/<scene>.jpg",  # unverified
        {"train": 589},
        "github.com/csjcai/SICE",
        NONE_STATED,
        "Cai, Gu and Zhang, TIP 2018",
        gt=rf"Label/{NAME}",
        split="train",
    ),
    "mefb": Published(
        "meif",
        r"input/(?P<name>[^/]+)/[^/]+_A",
        r"input/(?P<name>[^/]+)/[^/]+_B",
        "input/<name>/<name>_{A,B}.*",  # unverified; by the toolkit's sister MFIFB
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
        {},
        "your own",
        "yours",
        "",
        gt=rf"(?P<split>[^/]+)/gt/{NAME}",
    ),
}
