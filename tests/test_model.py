"""The network: its size, its parts, and what must hold for any parameters."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smc_jax import blend, config, mafe, model, moe, scan_orders
from smc_jax.config import override

SMALL = {"model.width": 8, "model.state": 4, "model.channel_state": 2}


def build(**values):
    cfg = override(config.Config(), SMALL | {f"model.{k}": v for k, v in values.items()})
    return model.build(cfg.model)


def images(height=16, width=16, batch=1, seed=0):
    return jax.random.uniform(jax.random.key(seed), (2, batch, height, width, 1))


def init(network, seed=0):
    a, b = images()
    return jax.jit(lambda: network.init(jax.random.key(seed), a, b, train=True))()["params"]


def count(tree):
    return sum(v.size for v in jax.tree.leaves(tree))


@pytest.fixture(scope="module")
def small():
    network = build()
    return network, init(network)


def test_parameters_are_the_papers():
    network = model.build(config.Model())
    a, b = images()
    params = jax.eval_shape(lambda: network.init(jax.random.key(0), a, b, train=True))["params"]
    parts = {name: count(part) for name, part in params.items()}
    assert parts == {"source_a": 41_938, "source_b": 41_938, "mccm": 45_968, "decoder": 18_785}
    assert abs(sum(parts.values()) / 149_000 - 1) < 0.03


@pytest.mark.parametrize("size", [(16, 16), (17, 23), (16, 33), (48, 16)])
def test_any_size(small, size):
    network, params = small
    fused, aux = jax.jit(network.apply)({"params": params}, *images(*size))
    chex.assert_shape(fused, (1, *size, 1))
    chex.assert_tree_all_finite((fused, aux._asdict()))
    assert 0 <= float(fused.min()) <= float(fused.max()) <= 1


def test_chosen_experts_give_what_all_experts_give(small):
    network, params = small
    # The gate starts at zero, where all experts would tie.
    gate = params["mccm"]["Gate_0"]["gate"]["kernel"]
    params = jax.tree.map(lambda v: v, params)
    params["mccm"]["Gate_0"]["gate"]["kernel"] = jax.random.normal(jax.random.key(5), gate.shape)
    a, b = images(batch=2)
    everyone, aux = jax.jit(lambda p: network.apply({"params": p}, a, b, train=True))(params)
    chosen, inference = jax.jit(lambda p: network.apply({"params": p}, a, b))(params)
    np.testing.assert_allclose(chosen, everyone, atol=1e-6)
    assert inference.experts is None
    assert aux.experts.shape[0] == 4
    np.testing.assert_allclose(aux.weights.sum(-1), 1, rtol=1e-6)
    np.testing.assert_array_equal((np.asarray(aux.weights) > 0).sum(-1), 2)
    combined = jnp.einsum("e b h w c, b e -> b h w c", aux.experts, aux.weights)
    np.testing.assert_allclose(aux.features_fused, combined, atol=1e-6)


def test_each_image_has_its_own_experts():
    def run(weights, a, b):
        return weights[:, None, None, None, None] * a + b

    a, b = jnp.ones((3, 2, 2, 1)), jnp.zeros((3, 2, 2, 1))
    kept = jnp.array([[0.3, 0.7, 0, 0], [0, 0.5, 0, 0.5], [0, 0, 0.9, 0.1]])
    routing = moe.Routing(kept, jnp.array([[1, 0], [1, 3], [2, 3]]), kept)
    weights = jnp.array([1.0, 10.0, 100.0, 1000.0])
    fused = moe.chosen_experts(run, weights, a, b, routing)
    np.testing.assert_allclose(fused[:, 0, 0, 0], [7.3, 505.0, 190.0], rtol=1e-6)
    np.testing.assert_allclose(moe.all_experts(run, weights, a, b, routing)[0], fused, rtol=1e-6)


def test_noise_chooses_experts_and_leaves_the_importance(small):
    network, params = small
    a, b = images()

    def run(noise):
        return network.apply({"params": params}, a, b, noise=noise, train=True)[1]

    weights = jax.jit(jax.vmap(lambda noise: run(noise).weights))(
        jax.random.normal(jax.random.key(0), (32, 1, 4))
    )
    assert len({tuple(w[0] > 0) for w in np.asarray(weights)}) == 6  # every pair of four experts
    seen = jax.jit(lambda noise: run(noise).importance)(jnp.array([[2.0, 0, 0, 1]]))
    np.testing.assert_allclose(seen, 0.25)


@pytest.fixture(scope="module")
def gradient(small):
    """The gradient of a loss that depends on every part of the network."""
    network, params = small

    def loss(params, a, b):
        noise = jax.random.normal(jax.random.key(3), (len(a), 4))
        fused, aux = network.apply({"params": params}, a, b, noise=noise, train=True)
        return (fused**2).mean() + (aux.experts**2).mean()

    return functools.partial(jax.jit(jax.grad(loss)), params)


def test_every_parameter_learns(gradient):
    leaves = jax.tree_util.tree_leaves_with_path(gradient(*images()))
    still = [jax.tree_util.keystr(path) for path, v in leaves if not np.abs(v).max() > 0]
    assert still == []


@pytest.mark.parametrize("kind", ["constant", "black", "ramp"])
def test_gradients_are_finite_on_flat_images(gradient, kind):
    ramp = jnp.linspace(0, 1, 16)[None, :, None, None] * jnp.ones((1, 16, 16, 1))
    kinds = {"constant": jnp.full_like(ramp, 0.5), "black": jnp.zeros_like(ramp), "ramp": ramp}
    chex.assert_tree_all_finite(gradient(kinds[kind], kinds[kind]))


@pytest.mark.parametrize("branch", ["local", "sc_scan", "fr_scan"])
def test_each_branch_can_be_switched_off(small, branch):
    names = {"local": "Local", "sc_scan": "SpatialChannel", "fr_scan": "FrequencyRotation"}
    _, params = small
    network, (a, b) = build(**{branch: False}), images()
    less = jax.eval_shape(lambda: network.init(jax.random.key(0), a, b, train=True))["params"]
    gone = set(params["source_a"]["mafe"]) - set(less["source_a"]["mafe"])
    assert gone == {f"{names[branch]}_0"}


@pytest.mark.parametrize("branch", ["sc_scan", "fr_scan"])
def test_global_branches_relate_every_pixel_to_every_other(branch):
    """A corner's features depend on the opposite corner, which no convolution here reaches."""
    switches = {"local": False, "sc_scan": False, "fr_scan": False} | {branch: True}
    module = mafe.MAFE(8, 4, 2, 2, **switches)
    features = jax.random.normal(jax.random.key(0), (1, 16, 16, 8))
    params = jax.jit(module.init)(jax.random.key(1), features)
    for here, there in (((0, 0), (-1, -1)), ((-1, -1), (0, 0))):
        gradient = jax.jit(
            jax.grad(lambda x, here=here: (module.apply(params, x)[0][0, *here] ** 2).sum())
        )(features)
        assert np.abs(gradient[0, *there]).max() > 0


def test_shared_mafe_makes_both_sources_alike():
    network = build(share_mafe=True)
    params = init(network)
    assert "source_b" not in params
    a, _ = images()
    _, aux = jax.jit(network.apply)({"params": params}, a, a)
    np.testing.assert_array_equal(aux.features_a, aux.features_b)


def test_single_direction_leaves_out_the_reverse_scans(small):
    _, params = small
    network, (a, b) = build(bidirectional=False), images()
    one = jax.eval_shape(lambda: network.init(jax.random.key(0), a, b, train=True))["params"]
    both, single = (jax.tree_util.tree_leaves_with_path(p) for p in (params, one))
    gone = {jax.tree_util.keystr(k) for k, _ in both} - {jax.tree_util.keystr(k) for k, _ in single}
    assert gone
    assert all("reverse" in name for name in gone)


def test_quadrants_see_a_seam_only_without_halo():
    x = jax.random.normal(jax.random.key(0), (1, 17, 16, 8))
    with_halo, literal = mafe.Local(halo=True), mafe.Local(halo=False)
    params = with_halo.init(jax.random.key(1), x)
    difference = np.abs(with_halo.apply(params, x) - literal.apply(params, x)).max((0, 3))
    # Quadrants of 17 rows meet between rows 8 and 9, those of 16 columns between 7 and 8.
    seam = np.zeros((17, 16), bool)
    seam[8:10], seam[:, 7:9], seam[16] = True, True, True
    assert (difference[~seam] == 0).all()
    assert (difference[8:10, :] > 0).all()


@pytest.mark.parametrize("train", [False, True])
def test_residual_is_added_to_the_mean_and_no_more_than_white_is_seen(small, train):
    network, params = build(output="residual"), jax.tree.map(lambda v: v, small[1])
    a, b = images()
    last = params["decoder"]["Conv_2"]["Conv_0"]
    zeros = jax.tree.map(jnp.zeros_like, last)
    params["decoder"]["Conv_2"]["Conv_0"] = {**zeros, "bias": jnp.array([0.5])}
    fused, _ = jax.jit(lambda p: network.apply({"params": p}, a, b, train=train))(params)
    np.testing.assert_allclose(fused, np.clip((a + b) / 2 + 0.5, 0, 1), atol=1e-6)
    assert (fused == 1).any()


def test_saturate_keeps_gradients_that_lead_back():
    image = jnp.array([-0.5, -0.5, 0.0, 0.4, 1.0, 1.5, 1.5]).reshape(1, 1, 7, 1)
    slope = jnp.array([-2.0, 3.0, 3.0, 5.0, -2.0, -2.0, 3.0]).reshape(image.shape)
    found, backward = jax.vjp(model.saturate, image)
    np.testing.assert_array_equal(found, np.clip(image, 0, 1))
    # Gradient descent moves against the slope.
    np.testing.assert_array_equal(backward(slope)[0].ravel(), [-2, 0, 3, 5, -2, 0, 3])


def test_blend_takes_the_weights_that_the_decoder_makes(small):
    trusts = {"trust": 0.7, "detail_trust": 0.4, "glare": 1.5}
    network = build(output="blend", **trusts, contrast_noise=9.0, faint=40.0, within=True)
    params = jax.tree.map(lambda v: v, small[1])
    a, b = images()
    last = params["decoder"]["Conv_2"]["Conv_0"]
    zeros = jax.tree.map(lambda v: jnp.zeros((*v.shape[:-1], blend.CHANNELS)), last)
    bias = jnp.linspace(-0.4, 0.5, blend.CHANNELS).at[1].set(0.02)  # The residual is a luma.
    params["decoder"]["Conv_2"]["Conv_0"] = {**zeros, "bias": bias}
    weights = jnp.broadcast_to(bias, (*a.shape[:3], blend.CHANNELS))
    for other in (b, jnp.ones_like(b)):  # Glare acts on white alone.
        fused, _ = jax.jit(network.apply)({"params": params}, a, other)
        expected = blend.blend(a, other, weights, **trusts, noise=9.0, faint=40.0, within=True)
        np.testing.assert_allclose(fused, expected.clip(0, 1), atol=1e-6)
        inside = (fused > jnp.minimum(a, other)) & (fused < jnp.maximum(a, other))
        assert 0.3 < inside.mean() < 1.0
    black = jnp.zeros_like(a)
    fused, _ = jax.jit(network.apply)({"params": params}, black, black)
    assert not fused.any()


def test_rings_go_from_the_mean_outward():
    order = scan_orders.ring(12, 17)
    assert sorted(order) == list(range(12 * 9))
    y, x = np.divmod(order, 9)
    radius = np.hypot(np.minimum(y, 12 - y) / 12, x / 17)
    assert (y[0], x[0]) == (0, 0)
    assert np.diff(radius).min() > -1 / 12  # never back by more than the width of a ring
    grid = np.random.default_rng(0).standard_normal((2, 12, 9, 3)).astype(np.float32)
    tokens = scan_orders.to_tokens(jnp.asarray(grid), order)
    np.testing.assert_array_equal(scan_orders.to_grid(tokens, order, 12), grid)


@pytest.mark.parametrize("name", scan_orders.CROSSINGS)
def test_crossings_give_the_first_sequence_back(name):
    first, second = jnp.arange(6.0).reshape(1, 3, 2), 10 + jnp.arange(6.0).reshape(1, 3, 2)
    for axis in (-1, -2):
        both, places = scan_orders.CROSSINGS[name](first, second, axis)
        taken = both[..., places] if axis == -1 else both[..., places, :]
        np.testing.assert_array_equal(taken, first)
    both, _ = scan_orders.interleave(first, second, -2)
    np.testing.assert_array_equal(both[0, :, 0], [0, 10, 2, 12, 4, 14])
