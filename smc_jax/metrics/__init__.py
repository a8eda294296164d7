"""Fusion metrics on grey 8-bit images.

Every metric is a pure compiled function of images with grey levels 0..255 (uint8 or float32),
`h w` for one score or `b h w` for one per image. The definitions are those of CDDFuse's evaluator
(Zhao et al., CVPR 2023), whose numbers most recent fusion papers print; metrics that it does not
have follow the code of Liu et al. (IEEE TPAMI 2012) or VIFB. Other evaluators print other numbers
under the same names: these variants are called dialects.

A published score is the mean over the images of a set; the fused image is stored in 8 bits first.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Real

from smc_jax.errors import ConfigError
from smc_jax.metrics import (
    artefact,
    distance,
    fmi,
    gradient,
    information,
    mef,
    perception,
    similarity,
    structure,
    vif,
)
from smc_jax.metrics.inputs import grey
from smc_jax.metrics.levels import Score

Levels = Array | np.ndarray

DIALECTS = ("cddfuse", "tang", "vifb", "mefb")
"""CDDFuse's evaluator, the MATLAB toolbox of Tang et al., and the benchmarks VIFB and MEFB."""


class Metric(NamedTuple):
    """A metric `fn(a, b, fused)`, its range, its direction, and its variants in other dialects."""

    fn: Callable[..., Score]
    range: tuple[float, float]
    higher_is_better: bool = True
    dialects: Mapping[str, Callable[..., Score]] = {}

    def of(self, dialect: str) -> Callable[..., Score]:
        return self.dialects.get(dialect, self.fn)


def _of_fused(metric: Callable[..., Score]) -> Callable[..., Score]:
    return lambda a, b, fused: metric(fused)


_sf_vifb = _of_fused(gradient.spatial_frequency_vifb)
_ag_tang = _of_fused(gradient.average_gradient_tang)

METRICS = {
    "EN": Metric(_of_fused(information.entropy), (0, 8)),
    "SD": Metric(_of_fused(gradient.standard_deviation), (0, 127.5)),
    "SF": Metric(
        _of_fused(gradient.spatial_frequency),
        (0, 255 * math.sqrt(2)),
        dialects={"vifb": _sf_vifb, "mefb": _sf_vifb},
    ),
    "AG": Metric(
        _of_fused(gradient.average_gradient),
        (0, 255),
        dialects=dict.fromkeys(("tang", "vifb", "mefb"), _ag_tang),
    ),
    "MI": Metric(
        information.mutual_information,
        (0, 2 * math.log(256)),
        dialects={"tang": information.mutual_information_tang},
    ),
    "CC": Metric(similarity.correlation, (-1, 1)),
    "SCD": Metric(similarity.correlation_of_differences, (-2, 2)),
    "VIF": Metric(vif.vif, (0, math.inf), dialects={"mefb": vif.viff}),
    "Qabf": Metric(gradient.qabf, (0, 0.976)),
    "Nabf": Metric(
        artefact.nabf, (0, 1), higher_is_better=False, dialects={"tang": artefact.nabf_tang}
    ),
    "SSIM": Metric(
        similarity.ssim_sum,
        (-2, 2),
        dialects={"tang": similarity.ssim_mean_tang, "vifb": similarity.ssim_sum_vifb},
    ),
    # Tables print MEF-SSIM of several scales under this name; MS_SSIM_sum is the other quantity
    # of this name.
    "MS_SSIM": Metric(mef.mef_ms_ssim, (0, 1)),
    "MS_SSIM_sum": Metric(similarity.ms_ssim_sum, (0, 2)),
    "MEF_SSIM": Metric(mef.mef_ssim, (-1, 1), dialects={"mefb": mef.mef_ms_ssim}),
    "NMI": Metric(information.normalised_mutual_information, (0, 2)),
    "MSE": Metric(
        distance.mse, (0, 255**2), higher_is_better=False, dialects={"tang": distance.mse_tang}
    ),
    "PSNR": Metric(
        distance.psnr_of_sources,
        (-math.inf, math.inf),
        dialects={
            "tang": distance.psnr_tang,
            "vifb": distance.psnr_vifb,
            "mefb": distance.psnr_vifb,
        },
    ),
    "VIFF": Metric(vif.viff, (0, math.inf)),
    "Labf": Metric(artefact.labf, (0, 1), higher_is_better=False),
    "FMI_pixel": Metric(fmi.fmi_pixel, (-math.inf, 1), dialects={"tang": fmi.fmi_edge}),
    "FMI_gradient": Metric(fmi.fmi_gradient, (-math.inf, 1)),
    "FMI_edge": Metric(fmi.fmi_edge, (-math.inf, 1)),
    "EI": Metric(_of_fused(gradient.edge_intensity), (0, 1020 * math.sqrt(2))),
    "CE": Metric(information.cross_entropy, (-math.inf, math.inf), higher_is_better=False),
    "Q_G": Metric(gradient.gradient_quality, (0, 0.987)),
    "Q_Y": Metric(structure.yang, (-1, 1)),
    "Q_C": Metric(structure.cvejic, (-1, 1)),
    "Q_S": Metric(structure.piella, (-1, 1)),
    "Q_W": Metric(structure.piella_weighted, (-1, 1), dialects={"mefb": structure.piella_of_edges}),
    "Q_E": Metric(structure.piella_edge_dependent, (-1, 1)),
    "Q_CB": Metric(perception.chen_blum, (0, 1)),
    "Q_CV": Metric(perception.chen_varshney, (0, math.inf), higher_is_better=False),
    "Q_NCIE": Metric(information.nonlinear_correlation, (0.801, 1)),
    "Q_TE": Metric(information.tsallis, (0, math.inf), dialects={"mefb": information.tsallis_mefb}),
}
TRUTH_METRICS = {
    "PSNR_GT": Metric(distance.psnr, (0, 100)),
    "SSIM_GT": Metric(similarity.ssim, (-1, 1)),
}
"""Metrics `fn(truth, fused)`, for data sets with a ground truth."""

SETS = {
    "paper": (
        "EN",
        "SD",
        "SF",
        "AG",
        "MI",
        "CC",
        "SCD",
        "VIF",
        "Qabf",
        "Nabf",
        "SSIM",
        "MS_SSIM",
    ),
    "cddfuse": ("EN", "SD", "SF", "AG", "MI", "CC", "SCD", "VIF", "Qabf", "SSIM"),
    "all": tuple(METRICS),
}
"""Names of metrics: those of our tables, those of CDDFuse's tables, and all."""

SMALLEST = vif.SMALLEST
"""The least height and width of an image."""


def evaluate(
    a: Real[Levels, "*b h w"],
    b: Real[Levels, "*b h w"],
    fused: Real[Levels, "*b h w"],
    metrics: str | Sequence[str] = "paper",
    dialect: str = "cddfuse",
) -> dict[str, Score]:
    """Computes metrics of fused images, one number per image, in the order asked for.

    Args:
      a, b: the sources, grey levels 0..255.
      fused: the fused images, grey levels 0..255.
      metrics: the name of one of `SETS`, or names of `METRICS`.
      dialect: one of `DIALECTS`: the evaluator to follow where they differ.

    Returns:
      The scores by name; NaN where a metric is undefined. The metrics are compiled once for each
      image size and choice of metrics; a batch is scored image by image, in the memory of one.

    Raises:
      ConfigError: there is no such metric, set or dialect.
      ImageError: the images differ in shape, a side is shorter than 17 pixels, or they are not in
        grey levels.
    """
    names = chosen(metrics, dialect)
    images = grey(a=a, b=b, fused=fused)
    if images[0].ndim == 2:
        scores = _scores(*images, names, dialect)
    else:
        each = [_scores(*three, names, dialect) for three in zip(*images, strict=True)]
        scores = {name: jnp.stack([score[name] for score in each]) for name in names}
    # jit returns a dict with its keys sorted.
    return {name: scores[name] for name in names}


def score(
    a: Real[Levels, "h w"],
    b: Real[Levels, "h w"],
    fused: Real[Levels, "h w"],
    truth: Real[Levels, "h w"] | None = None,
    metrics: str | Sequence[str] = "paper",
    dialect: str = "cddfuse",
) -> dict[str, float]:
    """Evaluates one fused image, with the `TRUTH_METRICS` too if there is a `truth`.

    Metrics that are undefined for these images are left out.
    """
    scores = evaluate(a, b, fused, metrics, dialect)
    if truth is not None:
        scores |= {name: metric.fn(truth, fused) for name, metric in TRUTH_METRICS.items()}
    values = {name: float(value) for name, value in scores.items()}
    return {name: value for name, value in values.items() if math.isfinite(value)}


def chosen(metrics: str | Sequence[str], dialect: str) -> tuple[str, ...]:
    """Returns the names of the metrics asked for.

    Args:
      metrics: one of `SETS`, or names of `METRICS`: a sequence, or separated by commas.
      dialect: one of `DIALECTS`.

    Raises:
      ConfigError: there is no such metric, set or dialect.
    """
    if isinstance(metrics, str):
        metrics = SETS.get(metrics) or [name.strip() for name in metrics.split(",")]
    unknown = [name for name in metrics if name not in METRICS]
    if unknown:
        raise ConfigError(
            f"there is no metric {', '.join(unknown)}, but {', '.join(METRICS)}, "
            f"and the sets {', '.join(SETS)}"
        )
    if dialect not in DIALECTS:
        raise ConfigError(f"there is no dialect {dialect}, but {', '.join(DIALECTS)}")
    return tuple(dict.fromkeys(metrics))


@functools.partial(jax.jit, static_argnames=("names", "dialect"))
def _scores(
    a: Array, b: Array, fused: Array, names: tuple[str, ...], dialect: str
) -> dict[str, Score]:
    return {name: METRICS[name].of(dialect)(a, b, fused) for name in names}
