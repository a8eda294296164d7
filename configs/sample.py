"""The embedded multi-focus sample of `data_prep.sample`: small enough for `make demo`."""

from configs import base
from smc_jax.config import Config, override


def get_config(setting: str = "practical") -> Config:
    return override(
        base.get_config(setting, "mfif"),
        {
            "data.name": "sample_mfif",
            "data.dir": "demo/data",
            "data.crop": 64,
            "train.steps": 100,
            "train.save_every": 25,
            "train.image_every": 50,
        },
    )
