"""That the benchmark of the model runs what it names, on a small network."""

import jax
import numpy as np
import tiny

from benchmarks import model
from smc_jax.config import Config, override


def test_fusing_and_stepping_run():
    cfg = override(Config(), {**tiny.TINY, **tiny.QUICK, "data.crop": 16})
    fuse, seconds, memory = model.fusing(cfg, 24, 16)
    assert fuse().shape == (1, 24, 16, 1)
    assert seconds > 0
    assert memory > 0
    step, seconds, memory = model.stepping(cfg)
    first, second = (float(jax.device_get(step()["loss"])) for _ in range(2))
    assert np.isfinite([first, second]).all()
    assert first != second
