"""Exports to folders: parameters by orbax, and programs that run without this package."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
import weight_files
from absl import logging

from smc_jax import export, fusion, model, train, train_step, weights
from smc_jax.checkpoint.folder import quiet
from smc_jax.config import override
from smc_jax.errors import ConfigError
from smc_jax.weights import folder

ROOT = Path(__file__).parent.parent
WITHOUT = """
import runpy, sys
sys.modules["smc_jax"] = None  # whoever asks for it gets an error
program = runpy.run_path(sys.argv[1])["program"]
import numpy as np
a, b, fused = (np.load(f"{sys.argv[2]}/{name}.npy") for name in ("a", "b", "fused"))
np.testing.assert_allclose(program.call(a, b), fused, atol=1e-5)
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "x.safetensors"
    return path, *weight_files.make(path, bidirectional=False)


@pytest.fixture(scope="module")
def by_orbax(made, tmp_path_factory):
    out = tmp_path_factory.mktemp("orbax") / "new" / "x"
    assert export.main([str(made[0]), "--format=orbax", f"--out={out}", "--data=none at all"]) == 0
    return out


@pytest.fixture(scope="module")
def programs(made, tmp_path_factory):
    pytest.importorskip("flatbuffers", reason="pip install '.[export]'")
    out = tmp_path_factory.mktemp("stablehlo") / "x"
    flags = ["--format=stablehlo", "--sizes=37x20,32x32", f"--out={out}"]
    assert export.main([str(made[0]), *flags]) == 0
    return out


def run(*arguments):
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=arguments[-1].parent,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_orbax_gives_back_what_went_in(made, by_orbax):
    _, cfg, params = made
    found = folder.read(by_orbax)
    assert found.config == cfg
    assert found.about == {"data": "none at all", "steps": 0, "seed": 0}
    chex.assert_trees_all_equal(found.params, params)
    chex.assert_trees_all_equal(weights.load(by_orbax)[1], params)
    assert "| data | none at all |" in (by_orbax / "README.md").read_text()


def test_reading_leaves_the_log_of_others_alone(by_orbax):
    logger = logging.get_absl_logger()
    before = logger.level, logger.disabled, logging.get_verbosity()
    weights.load(by_orbax)
    assert (logger.level, logger.disabled, logging.get_verbosity()) == before
    with quiet():
        assert not logger.isEnabledFor(logging.converter.STANDARD_CRITICAL)


def test_its_example_loads_it_in_a_fresh_process(made, by_orbax):
    _, cfg, params = made
    assert len(folder.LOADING.splitlines()) == 11, "a line that tells, and ten"
    a, b = jax.random.uniform(jax.random.key(0), (2, 1, 64, 64, 1))
    fused, _ = jax.jit(model.build(cfg.model).apply)({"params": params}, a, b)
    shape, mean = run(by_orbax / "load.py").rsplit(maxsplit=1)
    assert shape == "(1, 64, 64, 1)"
    assert float(mean) == pytest.approx(float(fused.mean()), abs=1e-5)


def test_folder_may_be_exported_again_and_in_bfloat16(made, by_orbax, tmp_path):
    again = [str(by_orbax), "--format=orbax", "--dtype=bfloat16", f"--out={tmp_path / 'half'}"]
    assert export.main(again) == 0
    found = folder.read(tmp_path / "half").params
    expected = jax.tree.map(lambda v: v.astype(jnp.bfloat16).astype(jnp.float32), made[2])
    chex.assert_trees_all_equal(found, expected)
    run(tmp_path / "half" / "load.py")


def test_program_runs_without_this_package(made, programs, tmp_path):
    """It takes a batch of three, and agrees with `smc_jax.fuse`, which pads images."""
    fuser = fusion.Fuser(made[1], made[2])
    a, b = np.random.default_rng(0).uniform(size=(2, 3, 20, 37)).astype(np.float32)
    fused = np.stack([fuser.luma(*pair) for pair in zip(a, b, strict=True)])
    for name, images in {"a": a, "b": b, "fused": fused}.items():
        np.save(tmp_path / name, images[..., None])
    run("-c", WITHOUT, programs / "run.py", tmp_path)


def test_programs_are_for_two_platforms(programs):
    from jax import export as exported

    names = sorted(path.name for path in programs.glob("*.stablehlo"))
    assert names == [f"{s}.{p}.stablehlo" for s in ("32x32", "37x20") for p in ("cpu", "cuda")]
    for name in names:
        program = exported.deserialize(bytearray((programs / name).read_bytes()))
        assert program.platforms == (name.split(".")[1],)
        assert str(program.in_avals[0].shape[0]) == "b"
        calls = re.findall(r"custom_call @(\w+)", program.mlir_module())
        assert set(calls) <= {"shape_assertion"}, "what one version of XLA alone knows"


@pytest.mark.parametrize("kind", ["orbax", "safetensors"])
def test_training_begins_with_what_was_exported(made, by_orbax, tmp_path, kind):
    begun = []

    def catch(*arguments):
        def step(state, batch):
            begun.append(jax.device_get(state.params))
            raise KeyboardInterrupt

        return step

    _, cfg, params = made
    start = {"orbax": by_orbax, "safetensors": made[0]}[kind]
    values = {k: v for k, v in tiny.TINY.items() if not k.startswith("model.")} | {
        "task": "ivif",
        "data.dir": tiny.data_set(tmp_path),
        "train.init_from": str(start),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_step, "jit_step", catch)
        with pytest.raises(KeyboardInterrupt):
            train.train(override(cfg, values), tmp_path / "run")
    chex.assert_trees_all_equal(begun[0], params)


@pytest.mark.parametrize("what", ["params/d", "params/_METADATA", "about.json", "config.json"])
def test_damaged_folder_is_told(by_orbax, tmp_path, what, capfd):
    copy = tmp_path / "copy"
    shutil.copytree(by_orbax, copy)
    for file in [copy / what] if (copy / what).is_file() else (copy / what).iterdir():
        file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(ConfigError, match="is damaged or no folder of weights") as caught:
        weights.load(copy)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_programs_are_no_weights(programs):
    with pytest.raises(ConfigError, match="holds programs, whose weights cannot be taken out"):
        weights.load(programs)


@pytest.mark.parametrize("sizes", ["", "640", "640x480,", "640x15", "-640x480", "640x480x3"])
def test_sizes_that_are_none_are_told(made, tmp_path, capsys, sizes):
    flags = ["--format=stablehlo", f"--sizes={sizes}", f"--out={tmp_path / 'x'}"]
    assert export.main([str(made[0]), *flags]) == 2
    assert "give width and height, such as 640x480,1024x768; 16x16 is least" in (
        capsys.readouterr().err
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["orbax", "stablehlo"])
def test_what_is_there_stays(made, tmp_path, capsys, kind):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "mine").touch()
    pytest.importorskip("flatbuffers", reason="pip install '.[export]'")
    for out, message in (("x", "is there already"), ("x/mine/y", "cannot be written")):
        flags = [f"--format={kind}", f"--out={tmp_path / out}", "--overwrite"]
        assert export.main([str(made[0]), *flags]) == 2
        told = capsys.readouterr().err
        assert message in told
        assert len(told.splitlines()) == 1
    assert [p.name for p in tmp_path.rglob("*")] == ["x", "mine"]


def test_without_flatbuffers_it_says_how_to_get_it(made, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "flatbuffers", None)
    assert export.main([str(made[0]), "--format=stablehlo", f"--out={tmp_path / 'x'}"]) == 2
    assert "needs flatbuffers: pip install" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
