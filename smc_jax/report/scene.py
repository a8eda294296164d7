"""A pair of images and the methods' results, for display."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np


class Scene(NamedTuple):
    """Images of one size, uint8, "h w" or "h w 3".

    Attributes:
      name: the name of the pair.
      sources: by label: `a`, `b`, and `truth` if there is one.
      results: by method; one that failed is missing.
    """

    name: str
    sources: Mapping[str, np.ndarray]
    results: Mapping[str, np.ndarray]
