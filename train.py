"""Trains SMC-Mamba, or goes on where a run in the workdir stopped.

python train.py --config=configs/msrs.py --workdir=DIR [--config.train.steps=500 ...]
"""

import sys

from absl import app, flags, logging
from ml_collections import config_flags

from smc_jax import compilation
from smc_jax.color import ImageError
from smc_jax.config import ConfigError
from smc_jax.train import train

_CONFIG = config_flags.DEFINE_config_file("config", help_string="A file of configs/, e.g. msrs.py.")
_WORKDIR = flags.DEFINE_string("workdir", "", "Where checkpoints, metrics and images go.")


def main(argv: list[str]) -> int:
    try:
        if len(argv) > 1:
            raise ConfigError(f"unknown argument {argv[1]}")
        if _CONFIG.value is None or not _WORKDIR.value:
            raise ConfigError("give --config=configs/NAME.py and --workdir=DIR")
        logging.set_verbosity(logging.WARNING)
        compilation.use_cache()
        train(_CONFIG.value.check(), _WORKDIR.value)
    except (ConfigError, ImageError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    app.run(main)
