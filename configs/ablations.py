"""The rows of the paper's Table 3 that keep Mamba, and a single expert, on MSRS.

python train.py --config=configs/ablations.py:no_mafe …
python train.py --config=configs/ablations.py:no_mafe,practical …
"""

from configs import msrs
from smc_jax.config import Config, override
from smc_jax.errors import ConfigError

ROWS = {
    "no_mafe": {"model.mafe": False},
    "no_mccm": {"model.mccm": False, "loss.wb": 0.0, "loss.div": 0.0, "loss.cons": 0.0},
    "no_fcl": {"loss.fcl": 0.0},
    "no_pcl": {"loss.pcl": 0.0},
    "no_fcl_pcl": {"loss.fcl": 0.0, "loss.pcl": 0.0},
    "no_wb": {"loss.wb": 0.0},
    "no_div": {"loss.div": 0.0},
    "no_cons": {"loss.cons": 0.0},
    "no_mccm_loss": {"loss.wb": 0.0, "loss.div": 0.0, "loss.cons": 0.0},
    # The first two remove the whole branch; the third keeps the experts' projections and gates.
    "no_sc_scan": {"model.sc_scan": False},
    "no_fr_scan": {"model.fr_scan": False},
    "no_cm_scan": {"model.cm_scan": False},
    "single_direction": {"model.bidirectional": False},
    "single_expert": {"model.experts": 1, "model.top_k": 1},
}


def get_config(row: str = "") -> Config:
    name, _, setting = row.partition(",")
    if name not in ROWS:
        raise ConfigError(f"unknown ablation {name!r}; it may be {', '.join(ROWS)}")
    cfg = msrs.get_config(setting or "paper")
    return override(cfg, {"setting": f"{cfg.setting}, {name}", **ROWS[name]})
