"""The weighted sum of the loss terms, and that its slopes stay moderate on any crop."""

import functools
import math

import chex
import jax
import jax.numpy as jnp
import pytest

from smc_jax import losses
from smc_jax.config import Loss
from smc_jax.losses import (
    contrastive,
    correlation,
    edges,
    experts,
    fidelity,
    intensity,
    ssim,
    structure,
    truth,
)
from smc_jax.types import Aux, Batch


def case(size=16):
    """A fused batch of two pairs, the features of four experts, the sources and the truth."""
    f, a, b, t = jax.random.uniform(jax.random.key(0), (4, 2, size, size, 1))
    x, y, *outputs = jax.random.uniform(jax.random.key(1), (6, 2, 8, 6, 4)) - 0.5
    outputs = jnp.stack(outputs)
    weights = jnp.array([[0.7, 0.3, 0, 0], [0, 0.4, 0, 0.6]])
    z = jnp.einsum("be,ebhwc->bhwc", weights, outputs)
    aux = Aux(x, y, z, outputs, weights, jnp.array([[0.4, 0.3, 0.2, 0.1]] * 2), jnp.zeros(()))
    return f, aux, Batch(a, b, jnp.array([0, 3]), t)


HALF = math.sqrt(0.5)
PAPER = {"fcl": 0.8, "pcl": 0.4, "wb": 1, "div": 1, "cons": 1, "ssim": 1, "intensity": 1}
OURS = {
    "gradient": 2.0,
    "correlation": 3.0,
    "fidelity": 4.0,
    "edges": 5.0,
    "structure": 6.0,
    "truth": 7.0,
}


@pytest.mark.parametrize(("progress", "early"), [(0.0, 1), (0.5, HALF), (1.0, 0)])
def test_total_is_the_papers_sum(progress, early):
    loss, terms = losses.total(Loss(), *case(), progress, None)
    assert set(terms) == set(PAPER)
    schedule = {"div": early, "cons": 1 - early}
    expected = sum(w * schedule.get(k, 1) * float(terms[k]) for k, w in PAPER.items())
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_terms_go_where_their_names_say():
    f, aux, batch = case()
    a, b, task, t = batch
    running = jnp.array([0.1, 0.2, 0.3, 0.4])
    options = Loss(
        **OURS,
        ssim_span=0.2,
        intensity_rule="task",
        wavelet="cdf53",
        feature_split="spatial",
        balance="running",
        clamp_div=True,
        eps=0.1,
    )
    aux = aux._replace(experts=aux.experts.at[1].multiply(-1.0))  # cosines of both signs
    _, terms = losses.total(options, f, aux, batch, 0.3, running)
    maps = aux.features_fused, aux.features_a, aux.features_b
    expected = {
        "fcl": contrastive.feature_contrast(*maps, split="spatial", wavelet="cdf53", eps=0.1),
        "pcl": contrastive.pixel_contrast(f, a, b, wavelet="cdf53", eps=0.1),
        "wb": experts.running_balance(aux.importance, running),
        "div": experts.diversity(aux.experts, clamp=True),
        "cons": experts.consensus(aux.experts, aux.features_fused, aux.weights),
        "ssim": ssim.ssim_loss(f, a, b, span=0.2),
        "intensity": intensity.intensity_loss(f, a, b, "task", task),
        "gradient": edges.gradient_loss(f, a, b),
        "correlation": correlation.correlation_loss(f, a, b),
        "fidelity": fidelity.fidelity_loss(f, a, b),
        "edges": edges.edge_loss(f, a, b),
        "structure": structure.structure_loss(f, a, b),
        "truth": truth.truth_loss(f, t),
    }
    chex.assert_trees_all_close(terms, expected)


@pytest.mark.parametrize("name", [*PAPER, *OURS])
def test_weight_of_zero_removes_a_term(name):
    every = Loss(**OURS)
    full, terms = losses.total(every, *case(), 0.3, None)
    without = Loss(**(vars(every) | {name: 0.0}))
    loss, left = losses.total(without, *case(), 0.3, None)
    assert set(left) == set(terms) - {name}
    share = {"div": math.cos(0.15 * math.pi), "cons": 1 - math.cos(0.15 * math.pi)}.get(name, 1)
    missing = getattr(every, name) * share * float(terms[name])
    assert float(full - loss) == pytest.approx(missing, abs=1e-5)


def test_removed_terms_are_not_computed():
    f, aux, batch = case(size=8)  # too small for the window of SSIM
    _, terms = losses.total(Loss(ssim=0.0), f, aux, batch, 0.0, None)
    assert "ssim" not in terms


def test_without_terms_there_is_no_loss():
    loss, terms = losses.total(Loss(**dict.fromkeys(PAPER, 0.0)), *case(), 0.0, None)
    assert (float(loss), terms) == (0, {})


def test_without_experts_their_terms_fall_away():
    f, aux, batch = case()
    aux = aux._replace(experts=None, weights=None, importance=None)
    _, terms = losses.total(Loss(), f, aux, batch, 0.3, None)
    assert set(terms) == {"fcl", "pcl", "ssim", "intensity"}


def test_without_a_ground_truth_its_term_falls_away():
    f, aux, batch = case()
    _, terms = losses.total(Loss(**OURS), f, aux, batch._replace(truth=None), 0.3, None)
    assert set(terms) == {*PAPER, *OURS} - {"truth"}


def test_single_expert():
    f, aux, batch = case()
    one = jnp.ones((2, 1))
    aux = aux._replace(experts=aux.features_fused[None], weights=one, importance=one)
    _, terms = losses.total(Loss(), f, aux, batch, 0.3, None)
    assert [float(terms[k]) for k in ("wb", "div", "cons")] == [0, 0, 0]


CROPS = {
    "black": lambda: jnp.zeros((1, 16, 16, 1)),
    "flat": lambda: jnp.full((1, 16, 16, 1), 0.4, jnp.float32),
    "ramp": lambda: jnp.linspace(0.0, 1, 256).reshape(1, 16, 16, 1),
}
OPTIONS = {
    "paper": Loss(),
    "ours": Loss(
        **dict.fromkeys(OURS, 1.0),
        feature_split="spatial",
        wavelet="cdf97",
        balance="running",
        clamp_div=True,
    ),
}


@functools.partial(jax.jit, static_argnums=0)
def slopes(options, source, leaves):
    def loss(leaves):
        fused, aux = leaves
        running = jnp.full(4, 0.25)
        batch = Batch(source, source, jnp.zeros(1, jnp.int32), source)
        return losses.total(OPTIONS[options], fused, aux, batch, 0.3, running)[0]

    return jax.grad(loss)(leaves)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize("level", [0.0, 1.0])
def test_slopes_stay_moderate(options, crop, level):
    """Even where images and features have no contrast or are zero everywhere."""
    source, maps = CROPS[crop](), jnp.full((1, 16, 16, 4), level, jnp.float32)
    weights = jnp.array([[0.5, 0.5, 0.0, 0.0]])
    aux = Aux(maps, maps, maps, jnp.stack([maps] * 4), weights, weights, jnp.zeros(()))
    for fused in (source, jnp.full_like(source, 0.5, jnp.float32)):
        gradient = slopes(options, source, (fused, aux))
        chex.assert_tree_all_finite(gradient)
        assert max(float(jnp.linalg.norm(g)) for g in jax.tree.leaves(gradient)) < 100
