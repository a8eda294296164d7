"""The benchmarks of the model and of tiles run what they say, on a small network."""

import jax
import numpy as np
import pytest
import tiny
import weight_files

from benchmarks import model, tiles
from smc_jax import fusion, image_files, memory
from smc_jax.config import Config, override
from smc_jax.errors import ConfigError


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


def test_tiles_are_beside_the_whole(tmp_path, monkeypatch, capsys):
    weights = tmp_path / "x.safetensors"
    cfg, _ = weight_files.make(weights)
    for side in "ab":
        for name, shape in (("large", (250, 300)), ("small", (40, 50))):
            image = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
            image_files.write(tmp_path / side / f"{name}.png", image)
    pixel = memory.per_pixel(cfg.model)
    assert 40 * 50 * pixel < 12 * 10**7 < 250 * 300 * pixel < 10**10
    command = ["tiles", f"--pairs={tmp_path}", f"--weights={weights}"]
    monkeypatch.setattr("sys.argv", [*command, "--max-memory=120MB,10GB"])
    # This network's tiles differ by far less than a grey level from the whole: some more is added.
    more_luma = np.where(np.arange(250)[:, None] < 125, 2, -6) / 255
    luma = fusion.Fuser.luma

    def apart(self, a, b, budget):
        return luma(self, a, b, budget) + more_luma * (budget == 120 * 10**6)

    monkeypatch.setattr(fusion.Fuser, "luma", apart)
    tiles.main()
    _, _, row = capsys.readouterr().out.splitlines()
    name, size, budget, mean, more, most, time = row.strip("| ").split(" | ")
    assert (name, size, budget) == ("large", "300x250", "120MB")
    assert [float(mean), float(more), float(most)] == pytest.approx([4, -2, 6], abs=0.1)
    assert float(time) > 0
    monkeypatch.setattr("sys.argv", [*command, "--max-memory=10GB"])
    with pytest.raises(ConfigError, match="each pair has room"):
        tiles.main()
