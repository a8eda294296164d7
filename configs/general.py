"""One network for all four tasks, an equal share of the pairs to each."""

from configs import base
from smc_jax.config import Config, override

DATA = "msrs:3,roadscene:3,harvard_ct:2,harvard_pet:2,harvard_spect:2,mfi_whu:6,sice:6"


def get_config(setting: str = "paper") -> Config:
    return override(base.get_config(setting, "general"), {"data.crop": 64, "data.name": DATA})
