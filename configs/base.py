"""The paper's setting, which is the default of every field, and `practical`, which trains better.

python train.py --config=configs/base.py:practical …
"""

from typing import Any

from smc_jax.config import Config, override
from smc_jax.errors import ConfigError
from smc_jax.losses.intensity import RULES_OF_TASKS

SETTINGS: dict[str, dict[str, Any]] = {
    "paper": {},
    "practical": {
        # 2e-4, halved every 1000 steps, moves the weights no further than 400 steps at 1e-3.
        "optim.lr": 1e-3,
        "optim.schedule": "cosine",
        # The contrastive ratios have occasional large gradients.
        "optim.clip": 1.0,
        # Computed per image, L_wb rewards two experts that do everything.
        "loss.balance": "running",
        # Anti-parallel experts cancel in the sum.
        "loss.clamp_div": True,
        # Halves of the channels are no frequencies: near-constant features satisfy L_fcl.
        "loss.feature_split": "spatial",
        # A whole image has larger maxima than the crops that the gate is trained on.
        "model.gate_window": 64,
        # Pixels of the sources are taken over directly instead of passing through a LayerNorm.
        "model.output": "blend",
        # At full weight the contrastive ratios drown the terms on the fused image.
        "loss.fcl": 0.05,
        "loss.pcl": 0.05,
        # With constants for the whole range, SSIM does not see texture in night scenes.
        "loss.ssim": 3.0,
        "loss.ssim_span": 0.1,
        # Mean absolute distances are of the order of .01. Larger weights would tie the fused image
        # to the maximum of the sources, where edges are weaker than they could be.
        "loss.intensity": 5.0,
        "loss.gradient": 20.0,
        # Differentiable forms of Qabf, MEF-SSIM, VIF and SCD: the paper's terms alone leave edges
        # and texture weak.
        "loss.edges": 5.0,
        "loss.structure": 5.0,
        "loss.fidelity": 1.0,
        "loss.correlation": 0.3,
    },
}
FOR_TASK: dict[tuple[str, str], dict[str, Any]] = {
    # Each pixel is sharp in one of the two sources: the result should choose, not add.
    ("practical", "mfif"): {
        "loss.intensity_rule": "sharper",
        # Features contain which source is sharper, but the network learns it slowly.
        "model.trust": 1.0,
        # On plain surfaces the choice would follow JPEG noise, in patches.
        "model.contrast_noise": 4.0,
        "loss.intensity": 20.0,
        "loss.gradient": 40.0,
        "loss.fcl": 0.02,
        "loss.pcl": 0.02,
        # These two terms reward a mean of the sources.
        "loss.ssim": 0.0,
        "loss.correlation": 0.0,
        "loss.edges": 6.0,
        "loss.structure": 6.0,
        "loss.fidelity": 1.5,
    },
    ("practical", "mdif"): {
        # Around a head one source has faint noise where the other is black; a mean would halve it.
        "model.faint": 10.0,
    },
    ("practical", "general"): {
        # Pairs of mfif take the sharper source, as in the setting for mfif.
        "loss.intensity_rule": "task",
    },
    ("practical", "meif"): {
        # Neither exposure, nor their mean, is as bright as the result should be.
        "loss.intensity": 2.0,
        "loss.gradient": 10.0,
        # Amplified bands would turn shadows black.
        "model.within": True,
    },
}
"""Further changes of a setting for one task."""
RULES = {**RULES_OF_TASKS["task_mean"], "general": "task_mean"}
"""`loss.intensity_rule` of each task (ours)."""


def get_config(setting: str = "paper", task: str = "ivif") -> Config:
    if setting not in SETTINGS:
        raise ConfigError(f"unknown setting {setting!r}; it may be {', '.join(SETTINGS)}")
    first = {"task": task, "setting": setting, "loss.intensity_rule": RULES[task]}
    return override(Config(), {**first, **SETTINGS[setting], **FOR_TASK.get((setting, task), {})})
