"""Tests run on tiny models, where compiling takes the time: the compiler need not try hard."""

import os

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=0"

import jax
import pytest


@pytest.fixture
def gpu():
    device = jax.devices()[0]
    if device.platform != "gpu" or float(getattr(device, "compute_capability", 0)) < 9:
        pytest.skip(f"needs an NVIDIA GPU, Hopper or newer; this is {device.device_kind}")
