"""SMC-Mamba in JAX and Flax: two aligned images of one scene in, one fused image out."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from smc_jax.compilation import use_cache
from smc_jax.selective_scan import selective_scan

if TYPE_CHECKING:
    from smc_jax.fusion import fuse as fuse
    from smc_jax.model import SMCMamba

__version__ = "0.1.0"
__all__ = ["fuse", "load", "selective_scan", "use_cache"]


def load(name_or_path: str | Path) -> "tuple[SMCMamba, Any]":
    """Returns the network and parameters of packaged weights, of a .safetensors file, of an
    exported folder or of a training workdir.

    After `model, params = smc_jax.load("ivif")`, call
    `fused, aux = model.apply({"params": params}, a, b)` on luma "b h w 1" in [0, 1].

    Raises:
      ConfigError: there are no weights of that name, or they are damaged.
    """
    from smc_jax import model, weights

    config, params = weights.load(name_or_path)
    return model.build(config.model), params


def __getattr__(name: str) -> Any:
    # Imported on first use, so that callers of the scan alone need not wait for it.
    if name == "fuse":
        from smc_jax.fusion import fuse

        return fuse
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
