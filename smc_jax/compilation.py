"""The compilation cache: programs that were compiled once start in seconds the next time."""

import os
import sys
import warnings
from pathlib import Path

import jax


def use_cache() -> None:
    """Keeps compiled programs in $SMC_JAX_CACHE, by default ~/.cache/smc_jax.

    If that folder cannot be made, one line on stderr says so. Programs that later cannot be read
    from it or written to it, as on a full disk, are compiled again without a warning.
    """
    folder = os.environ.get("SMC_JAX_CACHE") or "~/.cache/smc_jax"
    try:
        folder = Path(folder).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:  # RuntimeError if there is no home
        why = getattr(error, "strerror", None) or error
        print(
            f"{folder} cannot be made ({why}): every start compiles anew; "
            "SMC_JAX_CACHE names another folder",
            file=sys.stderr,
        )
        return
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache entry")
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
