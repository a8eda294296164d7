"""The paper's setting, which is the default of every field; `:practical` for what trains better.

python train.py --config=configs/base.py:practical …
"""

from smc_jax.config import Config, override
from smc_jax.errors import ConfigError

SETTINGS = {
    "paper": {},
    "practical": {
        # 2e-4, halved every 1000 steps, moves the weights as far as 400 steps at 1e-3 do.
        "optim.lr": 1e-3,
        "optim.schedule": "cosine",
        # The contrastive ratios kick now and then.
        "optim.clip": 1.0,
        # Over single images L_wb rewards two experts that do everything.
        "loss.balance": "running",
        # Anti-parallel experts cancel in the sum.
        "loss.clamp_div": True,
        # Channel halves are no frequencies: L_fcl is satisfied by near-constant features.
        "loss.feature_split": "spatial",
        # Brightness need not pass through a LayerNorm.
        "model.output": "residual",
        # The paper has no term on edges; without one they stay weaker than those of the maximum.
        "loss.gradient": 40.0,
        # Next to the contrastive ratios a mean absolute distance of .02 would count for nothing.
        "loss.intensity": 5.0,
    },
}


def get_config(setting: str = "paper") -> Config:
    if setting not in SETTINGS:
        raise ConfigError(f"unknown setting {setting!r}; it may be {', '.join(SETTINGS)}")
    return override(Config(), {"setting": setting, **SETTINGS[setting]})
