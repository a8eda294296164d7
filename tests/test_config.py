"""The configuration: what it refuses, that recipes are valid, and what ablations change."""

import dataclasses
import importlib
import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
import tiny

from configs import ablations, msrs
from smc_jax import losses, model, scan_orders
from smc_jax.config import Config, Model, override
from smc_jax.errors import ConfigError
from smc_jax.fields import CHOICES
from smc_jax.losses import intensity, wavelet
from smc_jax.selective_scan import METHODS
from smc_jax.types import Batch

ROOT = Path(__file__).parent.parent
RECIPES = sorted(p.stem for p in (ROOT / "configs").glob("[a-z]*.py") if p.stem != "ablations")


def flat(cfg):
    def walk(tree, prefix=""):
        for name, value in tree.items():
            if isinstance(value, dict):
                yield from walk(value, f"{prefix}{name}.")
            else:
                yield prefix + name, value

    return dict(walk(dataclasses.asdict(cfg)))


def shapes(cfg):
    network = model.build(cfg.model)
    image = jax.ShapeDtypeStruct((1, 16, 16, 1), jnp.float32)
    params = jax.eval_shape(
        lambda a, b: network.init(jax.random.key(0), a, b, train=True)["params"], image, image
    )
    return {
        jax.tree_util.keystr(k): v.shape for k, v in jax.tree_util.tree_leaves_with_path(params)
    }


def terms(cfg):
    """The names of the loss terms that a step computes, of features that little was done to."""
    network = model.build(override(cfg, {"model.mafe": False} | tiny.QUICK).model)
    image = jax.ShapeDtypeStruct((1, 16, 16, 1), jnp.float32)

    def run(a, b):
        params = network.init(jax.random.key(0), a, b, train=True)
        fused, aux = network.apply(params, a, b, train=True)
        return losses.total(
            cfg.loss,
            fused,
            aux,
            Batch(a, b, jnp.zeros(1, jnp.int32)),
            0.5,
            jnp.ones(cfg.model.experts),
        )[1]

    return set(jax.eval_shape(run, image, image))


@pytest.mark.parametrize("setting", ["paper", "practical"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_is_valid_in_both_settings(recipe, setting):
    cfg = importlib.import_module(f"configs.{recipe}").get_config(setting)
    assert cfg.check().setting == setting
    rules = {"ivif": "max", "mdif": "max", "mfif": "mean", "meif": "mean", "general": "task_mean"}
    if setting == "practical":
        rules |= {"mfif": "sharper", "general": "task"}
    assert cfg.loss.intensity_rule == rules[cfg.task]
    assert Config.from_json(cfg.to_json()) == cfg


def test_base_is_the_papers_setting():
    loss, optim, network = (getattr(msrs.get_config(), k) for k in ("loss", "optim", "model"))
    assert (loss.fcl, loss.pcl, loss.wb, loss.ssim, loss.intensity) == (0.8, 0.4, 1, 1, 1)
    assert loss.gradient == 0
    assert (optim.lr, optim.schedule, optim.period, optim.b1) == (2e-4, "halving_cosine", 1000, 0.9)
    assert (network.experts, network.top_k) == (4, 2)


@pytest.mark.parametrize("row", ablations.ROWS)
def test_ablation_differs_exactly_where_it_says(row):
    parent, cfg = msrs.get_config(), ablations.get_config(row)
    differ = {k: v for k, v in flat(cfg).items() if flat(parent)[k] != v}
    assert differ == {"setting": f"paper, {row}", **ablations.ROWS[row]}


PARTS = {
    "no_mafe": "mafe",
    "no_mccm": "mccm",
    "no_sc_scan": "SpatialChannel",
    "no_fr_scan": "FrequencyRotation",
    "no_cm_scan": "['mccm']['",
    "single_direction": "_reverse",
}


@pytest.mark.parametrize("row", PARTS)
def test_ablation_of_the_model_takes_its_part_away(row):
    parent, cfg = shapes(msrs.get_config()), shapes(ablations.get_config(row))
    gone = parent.keys() - cfg.keys()
    assert gone
    assert cfg.keys() <= parent.keys()
    assert all(PARTS[row] in name for name in gone)
    if row == "no_cm_scan":
        assert all("spatial_" in name or "channel_" in name for name in gone)
    else:
        assert not any(PARTS[row] in name for name in cfg)


def test_single_expert_has_one_of_each_weight():
    parent, cfg = shapes(msrs.get_config()), shapes(ablations.get_config("single_expert"))
    assert parent.keys() == cfg.keys()
    for name, shape in cfg.items():
        if "Gate" in name:
            assert shape[-1] == 1
        elif "mccm" in name:
            assert (shape[0], *shape[1:]) == (1, *parent[name][1:])
        else:
            assert shape == parent[name]


LOSSES = {row: {k.removeprefix("loss.") for k in v} for row, v in ablations.ROWS.items()
          if all(k.startswith("loss.") for k in v)}  # fmt: skip


@pytest.mark.parametrize("row", LOSSES)
def test_ablation_of_the_loss_takes_its_terms_away(row):
    parent, cfg = msrs.get_config(), ablations.get_config(row)
    assert terms(parent) - terms(cfg) == LOSSES[row]
    assert shapes(parent) == shapes(cfg)


def test_without_experts_their_terms_fall_away():
    assert terms(ablations.get_config("no_mccm")) == {"fcl", "pcl", "ssim", "intensity"}


def test_ablation_of_the_practical_setting():
    cfg = ablations.get_config("no_fcl,practical")
    assert (cfg.setting, cfg.loss.fcl) == ("practical, no_fcl", 0.0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"train.stepz": 5}, "unknown config field train.stepz.*did you mean steps.*log_every"),
        ({"trian.steps": 5}, "unknown config field trian.steps.*train"),
        ({"model.width": 7}, "config.model.width is 7; it must be even"),
        ({"train.only": "decoder,head"}, "only is 'decoder,head'; it may name source_a, source_b"),
        ({"train.only": "mccm", "model.mccm": False}, "may name source_a, source_b, decoder, with"),
        ({"train.only": "source_b", "model.share_mafe": True}, "may name source_a, mccm, decoder"),
        ({"model.width": "wide"}, "config.model.width is 'wide'; it must be of type int"),
        ({"model.width": True}, "must be of type int"),
        ({"model.top_k": 5}, "config.model.top_k is 5, more than the 4 experts"),
        ({"data.crop": 8}, "config.data.crop is 8; it must be at least 16"),
        ({"optim.schedule": "cosin"}, "'cosin'; it may be halving_cosine, cosine"),
        ({"loss.fcl": -1.0}, "config.loss.fcl is -1.0; it must be at least 0"),
        ({"loss.eps": 0.0}, "config.loss.eps is 0.0; it must be at least 1e-12"),
        ({"loss.ssim_span": 0.0}, "config.loss.ssim_span is 0.0; it must be at least 0.001"),
        ({"optim.lr": float("nan")}, "config.optim.lr is nan; it must be at least 0"),
        ({"optim.b2": 1.0}, r"config.optim.b2 is 1.0; it must lie in \[0, 1\)"),
        ({"train.seed": -1}, "config.train.seed is -1; it must be at least 0"),
        ({"train.seed": 2**63}, f"config.train.seed is {2**63}; that is too large"),
        ({"model": 3}, "config.model holds fields of its own"),
        (
            {"model.local": False, "model.sc_scan": False, "model.fr_scan": False},
            "config.model.mafe needs one of",
        ),
    ],
)
def test_what_cannot_be_run_is_refused_by_name(values, message):
    with pytest.raises(ConfigError, match=message):
        override(Config(), values)


def test_override_leaves_its_argument_alone():
    cfg = Config()
    assert override(cfg, {"loss.fcl": 0}).loss.fcl == 0.0
    assert cfg == Config()


def test_json_of_another_version_is_refused():
    values = json.loads(Config().to_json())
    values["model"]["heads"] = 8
    with pytest.raises(ConfigError, match=r"unknown config field model\.heads"):
        Config.from_json(json.dumps(values))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config=configs/msrs.py", "--config.train.stepz=5"], "train.stepz"),
        (["--config=configs/msrs.py", "--config.train.steps=many"], "train.steps"),
        (["--config=configs/msrs.py", "--config.train.steps=0"], "at least 1"),
        (["--config=configs/ablations.py:no_such"], "no_mafe"),
        (["--config=configs/msrs.py:fast"], "practical"),
        (["--config=configs/none.py"], "configs/none.py"),
        (["--config", "configs/none.py"], "configs/none.py"),
        (["--config", "configs/msrs.py", "--config.data.name", "none"], "-m data_prep"),
        (["--config=configs/msrs.py", "--config.data.name=a:1,b:0"], "NAME:SHARE"),
        (["--config=configs/msrs.py", "--confg.train.steps=5"], "confg"),
        (["--config={broken}"], "the config cannot be loaded: ZeroDivisionError: division by zero"),
        (["--config={other}"], "must return a smc_jax.config.Config"),
        ([], "--config"),
    ],
)
def test_command_line_errors_are_one_line(arguments, message, tmp_path):
    broken, other = tmp_path / "broken.py", tmp_path / "other.py"
    broken.write_text("1 / 0\n")
    other.write_text("def get_config():\n    return {}\n")
    arguments = [argument.format(broken=broken, other=other) for argument in arguments]
    command = [sys.executable, "train.py", f"--workdir={tmp_path / 'w'}", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
    assert message in done.stderr
    assert not (tmp_path / "w").exists()


def test_choices_are_those_that_the_code_offers():
    offered = {
        "model.frequency_order": scan_orders.GRIDS,
        "model.cross_order": scan_orders.CROSSINGS,
        "model.scan_method": set(METHODS),
        "loss.intensity_rule": [*intensity.RULES, *intensity.RULES_OF_TASKS],
        "loss.wavelet": wavelet.SCHEMES,
    }
    assert {field: set(CHOICES[field]) for field in offered} == {
        field: set(names) for field, names in offered.items()
    }


def test_network_has_the_defaults_of_its_config():
    assert model.build(Model()) == model.SMCMamba()
