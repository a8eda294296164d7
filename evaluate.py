"""Scores fused images beside the plain average and maximum of their sources.

python evaluate.py --checkpoint=WORKDIR --pairs=DIR --out=DIR
python evaluate.py --checkpoint=WORKDIR --dataset=msrs --split=test --out=DIR
python evaluate.py --fused=DIR --fused=NAME=DIR --pairs=DIR --out=DIR
"""

from absl import flags

from smc_jax import command, compilation, evaluate

_CHECKPOINT = flags.DEFINE_string("checkpoint", "", "Training workdir; its model fuses the pairs.")
_FUSED = flags.DEFINE_multi_string(
    "fused", [], "Folder of images that someone else fused: DIR or NAME=DIR. May repeat."
)
_PAIRS = flags.DEFINE_string("pairs", "", "Folder with a/ and b/; a pair shares its file name.")
_DATASET = flags.DEFINE_string("dataset", "", "Instead of --pairs: a prepared data set's name.")
_DATA_DIR = flags.DEFINE_string("data_dir", "data", "Where prepared data sets are.")
_SPLIT = flags.DEFINE_string("split", "test", "Split of --dataset.")
_OUT = flags.DEFINE_string("out", "", "Folder for the fused images, the scores and the pictures.")


def main() -> int:
    compilation.use_cache()
    return evaluate.main(
        _OUT.value,
        checkpoint=_CHECKPOINT.value,
        fused=_FUSED.value,
        pairs=_PAIRS.value,
        dataset=_DATASET.value,
        data_dir=_DATA_DIR.value,
        split=_SPLIT.value,
    )


if __name__ == "__main__":
    command.run(main)
