"""Infrared and visible images of MSRS."""

from configs import base
from smc_jax.config import Config, override


def get_config(setting: str = "paper") -> Config:
    return override(base.get_config(setting, "ivif"), {"data.name": "msrs"})
