"""SMC-Mamba in JAX and Flax: two aligned images of one scene in, one fused image out."""

from smc_jax.selective_scan import selective_scan

__version__ = "0.1.0"
__all__ = ["selective_scan"]
