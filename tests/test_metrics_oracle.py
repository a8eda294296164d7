"""The metrics against the numbers that the reference evaluators print."""

import csv
import functools

import numpy as np
import pytest
from PIL import Image
from scenes import ORACLE

from smc_jax import metrics
from smc_jax.metrics import similarity

CDDFUSE, TANG, LIU = "MMIF-CDDFuse", "Image-Fusion", "imageFusionMetrics"


def of(name, dialect="cddfuse"):
    return metrics.METRICS[name].of(dialect)


def sum_of(compared, **variant):
    return lambda a, b, f: compared(a, f, **variant) + compared(b, f, **variant)


COMMON = ("EN", "SD", "SF", "AG", "MI", "MSE", "PSNR", "CC", "SCD", "VIF", "Qabf")
OF_LIU = {
    "QMI": "NMI",
    "QTE": "Q_TE",
    "QNCIE": "Q_NCIE",
    "QG": "Q_G",
    "QS": "Q_S",
    "QS_sw2": "Q_W",
    "QC": "Q_C",
    "QY": "Q_Y",
    "QCV": "Q_CV",
    "QCB": "Q_CB",
}
REFERENCES = (
    {(CDDFUSE, name): of(name) for name in COMMON}
    | {(TANG, name): of(name, "tang") for name in COMMON}
    | {(LIU, theirs): of(ours) for theirs, ours in OF_LIU.items()}
    | {
        (CDDFUSE, "SSIM_dr2_as_published"): of("SSIM"),
        (TANG, "MS_SSIM"): of("MS_SSIM", "tang"),
        (TANG, "MEF_SSIM"): of("MEF_SSIM"),
        (TANG, "Nabf_as_called"): of("Nabf", "tang"),
        (TANG, "Nabf_argorder_fixed"): of("Nabf"),
        ("skimage", "SSIM_dr255"): sum_of(similarity.ssim),
        ("pytorch-msssim", "SSIM_gauss11_sum"): of("SSIM", "vifb"),
        ("pytorch-msssim", "MS_SSIM_sum"): of("MS_SSIM_sum"),
    }
)
IN_OCTAVE = ("MS_SSIM", "MEF_SSIM", "Nabf_as_called", "Nabf_argorder_fixed")
"""Metrics of Tang's evaluator that are slow in Octave: there are only two values of each."""
TOLERANCES = {
    "Nabf_as_called": {"abs": 1e-7},
    "Nabf_argorder_fixed": {"abs": 1e-7},
    # These references sum their windows in float32.
    "SSIM_dr2_as_published": {"abs": 3e-4},
    "SSIM_gauss11_sum": {"abs": 1e-5},
    "MS_SSIM_sum": {"abs": 1e-5},
    # On a black background the reference divides one rounding error by another.
    "QCB": {"rel": 2e-3},
}


@pytest.mark.skipif(not ORACLE.is_dir(), reason="no ../shared/oracle with the reference values")
@pytest.mark.parametrize(("repository", "name"), REFERENCES)
def test_equals_the_reference(repository, name):
    compared = 0
    for row in rows():
        if (row["reference_repo"].split("/")[-1], row["metric"]) != (repository, name):
            continue
        images = opened(row["dataset"], row["name"], row["fused_kind"])
        value, expected = float(REFERENCES[repository, name](*images)), float(row["value"])
        if np.isnan(expected):
            # The reference is NaN where the background is flat; ours leaves such windows out.
            assert name in ("QY", "QC")
            assert 0 < value < 1
        else:
            tolerance = TOLERANCES.get(name, {"rel": 3e-6})
            if row["dataset"] == "TNO" and name == "QCB":
                tolerance = {"rel": 1e-5}
            assert value == pytest.approx(expected, **tolerance), row
        compared += 1
    assert compared == (2 if name in IN_OCTAVE else {TANG: 13, LIU: 13}.get(repository, 40))


@functools.cache
def rows():
    with (ORACLE / "metrics_oracle.csv").open() as file:
        return list(csv.DictReader(file))


@functools.cache
def opened(dataset, pair, kind):
    def read(name):
        with Image.open(ORACLE / dataset / pair / f"{name}.png") as image:
            return np.asarray(image)

    return [read(name) for name in ("a", "b", f"fused_{kind}")]
