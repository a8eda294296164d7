"""Trains SMC-Mamba, or goes on where a run in the workdir stopped.

python train.py --config=configs/msrs.py --workdir=DIR [--config.train.steps=500 ...]
"""

from absl import flags
from ml_collections import config_flags

from smc_jax import command, compilation, processes
from smc_jax.config import Config
from smc_jax.errors import ConfigError
from smc_jax.train import train

_CONFIG = config_flags.DEFINE_config_file("config", help_string="A file of configs/, e.g. msrs.py.")
_COORDINATOR = flags.DEFINE_string("coordinator", "", "HOST:PORT, with train.distributed.")
_PROCESSES = flags.DEFINE_integer("processes", 0, "How many, with train.distributed.")
_PROCESS = flags.DEFINE_integer("process", -1, "Which of them this is, from 0 on.")
_WORKDIR = flags.DEFINE_string("workdir", "", "Where checkpoints, metrics and images go.")


def main() -> int:
    if _CONFIG.value is None or not _WORKDIR.value:
        raise ConfigError("give --config=configs/NAME.py and --workdir=DIR")
    if not isinstance(_CONFIG.value, Config):
        raise ConfigError("get_config of the config file must return a smc_jax.config.Config")
    compilation.use_cache()
    cfg = _CONFIG.value.check()
    if cfg.train.distributed:
        processes.join(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
    return train(cfg, _WORKDIR.value)


if __name__ == "__main__":
    command.run(main)
