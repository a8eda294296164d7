"""Validation, the best checkpoint, fine-tuning, bad steps, logging and what the loop waits for."""

import contextlib
import json
import shutil
import sys
import types
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny

from data_prep import build
from smc_jax import (
    checkpoint,
    data_source,
    evaluate,
    image_files,
    input_pipeline,
    metrics,
    model,
    train,
    train_step,
    writers,
)
from smc_jax.config import Config, override
from smc_jax.errors import ConfigError, InputError
from smc_jax.validation import Validator


@pytest.fixture(scope="module")
def cfg(tmp_path_factory):
    folder = tiny.data_set(tmp_path_factory.mktemp("tiny"), ("train", "val"))
    values = {"data.dir": folder, "validation.metrics": "EN,SD,MSE", "validation.best": "SD"}
    return override(Config(), tiny.TINY | tiny.QUICK | values)


@pytest.fixture(scope="module")
def validated(cfg, tmp_path_factory):
    """A run that validates every second step and keeps a moving average of the weights."""
    workdir = tmp_path_factory.mktemp("validated")
    values = {"validation.every": 2, "train.ema": 0.8, "train.keep": 1, "train.save_every": 1000}
    train.train(override(cfg, values), workdir)
    return workdir


def lines(workdir, name="metrics.jsonl"):
    return [json.loads(line) for line in (workdir / name).read_text().splitlines()]


def test_validation_is_logged_and_the_best_is_kept(cfg, validated, tmp_path):
    log = lines(validated)
    assert [line["step"] for line in log] == [1, 2, 3, 4, 5, 6]
    scores = {line["step"]: line["val/SD"] for line in log if "val/SD" in line}
    assert list(scores) == [2, 4, 6]
    best = max(scores, key=scores.get)
    saved = {int(p.name) for p in (validated / "checkpoints").iterdir()}
    assert saved == {best, 6}
    mean = checkpoint.load(validated / "best")[1]
    jax.tree.map(
        np.testing.assert_array_equal, mean, checkpoint.load(validated / f"checkpoints/{best}")[1]
    )
    # The logged score is that of this checkpoint: validation uses the average of the weights.
    again = Validator(override(cfg, {"validation.every": 2}), model.build(cfg.model))
    assert again(mean)["SD"] == pytest.approx(scores[best], rel=1e-6)


def test_validation_scores_what_evaluation_does(cfg, validated, tmp_path):
    params = checkpoint.load(validated).params
    scores = Validator(override(cfg, {"validation.every": 1}), model.build(cfg.model))(params)
    out = str(tmp_path / "out")
    where = {"dataset": "tiny", "data_dir": cfg.data.dir, "split": "val"}
    assert evaluate.main(out, checkpoint=str(validated), chosen="EN,SD,MSE", **where) == 0
    methods = json.loads((tmp_path / "out" / "metrics.json").read_text())["methods"]
    (ours,) = (row["mean"] for name, row in methods.items() if name.startswith("SMC-Mamba"))
    assert set(scores) == {"EN", "SD", "MSE"}
    assert scores == pytest.approx({name: ours[name] for name in scores}, rel=1e-5)


def test_best_may_be_the_lowest(cfg, tmp_path):
    values = {"validation.every": 1, "validation.best": "MSE", "train.keep": 1, "train.steps": 4}
    train.train(override(cfg, values | {"train.save_every": 1000}), tmp_path)
    scores = {line["step"]: line["val/MSE"] for line in lines(tmp_path)}
    saved = {int(p.name) for p in (tmp_path / "checkpoints").iterdir()}
    assert saved == {min(scores, key=scores.get), 4}
    assert metrics.METRICS["MSE"].higher_is_better is False


def test_damaged_scores_cost_no_checkpoint(cfg, validated, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(validated, run)
    shutil.copytree(run / "checkpoints/6", run / "checkpoints/4", dirs_exist_ok=True)
    (run / "checkpoints/6/metrics/metrics").write_bytes(b"\xa5")
    assert checkpoint.load(run / "best").step < 6
    assert checkpoint.load(run).step == 6
    assert train.train(override(cfg, {"validation.every": 2, "train.ema": 0.8}), run) == 0
    told = capsys.readouterr()
    assert "is trained: step 6; config.train.steps is 6" in told.out
    assert "warning: the validation of checkpoint 6 in" in told.err
    assert [p.name for p in (run / "damaged_checkpoints").iterdir()] == ["6.metrics.0"]


def test_what_a_failed_save_leaves_under_way_is_quiet(cfg, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda found: told.append(str(found.exc_value)))
    with checkpoint.manager(tmp_path, cfg):
        for message in ("Event loop is closed", "another"):
            sys.unraisablehook(types.SimpleNamespace(exc_value=RuntimeError(message)))
    assert told == ["another"]
    sys.unraisablehook(types.SimpleNamespace(exc_value="restored"))
    assert told == ["another", "restored"]


def test_part_of_a_split_can_be_validated_on(cfg, tmp_path):
    values = {"validation.every": 6, "validation.split": "train[60%:]", "train.save_every": 1000}
    cfg = override(cfg, values)
    chosen = Validator(cfg, model.build(cfg.model))._chosen
    names = [data_source.pair(source, index).name for source, index in chosen]
    assert names == ["train3", "train4"]


def test_all_data_sets_of_a_mixture_are_validated_on(cfg, tmp_path):
    folder = Path(cfg.data.dir)
    shutil.copytree(folder / "tiny", tmp_path / "tiny")
    build.build(folder.parent / "pairs", "mdif", "other", tmp_path)
    values = {"data.dir": str(tmp_path), "data.name": "tiny:2,other", "task": "general"}
    cfg = override(cfg, values | {"validation.every": 6, "validation.pairs": 4})
    chosen = Validator(cfg, model.build(cfg.model))._chosen
    tasks = [source.dataset_info.metadata["task"] for source, _ in chosen]
    assert tasks == ["ivif", "ivif", "mdif", "mdif"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"validation.split": "no"}, "has no split 'no', but train, val"),
        ({"validation.best": "VIF"}, "validation.best is 'VIF'; it may be one of .*EN, SD, MSE"),
        ({"validation.metrics": "XY"}, "there is no metric XY"),
    ],
)
def test_validation_that_cannot_be_is_refused(cfg, tmp_path, values, message):
    with pytest.raises(ConfigError, match=message):
        train.train(override(cfg, {"validation.every": 1} | values), tmp_path)
    assert not (tmp_path / "checkpoints").exists()


def test_validation_on_images_that_are_too_small_is_refused(cfg, tmp_path):
    for split, size in {"train": (20, 24), "val": (16, 24)}.items():
        for side in ("a", "b"):
            image = np.arange(size[0] * size[1], dtype=np.uint8).reshape(size)
            image_files.write(tmp_path / "pairs" / split / side / "one.png", image)
    build.build(tmp_path / "pairs", "ivif", "small", tmp_path / "data")
    values = {"validation.every": 1, "data.name": "small", "data.dir": str(tmp_path / "data")}
    with pytest.raises(ConfigError, match="one of small is 24x16; metrics need images of at least"):
        train.train(override(cfg, values), tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_run_that_was_not_validated_has_no_best(cfg, tmp_path):
    train.train(override(cfg, {"train.steps": 1}), tmp_path)
    with pytest.raises(ConfigError, match=r"was not validated; set config\.validation\.every"):
        checkpoint.load(tmp_path / "best")
    with pytest.raises(ConfigError, match="holds no checkpoint"):
        checkpoint.load(tmp_path / "checkpoints/7")


def test_evaluation_takes_the_mean_of_the_weights(cfg, validated):
    mean = checkpoint.load(validated).params
    with_mean = override(cfg, {"train.ema": 0.8})
    state = restored(with_mean, validated)
    jax.tree.map(np.testing.assert_array_equal, mean, state.ema)
    leaves = zip(jax.tree.leaves(mean), jax.tree.leaves(state.params), strict=True)
    assert any(not np.array_equal(a, b) for a, b in leaves)


@contextlib.contextmanager
def with_step(jit_step, **functions):
    """Replaces functions of `train_step` within the block."""
    with pytest.MonkeyPatch.context() as patch:
        for name, function in {"jit_step": jit_step, **functions}.items():
            patch.setattr(train_step, name, function)
        yield


def restored(cfg, workdir):
    from smc_jax import sharding, train_state

    empty = train_state.abstract(cfg, model.build(cfg.model), sharding.one_device())
    batches = input_pipeline.batches(cfg.data, cfg.task, cfg.train.seed)
    with checkpoint.manager(workdir, cfg) as checkpoints:
        return jax.device_get(checkpoint.restore(checkpoints, empty, batches, cfg))


def test_mean_of_the_weights_may_begin_in_the_middle(cfg, tmp_path):
    """It then begins as the weights of the checkpoint, and it may end in the middle as well."""
    train.train(override(cfg, {"train.steps": 3}), tmp_path)
    state = restored(override(cfg, {"train.ema": 0.9}), tmp_path)
    jax.tree.map(np.testing.assert_array_equal, state.ema, state.params)
    train.train(override(cfg, {"train.ema": 0.9}), tmp_path)
    assert restored(cfg, tmp_path).ema is None


def test_training_begins_with_the_weights_of_another_run(cfg, validated, tmp_path):
    begun = []

    def catch(*arguments):
        def step(state, batch):
            begun.append(jax.device_get(state))
            raise KeyboardInterrupt

        return step

    fine = override(cfg, {"train.init_from": str(validated), "train.ema": 0.9})
    with with_step(catch), pytest.raises(KeyboardInterrupt):
        train.train(fine, tmp_path)
    params = checkpoint.load(validated).params
    for tree in (begun[0].params, begun[0].ema):
        jax.tree.map(np.testing.assert_array_equal, tree, params)
    assert int(begun[0].step) == 0
    other = override(cfg, {"train.init_from": str(validated), "model.width": 8})
    with pytest.raises(ConfigError, match=r"init_from: the network of .* is another one"):
        train.train(other, tmp_path / "other")


def test_too_many_bad_steps_end_a_run_and_name_the_pairs(cfg, tmp_path):
    values = {"train.max_bad_steps": 1, "train.save_every": 2, "data.batch": 2}
    calls = []
    jit_step = train_step.jit_step

    def poisoned(*arguments):
        step = jit_step(*arguments)

        def run(state, batch):
            calls.append(None)
            if len(calls) in (2, 4, 5):
                batch = batch._replace(a=batch.a * np.nan)
            return step(state, batch)

        return run

    run = override(cfg, values)
    with with_step(poisoned), pytest.raises(InputError) as raised:
        train.train(run, tmp_path)
    names = input_pipeline.names(run.data, run.train.seed, 5)
    message = str(raised.value)
    assert message.startswith("2 steps in a row, up to 5, ")
    assert f"the last batch was {names[0]}, {names[1]}. " in message
    assert "newest checkpoint is that of step 4" in message
    log = lines(tmp_path)
    assert [(line["step"], line["skipped"], line["bad"]) for line in log] == [
        (1, 0, 0), (2, 1, 1), (3, 1, 0), (4, 2, 1)
    ]  # fmt: skip
    assert log[1]["loss"] is None
    assert log[2]["loss"] is not None


def test_debug_nans_stops_in_the_operation(cfg, tmp_path):
    jit_step = train_step.jit_step

    def poisoned(*arguments):
        step = jit_step(*arguments)
        return lambda state, batch: step(state, batch._replace(a=batch.a * 0 - 1))

    def root(cfg, network, transform, rate, joined, state, batch):
        return state, {"bad": jax.numpy.log(batch.a.mean())}, batch

    debugged = override(cfg, {"train.debug_nans": True})
    with with_step(poisoned, _step=root), pytest.raises(FloatingPointError, match="nan"):
        train.train(debugged, tmp_path)


def test_debug_nans_stops_in_the_network(cfg, tmp_path):
    jit_step = train_step.jit_step

    def nowhere(image):
        return jax.device_put(np.full(image.shape, np.nan, image.dtype))

    def poisoned(*arguments):
        step = jit_step(*arguments)
        return lambda state, batch: step(state, batch._replace(a=nowhere(batch.a)))

    debugged = override(cfg, {"train.debug_nans": True})
    with with_step(poisoned), pytest.raises(FloatingPointError, match="nan") as caught:
        train.train(debugged, tmp_path)
    assert any(frame.path.name in ("conv.py", "model.py") for frame in caught.traceback)


def test_good_run_has_no_nans_to_debug(cfg, tmp_path):
    values = {"train.debug_nans": True, "model.mafe": True, "train.steps": 2}
    assert train.train(override(cfg, values), tmp_path) == 0


def test_loop_reads_a_step_only_after_it_dispatched_the_next(cfg, tmp_path, monkeypatch):
    """It also makes no implicit transfer between host and device."""
    events = []
    jit_step, finish = train_step.jit_step, train._finish

    def watched(*arguments):
        step = jit_step(*arguments)

        def run(state, batch):
            events.append("dispatch")
            return step(state, batch)

        return run

    def finishing(log, turn, scores=None):
        events.append(f"read {turn.step}")
        finish(log, turn, scores)

    monkeypatch.setattr(train_step, "jit_step", watched)
    monkeypatch.setattr(train, "_finish", finishing)
    loop = range  # the guard begins with the loop, after the state is created
    with contextlib.ExitStack() as stack:

        def guarded(*arguments):
            stack.enter_context(jax.transfer_guard("disallow"))
            return loop(*arguments)

        monkeypatch.setattr(train, "range", guarded, raising=False)
        train.train(override(cfg, {"train.save_every": 1000, "train.steps": 4}), tmp_path)
    assert events == [
        "dispatch", "dispatch", "read 1", "dispatch", "read 2", "dispatch", "read 3", "read 4"
    ]  # fmt: skip


def test_trace_of_some_steps(cfg, tmp_path):
    train.train(override(cfg, {"train.trace_steps": 2}), tmp_path)
    assert list((tmp_path / "trace").rglob("*.xplane.pb"))


def test_host_quantities_are_apart(cfg, validated):
    host = lines(validated, "host.jsonl")
    assert [line["step"] for line in host] == [1, 2, 3, 4, 5, 6]
    assert host[0]["memory_mb"] > 10
    assert host[3]["pairs_per_second"] > 0
    assert not any("memory_mb" in line or "host" in str(line) for line in lines(validated))


def panels():
    return {"images": np.linspace(-0.5, 1.5, 12).reshape(3, 4)}


def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboardX", reason="pip install '.[tensorboard]'")
    writer = writers.TensorBoard(tmp_path, 0)
    writer.write(1, {"loss": 2.0, "val/VIF": 0.5}, panels())
    writer.close()
    event = next((tmp_path / "tensorboard").iterdir()).read_bytes()
    assert all(name in event for name in (b"loss", b"val/VIF", b"images"))


def test_weights_and_biases(cfg, tmp_path, monkeypatch):
    calls = []
    run = types.SimpleNamespace(
        log=lambda values, step: calls.append((step, values)), finish=lambda: calls.append("end")
    )
    fake = types.SimpleNamespace(init=lambda **k: calls.append(k) or run, Image=lambda v: v.shape)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    cfg = override(cfg, {"train.wandb": "fusion", "train.steps": 2, "train.image_every": 1})
    train.train(cfg, tmp_path / "run")
    assert calls[0]["project"] == "fusion"
    assert calls[0]["name"] == "run"
    assert calls[0]["id"] == (tmp_path / "run/wandb_id").read_text()
    writers.WeightsAndBiases(tmp_path / "run", "fusion", cfg)
    assert calls[-1]["id"] == calls[0]["id"], "a run that goes on"
    (tmp_path / "other/run").mkdir(parents=True)
    writers.WeightsAndBiases(tmp_path / "other/run", "fusion", cfg)
    assert calls[-1]["id"] != calls[0]["id"]
    assert calls[0]["config"]["train"]["wandb"] == "fusion"
    assert [step for step, _ in calls[1:3]] == [1, 2]
    assert calls[1][1]["images"] == (16, 48)
    assert {"loss", "grad_norm", "host/memory_mb"} <= calls[1][1].keys()
    assert calls[3] == "end"


def test_weights_and_biases_without_an_account(cfg, tmp_path, monkeypatch):
    def init(**_):
        raise RuntimeError("no API key\n  configured")

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init, Image=None))
    with pytest.raises(ConfigError, match=r"config\.train\.wandb=x: no API key configured"):
        writers.WeightsAndBiases(tmp_path, "x", cfg)


@pytest.mark.parametrize(
    ("module", "values"),
    [("tensorboardX", {"train.tensorboard": True}), ("wandb", {"train.wandb": "x"})],
)
def test_writer_that_is_not_installed_is_told(cfg, tmp_path, monkeypatch, module, values):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=rf"needs {module}: pip install"):
        train.train(override(cfg, values), tmp_path)


def test_panels_show_sources_bands_and_gate(validated):
    images = validated / "images"
    shown = image_files.read(images / "0000006.images.png")
    bands = image_files.read(images / "0000006.bands.png")
    assert shown.shape == bands.shape == (16, 48)
    low = shown[:, :16].reshape(8, 2, 8, 2).mean((1, 3))
    np.testing.assert_allclose(bands[:8, :8], low, atol=1)
    gate = image_files.read(images / "0000006.gate.png")
    assert gate.shape == (16, 8)
    assert abs(int(gate[0, 0]) + int(gate[8, 0]) - 255) <= 1
