"""Scores fused images beside the plain average and maximum of their sources.

python evaluate.py --checkpoint=WORKDIR --pairs=DIR --out=DIR
python evaluate.py --checkpoint=WORKDIR --dataset=msrs --split=test --out=DIR
python evaluate.py --fused=DIR --fused=NAME=DIR --pairs=DIR --metrics=all --out=DIR
"""

from absl import flags

from smc_jax import command, compilation, evaluate

_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", "", "Training workdir, .safetensors file, or the name of packaged weights."
)
_FUSED = flags.DEFINE_multi_string(
    "fused", [], "Folder of images that someone else fused: DIR or NAME=DIR. May repeat."
)
_PAIRS = flags.DEFINE_string("pairs", "", "Folder with a/ and b/; a pair shares its file name.")
_DATASET = flags.DEFINE_string("dataset", "", "Instead of --pairs: a prepared data set's name.")
_DATA_DIR = flags.DEFINE_string("data_dir", "data", "Where prepared data sets are.")
_SPLIT = flags.DEFINE_string("split", "test", "Split of --dataset.")
_METRICS = flags.DEFINE_string("metrics", "paper", "paper, cddfuse, all, or names: MI,VIF,...")
_DIALECT = flags.DEFINE_string(
    "dialect", "cddfuse", "Whose definitions, where evaluators differ: cddfuse, tang, vifb, mefb."
)
_SHOWN = flags.DEFINE_integer("shown", 24, "How many pairs report.html shows.", lower_bound=0)
_OUT = flags.DEFINE_string("out", "", "Folder for the fused images, the tables and the report.")


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
        chosen=_METRICS.value,
        dialect=_DIALECT.value,
        shown=_SHOWN.value,
    )


if __name__ == "__main__":
    command.run(main)
