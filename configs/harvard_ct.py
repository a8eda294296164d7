"""CT and MRI of the Harvard whole brain atlas."""

from configs import base
from smc_jax.config import Config, override


def get_config(setting: str = "paper") -> Config:
    return override(base.get_config(setting, "mdif"), {"data.crop": 64, "data.name": "harvard_ct"})
