"""The task of a pair: judged from its images if the user does not name it.

The limits were set on 819 training pairs of eight data sets; `python -m benchmarks.tasks` reports
how often they are right for the pairs of any folders.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from PIL import Image as PILImage

from smc_jax import color
from smc_jax.color import Stored
from smc_jax.config import TASKS
from smc_jax.errors import ConfigError

CHOICES = ("auto", *TASKS, "general")
SIDE = 96
"""Statistics are computed on images reduced to at most this many pixels per side."""
BLACK = 6 / 255
"""Luma below which a pixel is black: most of a night is brighter, noise around a head is not."""


class Statistics(NamedTuple):
    """What tells the tasks apart."""

    colored: int
    """How many of the two are in colour."""
    border: float
    """Share of the outermost pixels that are black, averaged over both."""
    background: float
    """Share of the pixels that are black in both."""
    brighter: float
    """Absolute difference of the mean luma, in [0, 1]."""
    correlation: float
    """Correlation of the luma, in [-1, 1]."""
    edges: float
    """Cosine of the angle between the gradients, weighted by their strength, in [-1, 1]."""


def resolve(task: str, a: Stored, b: Stored) -> tuple[str, str]:
    """Returns the task that is meant, and the reason in half a line (empty if it was named).

    Raises:
      ConfigError: there is no such task.
    """
    check(task)
    return judge(measure(a, b)) if task == "auto" else (task, "")


def check(task: str) -> None:
    """Raises ConfigError if there is no such task."""
    if task not in CHOICES:
        raise ConfigError(f"there is no task {task}; it may be {', '.join(CHOICES)}")


def in_order(task: str, a: Stored, b: Stored) -> tuple[Stored, Stored]:
    """Returns both images in the order that networks for the task expect, as far as it shows.

    The darker exposure comes first. If only one image is in colour, it comes second for infrared
    and visible light, and first for medical images, since MRI is grey. Otherwise the order stays.
    """
    if task == "meif":
        turn = color.luma(a).mean() > color.luma(b).mean()
    else:
        colored = color.is_color(a), color.is_color(b)
        turn = colored == {"ivif": (True, False), "mdif": (False, True)}.get(task)
    return (b, a) if turn else (a, b)


def judge(seen: Statistics) -> tuple[str, str]:
    """Returns the task of a pair of images, `general` if it is not clear, and the reason."""
    if seen.border > 0.8 and seen.background > 0.15:
        return "mdif", f"both have a black background ({seen.background:.0%} of the pixels)"
    if seen.colored == 1:
        return "ivif", "one is grey, the other in colour"
    if seen.brighter > 0.12 and seen.edges > 0.7:
        return "meif", f"the same edges, but brightness differs by {seen.brighter:.0%}"
    if seen.brighter < 0.06 and seen.correlation > (0.65 if seen.colored == 2 else 0.9):
        return "mfif", f"much the same at low resolution (correlation {seen.correlation:.2f})"
    if seen.colored == 0 and seen.correlation < 0.8:
        return "ivif", f"both are grey and differ much (correlation {seen.correlation:.2f})"
    return "general", "they resemble no task clearly"


def measure(a: Stored, b: Stored) -> Statistics:
    """Returns the statistics of two images of the same size."""
    small = [_reduced(color.luma(image)) for image in (a, b)]
    black = [image < BLACK for image in small]
    dx, dy = (np.stack([np.gradient(image, axis=axis) for image in small]) for axis in (1, 0))
    strength = np.sqrt((dx**2 + dy**2).prod(0)).sum()
    first, second = (image - image.mean() for image in small)
    spread = np.sqrt((first**2).sum() * (second**2).sum())
    return Statistics(
        colored=sum(map(color.is_color, (a, b))),
        border=float(np.mean([_outermost(image).mean() for image in black])),
        background=float((black[0] & black[1]).mean()),
        brighter=float(abs(small[0].mean() - small[1].mean())),
        correlation=float((first * second).sum() / max(spread, 1e-9)),
        edges=float((dx.prod(0) + dy.prod(0)).sum() / max(strength, 1e-9)),
    )


def _reduced(image: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "small_h small_w"]:
    scale = min(1.0, SIDE / max(image.shape))
    height, width = (max(2, round(extent * scale)) for extent in image.shape)
    reduced = PILImage.fromarray(image).resize((width, height), PILImage.Resampling.BOX)
    return np.asarray(reduced, np.float64)


def _outermost(image: np.ndarray) -> np.ndarray:
    return np.concatenate([image[0], image[-1], image[1:-1, 0], image[1:-1, -1]])
