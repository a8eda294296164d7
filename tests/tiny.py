"""The least to train: a data set of five pairs per split, a network of under 1000 weights."""

import numpy as np

from data_prep import build
from smc_jax import image_files

TINY = {
    "model.width": 4,
    "model.state": 2,
    "model.channel_state": 1,
    "model.experts": 2,
    "model.mafe": False,
    "model.decoder_layers": 1,
    "data.name": "tiny",
    "data.crop": 16,
    "train.steps": 6,
    "train.log_every": 1,
    "train.image_every": 3,
    "train.save_every": 3,
}
# Loops over tokens, in one direction only, compile in a fraction of the time.
QUICK = {"model.scan_method": "reference", "model.bidirectional": False}


def data_set(folder, splits=("train",)):
    """Builds the data set and returns its `data.dir`."""
    r = np.random.default_rng(0)
    for split in splits:
        for index in range(5):
            for side in ("a", "b"):
                small = r.integers(0, 255, (5, 6)).astype(np.uint8)
                image = np.kron(small, np.ones((4, 4), np.uint8))
                image_files.write(folder / "pairs" / split / side / f"{split}{index}.png", image)
    build.build(folder / "pairs", "ivif", "tiny", folder / "data")
    return str(folder / "data")
