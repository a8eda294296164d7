"""The paper's setting, which is the default of every field; `:practical` for what trains better.

python train.py --config=configs/base.py:practical …
"""

from typing import Any

from smc_jax.config import Config, override
from smc_jax.errors import ConfigError

SETTINGS: dict[str, dict[str, Any]] = {
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
        # A whole image has larger maxima than the crops that the gate learns from.
        "model.gate_window": 64,
        # What is best in a source need not pass through a LayerNorm: pixels are taken over.
        "model.output": "blend",
        # The ratios, of which any image has much, drown the terms on what is seen.
        "loss.fcl": 0.05,
        "loss.pcl": 0.05,
        # Made for the whole range, SSIM does not see the texture of the night.
        "loss.ssim": 3.0,
        "loss.ssim_span": 0.1,
        # A mean absolute distance is of the order of .01. Much of these two keeps the fused image
        # within the maximum of both sources, where edges are weaker than they could be.
        "loss.intensity": 5.0,
        "loss.gradient": 20.0,
        # What the sources show is measured as the field measures it, by what can be differentiated
        # of Qabf, MEF-SSIM, VIF and SCD: the paper's terms alone leave edges and texture weak.
        "loss.edges": 5.0,
        "loss.structure": 5.0,
        "loss.fidelity": 1.0,
        "loss.correlation": 0.3,
    },
}
FOR_TASK: dict[tuple[str, str], dict[str, Any]] = {
    # All is in one of the two sources, pixel by pixel: nothing is to be added up.
    ("practical", "mfif"): {
        "loss.intensity_rule": "sharper",
        # Features hold which source is sharper, but give it away slowly.
        "model.trust": 1.0,
        # On plain surfaces the choice would follow what JPEG leaves of noise, in patches.
        "model.contrast_noise": 4.0,
        "loss.intensity": 20.0,
        "loss.gradient": 40.0,
        "loss.fcl": 0.02,
        "loss.pcl": 0.02,
        # These two reward a mean of the sources.
        "loss.ssim": 0.0,
        "loss.correlation": 0.0,
        "loss.edges": 6.0,
        "loss.structure": 6.0,
        "loss.fidelity": 1.5,
    },
    ("practical", "mdif"): {
        # Around a head one source has faint noise where the other is black: shares would halve it.
        "model.faint": 10.0,
    },
    ("practical", "meif"): {
        # Neither exposure, and not their mean, is as bright as the result should be.
        "loss.intensity": 2.0,
        "loss.gradient": 10.0,
        # Stronger bands would take shadows to black.
        "model.within": True,
    },
}
"""What a setting changes further for one task."""
RULES = {"ivif": "max", "mdif": "max", "mfif": "mean", "meif": "mean", "general": "task"}
"""`loss.intensity_rule` (ours)."""


def get_config(setting: str = "paper", task: str = "ivif") -> Config:
    if setting not in SETTINGS:
        raise ConfigError(f"unknown setting {setting!r}; it may be {', '.join(SETTINGS)}")
    first = {"task": task, "setting": setting, "loss.intensity_rule": RULES[task]}
    return override(Config(), {**first, **SETTINGS[setting], **FOR_TASK.get((setting, task), {})})
