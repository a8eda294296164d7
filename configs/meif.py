"""Under- and over-exposed, SICE."""

from configs import base
from smc_jax.config import Config, override


def get_config(setting: str = "paper") -> Config:
    return override(base.get_config(setting, "meif"), {"data.name": "sice"})
