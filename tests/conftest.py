"""Tests run on tiny models, where compiling takes the time: the compiler need not try hard."""

import os

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=0"
# Several processes test at once, and one would take most of a GPU's memory.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import pytest

from smc_jax import compilation


@pytest.fixture
def gpu():
    device = jax.devices()[0]
    if device.platform != "gpu" or float(getattr(device, "compute_capability", 0)) < 9:
        pytest.skip(f"needs an NVIDIA GPU, Hopper or newer; this is {device.device_kind}")


@pytest.fixture(autouse=True)
def no_cache_of_the_user(monkeypatch):
    monkeypatch.setattr(compilation, "use_cache", lambda: None)


@pytest.fixture(scope="session", autouse=True)
def compiled_once(tmp_path_factory):
    """What several tests compile alike is compiled by the first of them."""
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("cache")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


@pytest.fixture(scope="module", autouse=True)
def forgotten():
    """What a module has compiled fills memory, gigabytes after many."""
    yield
    jax.clear_caches()
