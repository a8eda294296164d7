"""Fusion metrics on grey 8-bit images, in the definitions of CDDFuse's evaluator.

Every metric is a pure jitted function of `h w` images with grey levels 0..255 (uint8 or float32).
A published score is the mean over the images of a set; the fused image is stored in 8 bits first.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Real

from smc_jax.metrics import artefact, gradient, information, mef, similarity, vif
from smc_jax.types import Scalar

Levels = Array | np.ndarray


class Metric(NamedTuple):
    """`fn(a, b, fused)` on `h w` grey levels, and which way it counts."""

    fn: Callable[..., Scalar]
    higher_is_better: bool = True


METRICS = {
    "EN": Metric(lambda a, b, fused: information.entropy(fused)),
    "SD": Metric(lambda a, b, fused: gradient.standard_deviation(fused)),
    "SF": Metric(lambda a, b, fused: gradient.spatial_frequency(fused)),
    "AG": Metric(lambda a, b, fused: gradient.average_gradient(fused)),
    "MI": Metric(information.mutual_information),
    "CC": Metric(similarity.correlation),
    "SCD": Metric(similarity.correlation_of_differences),
    "VIF": Metric(vif.vif),
    "Qabf": Metric(gradient.qabf),
    "Nabf": Metric(artefact.nabf, higher_is_better=False),
    "SSIM": Metric(similarity.ssim_sum),
    "MS_SSIM": Metric(mef.ms_ssim),
}
TRUTH_METRICS = {
    "PSNR_GT": Metric(similarity.psnr),
    "SSIM_GT": Metric(similarity.ssim),
}
"""`fn(truth, fused)`, where a data set has a ground truth."""


def score(
    a: Real[Levels, "h w"],
    b: Real[Levels, "h w"],
    fused: Real[Levels, "h w"],
    truth: Real[Levels, "h w"] | None = None,
) -> dict[str, float]:
    """Every metric of one fused image, and those of `TRUTH_METRICS` if there is a `truth`.

    Compiled once for each size. The images need 17 pixels a side at least.
    """
    scores = _all(a, b, fused) | ({} if truth is None else _all_truth(truth, fused))
    # jit returns a dict with its keys sorted.
    names = (name for name in (*METRICS, *TRUTH_METRICS) if name in scores)
    return {name: float(scores[name]) for name in names}


@jax.jit
def _all(a: Array, b: Array, fused: Array) -> dict[str, Scalar]:
    return {name: metric.fn(a, b, fused) for name, metric in METRICS.items()}


@jax.jit
def _all_truth(truth: Array, fused: Array) -> dict[str, Scalar]:
    return {name: metric.fn(truth, fused) for name, metric in TRUTH_METRICS.items()}
