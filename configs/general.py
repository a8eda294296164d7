"""One model for all four tasks, on as many pairs of each; needs the data sets of all of them."""

from configs import base
from smc_jax.config import Config, override

# The three medical pairings share the turns of their task.
DATA = "msrs:3,harvard_ct:1,harvard_pet:1,harvard_spect:1,mfi_whu:3,sice:3"


def get_config(setting: str = "paper") -> Config:
    return override(
        base.get_config(setting),
        {"task": "general", "data.name": DATA, "loss.intensity_rule": "task"},
    )
