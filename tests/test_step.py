"""One training step: remat, precision, accumulation, frozen parts, skipped steps, averages."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from smc_jax import model, optim, sharding, train_state, train_step, update
from smc_jax.config import Config, override
from smc_jax.types import Batch

SMALL = tiny.TINY | tiny.QUICK | {"data.batch": 4}
WHOLE = {"model.mafe": True}
"""Switches on MAFE, which `SMALL` leaves out."""


def images(size=4):
    a, b = np.random.default_rng(0).uniform(size=(2, size, 16, 16, 1)).astype(np.float32)
    return Batch(a, b, jnp.zeros(len(a), jnp.int32))


def abstract(image):
    return Batch(image, image, jax.ShapeDtypeStruct(image.shape[:1], jnp.int32))


def stepped(values, batch, steps=1, change=None):
    """Returns the state after some steps on one batch, and the last one's metrics and results."""
    cfg = override(Config(), SMALL | values)
    mesh, network = sharding.one_device(), model.build(cfg.model)
    state = train_state.create(cfg, network, mesh)
    if change is not None:
        state = change(state)
    step = train_step.jit_step(cfg, network, mesh)
    for _ in range(steps):
        state, metrics, made = step(state, sharding.put(batch, mesh))
    return jax.device_get(state), {k: float(v) for k, v in metrics.items()}, jax.device_get(made)


@pytest.fixture(scope="module")
def plain():
    return stepped({}, images())


@pytest.fixture(scope="module")
def whole():
    return stepped(WHOLE, images())


def test_remat_changes_nothing(whole):
    state, metrics, made = stepped(WHOLE | {"model.remat": True}, images())
    assert metrics == pytest.approx(whole[1], rel=1e-4, abs=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), made, whole[2])
    shapes = [jax.tree.map(np.shape, s.params) for s in (state, whole[0])]
    assert shapes[0] == shapes[1]


def _backward(network):
    image = jnp.zeros((1, 32, 32, 1))

    def backward():
        params = network.init(jax.random.key(0), image, image, train=True)
        return jax.vjp(lambda p: network.apply(p, image, image, train=True)[0], params)[1]

    return backward


def test_remat_keeps_less():
    """Counts what JAX keeps for the gradient; what the compiler allocates for it may differ."""
    kept = []
    for remat in (False, True):
        cfg = override(Config(), SMALL | WHOLE | {"model.remat": remat})
        residuals = jax.tree.leaves(jax.eval_shape(_backward(model.build(cfg.model))))
        kept.append(sum(v.size * v.dtype.itemsize for v in residuals))
    assert kept[1] < 0.5 * kept[0], kept


def test_bfloat16_stays_close(whole):
    state, metrics, made = stepped(WHOLE | {"train.dtype": "bfloat16"}, images())
    assert all(v.dtype == np.float32 for v in jax.tree.leaves((state.params, made)))
    assert abs(made.fused - whole[2].fused).max() < 0.02
    assert not np.array_equal(made.fused, whole[2].fused)
    for name in ("loss", "fcl", "pcl", "ssim", "intensity", "cons"):
        assert metrics[name] == pytest.approx(whole[1][name], rel=0.05, abs=0.01), name
    moved, wanted = (
        np.concatenate([np.ravel(v) for v in jax.tree.leaves(s.opt_state[1][0].mu)])
        for s in (state, whole[0])
    )
    cosine = moved @ wanted / np.linalg.norm(moved) / np.linalg.norm(wanted)
    assert cosine > 0.98


def test_bfloat16_computes_features_in_it():
    cfg = override(Config(), SMALL | WHOLE | {"train.dtype": "bfloat16"})
    mesh, network = sharding.one_device(), model.build(cfg.model)
    state = train_state.abstract(cfg, network, mesh)
    image = jax.ShapeDtypeStruct((4, 16, 16, 1), jnp.float32)
    text = train_step.jit_step(cfg, network, mesh).lower(state, abstract(image)).as_text()
    convolutions = [line for line in text.splitlines() if "stablehlo.convolution" in line]
    assert convolutions
    assert not [line for line in convolutions if "bf16" not in line]


def test_accumulated_parts_are_the_whole_batch():
    """If the loss is a mean over pairs: without experts, and without ratios over the batch."""
    values = {"model.mccm": False} | {
        f"loss.{name}": 0.0 for name in ("wb", "div", "cons", "fcl", "pcl")
    }
    whole = stepped(values, images())
    parts = stepped(values | {"train.accumulate": 2}, images())
    for name in ("loss", "ssim", "intensity", "grad_norm"):
        assert parts[1][name] == pytest.approx(whole[1][name], rel=1e-4)
    np.testing.assert_allclose(parts[2].fused, whole[2].fused, atol=1e-5)
    for mine, theirs in zip(*map(jax.tree.leaves, (parts[0].params, whole[0].params)), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


def test_accumulated_steps_run_with_experts_and_noise():
    state, metrics, made = stepped({"train.accumulate": 4}, images(), steps=2)
    assert made.fused.shape == (4, 16, 16, 1)
    assert made.weights.shape == (4, 2)
    assert np.isfinite(list(metrics.values())).all()
    assert int(state.step) == 2


def test_only_named_parts_learn():
    """The others stay as they are, whatever moments the optimiser holds for them."""
    cfg = override(Config(), SMALL | WHOLE)
    before = train_state.create(cfg, model.build(cfg.model), sharding.one_device()).params

    def change(state):
        remembered = jax.tree.map(jnp.ones_like, state.opt_state)
        return dataclasses.replace(state, opt_state=remembered)

    after = stepped(WHOLE | {"train.only": "mccm,decoder"}, images(), change=change)[0].params
    moved = {
        part: [not np.array_equal(x, y) for x, y in zip(*map(jax.tree.leaves, both), strict=True)]
        for part, both in {k: (before[k], after[k]) for k in before}.items()
    }
    assert {part for part, leaves in moved.items() if any(leaves)} == {"mccm", "decoder"}
    assert all(moved["decoder"])


@pytest.mark.parametrize("poison", ["batch", "weights"])
def test_step_that_is_not_finite_is_skipped_and_counted(poison):
    batch = images()
    if poison == "batch":
        batch.a[0, 3, 3] = np.nan

    def change(state):
        if poison == "batch":
            return state
        # The weights become so large that the network overflows, but stay finite themselves.
        blown = jax.tree.map(lambda v: v * 3e37, state.params)
        return dataclasses.replace(state, params=blown, ema=train_state.copied(blown))

    cfg = override(Config(), SMALL | {"train.ema": 0.9})
    begun = train_state.create(cfg, model.build(cfg.model), sharding.one_device())
    begun = jax.device_get(change(begun))
    state, metrics, _ = stepped({"train.ema": 0.9}, batch, steps=2, change=change)
    assert (metrics["skipped"], metrics["bad"]) == (2, 2)
    assert (int(state.step), int(state.skipped), int(state.bad)) == (2, 2, 2)
    for name in ("params", "ema", "importance"):
        mine, theirs = getattr(state, name), getattr(begun, name)
        jax.tree.map(np.testing.assert_array_equal, mine, theirs)
    _, (adam, schedule) = state.opt_state
    jax.tree.map(np.testing.assert_array_equal, adam, begun.opt_state[1][0])
    assert int(schedule.count) == 2


def test_learning_rate_that_is_logged_is_the_one_that_is_applied():
    """Also after skipped steps. The first step that Adam takes has the size of the rate."""
    values = {"optim.lr": 1e-2, "optim.schedule": "step", "optim.period": 1}
    cfg = override(Config(), SMALL | values)
    begun = train_state.create(cfg, model.build(cfg.model), sharding.one_device())

    def change(state):
        opt_state = optim.advanced(state.opt_state, jnp.int32(2))
        return dataclasses.replace(state, step=jnp.int32(2), opt_state=opt_state)

    state, metrics, _ = stepped(values, images(), change=change)
    assert float(metrics["lr"]) == pytest.approx(1e-2 / 4)
    moved = jax.tree.map(lambda x, y: float(abs(x - y).max()), state.params, begun.params)
    assert max(jax.tree.leaves(moved)) == pytest.approx(1e-2 / 4, rel=1e-3)


@pytest.mark.parametrize(("values", "joined"), [({}, True), ({"train.only": "mccm"}, False)])
def test_weights_are_updated_as_one_vector(monkeypatch, values, joined):
    """With the same result as one by one."""
    found = []

    def accepted(old, new, good):
        found.append([v.shape for v in jax.tree.leaves(new.params)])
        return accept(old, new, good)

    accept = update._accepted
    monkeypatch.setattr(update, "_accepted", accepted)
    values |= {"train.ema": 0.9, "optim.clip": 0.1}
    mine = stepped(values, images(), steps=2)
    count = sum(v.size for v in jax.tree.leaves(mine[0].params))
    assert (found[0] == [(count,)]) == joined
    monkeypatch.setattr(update, "_joined", lambda state: (state, lambda new: new))
    monkeypatch.setattr(update, "ravel_pytree", lambda grads: (grads, None))
    other = stepped(values, images(), steps=2)
    assert len(found[1]) > 1
    assert mine[1] == pytest.approx(other[1], rel=1e-5, abs=1e-7)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-5, 1e-7), mine[0], other[0])


def test_good_step_ends_a_row_of_bad_ones():
    def change(state):
        return dataclasses.replace(state, bad=jnp.int32(3), skipped=jnp.int32(5))

    state, metrics, _ = stepped({}, images(), change=change)
    assert (int(state.bad), int(state.skipped)) == (0, 5)
    assert (metrics["bad"], metrics["skipped"]) == (0, 5)


def test_mean_of_the_weights_follows_them():
    cfg = override(Config(), SMALL | {"train.ema": 0.5})
    mesh, network = sharding.one_device(), model.build(cfg.model)
    state = train_state.create(cfg, network, mesh)
    step = train_step.jit_step(cfg, network, mesh)
    mean = jax.device_get(state.params)
    for done in range(8):
        state, _, _ = step(state, sharding.put(images(), mesh))
        memory = min(0.5, (1 + done) / (10 + done))
        new = jax.device_get(state.params)
        mean = jax.tree.map(lambda m, p, k=memory: k * m + (1 - k) * p, mean, new)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), jax.device_get(state.ema), mean
    )
    assert train_state.evaluated(state) is state.ema


def test_without_it_there_is_none(plain):
    assert plain[0].ema is None
    assert train_state.evaluated(plain[0]) is plain[0].params


def test_logged_quantities(plain):
    state, metrics, made = plain
    entropy = -(np.array([0.5, 0.5]) * np.log(0.5)).sum()  # the gate begins undecided
    assert metrics["gate_entropy"] == pytest.approx(entropy, rel=1e-5)
    assert metrics["chosen_0"] == metrics["chosen_1"] == 1  # two experts, top 2
    assert metrics["update_ratio"] > 0
    norm = np.sqrt(sum((v**2).sum() for v in jax.tree.leaves(state.params)))
    assert metrics["param_norm"] == pytest.approx(norm, rel=1e-5)
    np.testing.assert_allclose(made.weights.sum(1), 1, rtol=1e-6)
