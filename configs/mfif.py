"""Near and far focus, MFI-WHU."""

from configs import base
from smc_jax.config import Config, override


def get_config(setting: str = "paper") -> Config:
    return override(base.get_config(setting, "mfif"), {"data.name": "mfi_whu"})
