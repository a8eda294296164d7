"""What several devices share: each has its part of the scans and of a training step."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def found():
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, HERE / "eight_devices.py"],
        env=os.environ | flags | {"PYTHONPATH": str(HERE.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", ["tokens", "scalars", "odd"])
def test_parts_make_the_whole(found, name):
    assert found[name]["error"] < 1e-5


@pytest.mark.parametrize("name", ["tokens", "scalars"])
def test_nothing_but_the_gradients_of_weights_travels(found, name):
    assert [kind for kind, _, _ in found[name]["exchanged"]] == ["all-reduce"]


@pytest.mark.parametrize(("name", "whole"), [("tokens", 1), ("scalars", 4)])
def test_each_device_has_its_eighth(found, name, whole):
    """Of all but the gradients of weights, of which it has the whole."""
    shares = found[name]["shares"]
    assert sorted(shares) == [1 / 8] * (len(shares) - whole) + [1] * whole


def test_what_the_devices_do_not_divide_each_has_whole(found):
    assert found["odd"]["shares"] == [1] * 6


def test_a_training_step_exchanges_gradients_alone(found):
    exchanged, gradients = found["exchanged"]
    assert [kind for kind, _, _ in exchanged] == ["all-reduce"]
    assert gradients < exchanged[0][2] < gradients + 1000


def test_auto_divides_its_kernels(found):
    assert found["lowered"] == 2  # forward and backward
