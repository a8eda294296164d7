"""Training on a tiny data set: what a step does, and that a run can be resumed."""

import json
import shutil
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny

from data_prep import build
from smc_jax import (
    checkpoint,
    evaluate,
    fusion,
    image_files,
    model,
    progress,
    sharding,
    train,
    train_state,
    train_step,
    writers,
)
from smc_jax.config import Config, override
from smc_jax.errors import ConfigError, ImageError, InputError
from smc_jax.types import Batch

ROOT = Path(__file__).parent.parent
TINY = tiny.QUICK | {
    "model.width": 8,
    "model.state": 4,
    "model.channel_state": 2,
    "model.mafe": False,
    "data.name": "tiny",
    "data.crop": 32,
    "train.steps": 6,
    "train.log_every": 1,
    "train.image_every": 3,
    "train.save_every": 3,
}


WHOLE = {"model.mafe": True, "model.scan_method": "auto", "model.bidirectional": True}
"""The network with all that `TINY` leaves out."""


@pytest.fixture(scope="module")
def cfg(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    r = np.random.default_rng(0)
    for index in range(5):
        for side in ("a", "b"):
            small = r.integers(0, 255, (10, 12)).astype(np.uint8)
            image_files.write(
                folder / "pairs/train" / side / f"{index}.png",
                np.kron(small, np.ones((4, 4), np.uint8)),
            )
    build.build(folder / "pairs", "ivif", "tiny", folder / "data")
    return override(Config(), TINY | {"data.dir": str(folder / "data")})


@pytest.fixture(scope="module")
def unbroken(cfg, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("unbroken")
    train.train(cfg, workdir)
    return workdir


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


class KilledError(Exception):
    pass


def killed_after(steps, jit_step):
    """Makes a run break off when it asks for another step after `steps`."""

    def broken(*arguments):
        step, done = jit_step(*arguments), []

        def counting(state, batch):
            if len(done) == steps:
                raise KilledError
            done.append(batch)
            return step(state, batch)

        return counting

    return broken


def test_run_leaves_metrics_images_and_checkpoints(cfg, unbroken):
    log = lines(unbroken)
    assert [line["step"] for line in log] == [1, 2, 3, 4, 5, 6]
    named = {"loss", "fcl", "pcl", "wb", "div", "cons", "ssim", "intensity", "lr", "grad_norm"}
    assert named <= log[0].keys()
    assert all(np.isfinite(list(line.values())).all() for line in log)
    assert [line["lambda"] for line in log] == pytest.approx(np.cos(np.arange(6) / 6 * np.pi / 2))
    total = sum(
        getattr(cfg.loss, k) * log[0][k] for k in ("fcl", "pcl", "wb", "div", "ssim", "intensity")
    )
    assert log[0]["loss"] == pytest.approx(total, rel=1e-5)
    panels = sorted(p.name for p in (unbroken / "images").iterdir())
    names = ("bands", "gate", "images")
    assert panels == [f"{step:07d}.{name}.png" for step in (3, 6) for name in names]
    shapes = [image_files.read(unbroken / "images" / panel).shape for panel in panels[:3]]
    assert shapes == [(32, 96), (32, 8), (32, 96)]
    assert {"3", "6"} <= {p.name for p in (unbroken / "checkpoints").iterdir()}


def test_resumed_run_equals_the_unbroken_one(cfg, unbroken, tmp_path, monkeypatch):
    # It breaks off right after a checkpoint, then after logging a step that no checkpoint has.
    for steps, written in ((3, 3), (2, 4)):
        with monkeypatch.context() as patch:
            patch.setattr(train_step, "jit_step", killed_after(steps, train_step.jit_step))
            with pytest.raises(KilledError):
                train.train(cfg, tmp_path)
        assert [line["step"] for line in lines(tmp_path)] == list(range(1, written + 1))
    train.train(cfg, tmp_path)
    assert lines(tmp_path) == lines(unbroken)
    states = [params(workdir) for workdir in (tmp_path, unbroken)]
    jax.tree.map(np.testing.assert_array_equal, *states)


def test_what_is_changed_on_the_way_is_told(cfg, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(train_step, "jit_step", killed_after(3, train_step.jit_step))
        with pytest.raises(KilledError):
            train.train(cfg, tmp_path)
    for values, told in (
        ({}, []),
        ({"loss.ssim": 2.5}, ["config.loss.ssim was 1.0 and is now 2.5"]),
    ):
        capsys.readouterr()
        changed = override(cfg, values)
        monkeypatch.setattr(train_step, "jit_step", killed_after(0, train_step.jit_step))
        with pytest.raises(KilledError):
            train.train(changed, tmp_path)
        out = capsys.readouterr().out.splitlines()
        assert [line for line in out if line.startswith("config.")] == told


def params(workdir):
    return checkpoint.load(workdir)[1]


def test_trained_run_is_left_alone(cfg, unbroken, capsys):
    before = (unbroken / "metrics.jsonl").read_bytes()
    train.train(cfg, unbroken)
    assert "is trained: step 6; config.train.steps is 6" in capsys.readouterr().out
    assert (unbroken / "metrics.jsonl").read_bytes() == before


def test_checkpoint_fuses_images(cfg, unbroken):
    saved, weights, _ = checkpoint.load(unbroken)
    assert saved == cfg
    a, b = np.random.default_rng(0).integers(0, 255, (2, 33, 47), dtype=np.uint8)
    fuser = fusion.Fuser(saved, weights)
    fused = fuser(a, b)
    assert (fused.shape, fused.dtype) == ((33, 47), np.uint8)
    assert fuser(a.astype(np.uint16) * 257, b).dtype == np.uint16
    rgb = np.stack([b, b // 2, b], -1)
    assert fuser(a, rgb).shape == (33, 47, 3)
    with pytest.raises(ImageError, match="47x33 and 47x20"):
        fuser(a, b[:20])
    with pytest.raises(ImageError, match="too small"):
        fuser(a[:9], b[:9])


def test_checkpoint_of_another_network_is_refused(cfg, unbroken):
    other = override(cfg, {"model.experts": 3, "train.steps": 9})
    with pytest.raises(ConfigError, match=r"does not fit.*model\.experts is 4 there, 3 here"):
        train.train(other, unbroken)


def test_trained_run_may_scan_and_clip_otherwise(cfg, unbroken, capsys):
    train.train(override(cfg, {"model.scan_method": "reference", "optim.clip": 1.0}), unbroken)
    assert "is trained" in capsys.readouterr().out


def test_damaged_checkpoint_is_named_and_the_one_before_it_taken(cfg, unbroken, tmp_path, capsys):
    workdir = tmp_path / "copy"
    shutil.copytree(unbroken, workdir)
    newest = workdir / "checkpoints" / "6"
    largest = max((newest / "state").rglob("d/*"), key=lambda file: file.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:1000])
    with pytest.raises(ConfigError, match="checkpoints/6 cannot be read: it is damaged") as raised:
        checkpoint.load(newest)
    assert len(str(raised.value).splitlines()) == 1
    before = checkpoint.load(workdir / "checkpoints/3")[1]
    jax.tree.map(np.testing.assert_array_equal, checkpoint.load(workdir)[1], before)
    assert "checkpoints/6 cannot be read" in capsys.readouterr().err
    train.train(cfg, workdir)
    assert "warning: the checkpoint" in capsys.readouterr().err
    assert [p.name for p in (workdir / "damaged_checkpoints").iterdir()] == ["6.0"]
    assert lines(workdir) == lines(unbroken)
    jax.tree.map(np.testing.assert_array_equal, params(workdir), params(unbroken))


def test_checkpoint_with_a_foreign_config_is_named(unbroken, tmp_path):
    workdir = tmp_path / "copy"
    shutil.copytree(unbroken, workdir)
    file = workdir / "checkpoints/6/config/metadata"
    file.write_text(file.read_text().replace('"top_k"', '"top_q"'))
    with pytest.raises(ConfigError, match=r"checkpoints/6: unknown config field model\.top_q"):
        checkpoint.load(workdir)


def test_workdir_without_checkpoint_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="holds no checkpoint"):
        checkpoint.load(tmp_path)


def test_crop_larger_than_an_image_is_refused(cfg, tmp_path):
    with pytest.raises(ConfigError, match=r"crop is 64, but 0 of tiny is 48x40"):
        train.train(override(cfg, {"data.crop": 64}), tmp_path)


def test_speed_leaves_out_the_step_that_was_compiled(monkeypatch, capsys):
    clock = iter([0.0, 30.0, 50.0, 50.0])  # created; first step done; third step done; line written
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    shown = progress.Progress(start=7, steps=107, batch=2)
    for step in (8, 9, 10):
        shown.advance(step)
    rate = shown.pairs_per_second(10)
    shown.write(10, {"loss": 1.25, "skipped": 0, "host/pairs_per_second": rate}, {})
    shown.close()
    assert capsys.readouterr().out == "step 10/107  loss 1.2500  0.20 pairs/s  16:10 left\n"


def test_progress_on_a_terminal_is_a_bar(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    shown = progress.Progress(start=0, steps=4, batch=1)
    for step in (1, 2):
        shown.advance(step)
        rate = shown.pairs_per_second(step) or 0
        shown.write(step, {"loss": 0.5, "skipped": 0, "host/pairs_per_second": rate}, {})
    shown.close()
    out, err = capsys.readouterr()
    assert out == ""
    assert "2/4" in err
    assert "loss 0.5000" in err
    assert "pairs/s" in err


def fixed_batch(size=2):
    y, x = np.mgrid[:32, :32] / 31
    a = np.stack([(np.sin(7 * x + i) * np.cos(5 * y) + 1) / 2 for i in range(size)])
    b = np.stack([(x + y * (i + 1)) / (i + 2) for i in range(size)])
    a, b = (v[..., None].astype(np.float32) for v in (a, b))
    return Batch(a, b, np.zeros(size, np.int32))


def test_one_step_is_what_it_was(cfg, monkeypatch):
    """If a change to the mathematics is intended, update the numbers and say so in CHANGELOG."""
    cfg, mesh = override(cfg, WHOLE), sharding.make_mesh()
    network = model.build(cfg.model)
    traced = []
    once = train_step._step
    monkeypatch.setattr(train_step, "_step", lambda *args: traced.append(None) or once(*args))
    state = train_state.create(cfg, network, mesh)
    step = train_step.jit_step(cfg, network, mesh)
    state, metrics, made = step(state, sharding.put(fixed_batch(1), mesh))
    step(state, sharding.put(fixed_batch(1), mesh))
    assert len(traced) == 1, "the second step was compiled anew: its state has other types"
    got = {name: float(metrics[name]) for name in GOLDEN}
    assert got == pytest.approx(GOLDEN, rel=1e-3)
    assert float(made.fused.mean()) == pytest.approx(GOLDEN_MEAN, rel=1e-3)


GOLDEN = {
    "loss": 3.36274,
    "fcl": 0.98799,
    "pcl": 0.120428,
    "wb": 1.58795,
    "div": 0.0211291,
    "cons": 0.143398,
    "ssim": 0.748836,
    "intensity": 0.166255,
    "grad_norm": 8.82209,
    "amplitude": 2.18475,
    "constant_share": 0.801296,
}
GOLDEN_MEAN = 0.521318


def test_evaluation_of_a_checkpoint(cfg, unbroken, tmp_path, capsys):
    r = np.random.default_rng(1)
    for side in ("a", "b"):
        image = r.integers(0, 255, (40, 48, 3), dtype=np.uint8)
        image_files.write(tmp_path / "pairs" / side / "one.png", image)
    out = tmp_path / "out"
    assert evaluate.main(str(out), checkpoint=str(unbroken), pairs=str(tmp_path / "pairs")) == 0
    assert "SMC-Mamba (paper)" in capsys.readouterr().out
    fused = fusion.Fuser(cfg, params(unbroken))
    pair = [image_files.read(tmp_path / "pairs" / side / "one.png") for side in ("a", "b")]
    np.testing.assert_array_equal(image_files.read(out / "fused" / "one.png"), fused(*pair))


def test_loss_that_is_not_finite_ends_the_run(cfg, tmp_path):
    """It also leaves no checkpoint of weights that have blown up."""
    wild = {"optim.lr": 1e30, "optim.schedule": "constant", "train.max_bad_steps": 2}
    with pytest.raises(InputError, match=r"3 steps in a row, up to 3, .*checkpoint is none"):
        train.train(override(cfg, wild | {"train.save_every": 10}), tmp_path)
    assert not [p for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()]
    assert [line["skipped"] for line in lines(tmp_path)] == [1, 2]


def test_loss_on_a_ground_truth_that_is_not_there_is_refused(cfg, tmp_path):
    with pytest.raises(ConfigError, match=r"loss\.truth needs pairs with a ground truth"):
        train.train(override(cfg, {"loss.truth": 1.0}), tmp_path)


def test_damaged_metrics_are_named(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(InputError, match=r'metrics\.jsonl is damaged at {"st; remove that line'):
        writers.Files(tmp_path, 3)


def test_workdir_that_is_a_file_is_refused(cfg, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match=r"--workdir=.*is a file; give a folder"):
        train.train(cfg, tmp_path / "file")
