"""The compilation cache: what was compiled once starts in seconds the next time."""

import os
from pathlib import Path

import jax


def use_cache() -> None:
    """Keeps compiled programs in $SMC_JAX_CACHE, by default ~/.cache/smc_jax."""
    folder = os.environ.get("SMC_JAX_CACHE") or Path.home() / ".cache" / "smc_jax"
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
