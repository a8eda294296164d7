"""Fixtures of all tests. Models are tiny, so most time goes into compiling: optimise little."""

import importlib.metadata
import os

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=0"
if importlib.metadata.version("jaxlib").startswith("0.10."):
    # This version has two generators of code for loops. The default one, the only one of later
    # versions, takes two thirds of the time of a compilation.
    os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"
# Tests run in several processes, and the first would reserve most of a GPU's memory.
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
    """Programs that several tests compile are compiled once, by the first of them."""
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("cache")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


@pytest.fixture(scope="module", autouse=True)
def forgotten():
    """Frees the programs that a module compiled: those of many modules take gigabytes."""
    yield
    jax.clear_caches()
