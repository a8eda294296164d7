"""The network against the paper's equations, rewritten in float64 NumPy, one image at a time.

Where the paper is silent, the reference follows the choices that docstrings mark as ours.
Parameters are drawn at random, not initialised, so that none is zero, one, or equal to another.
"""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from smc_jax import mafe, mccm, model, moe, scan_orders, ssm
from smc_jax.conv import DepthwiseConv
from smc_jax.selective_scan import METHODS

WIDTH, STATE, CHANNEL_STATE, RANK = 4, 3, 2, 2
SIZES = [(8, 6), (7, 5), (5, 6)]
DIRECTIONS = {"forward": False, "reverse": True}


def draw(*shape, seed=0, scale=1.0):
    values = scale * np.random.default_rng(seed).standard_normal(shape)
    return jnp.asarray(values, jnp.float32)


def double(tree):
    return jax.tree.map(lambda v: np.asarray(v, np.float64), tree)


def random_params(module, *inputs, seed=1, **options):
    """Random parameters for `module`, for JAX and in float64."""
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), *inputs, **options))["params"]
    leaves, tree = jax.tree.flatten(shapes)
    values = [draw(*v.shape, seed=(seed, i), scale=0.4) for i, v in enumerate(leaves)]
    params = jax.tree.unflatten(tree, values)
    return params, double(params)


def run(module, params, *inputs, **options):
    return jax.jit(lambda p, *x: module.apply({"params": p}, *x, **options))(params, *inputs)


def check(got, wanted):
    """Float32 against float64: the error is at most 1e-4 of the largest number."""
    got, wanted = np.asarray(got, np.float64), np.asarray(wanted)
    assert got.shape == wanted.shape
    assert np.abs(got - wanted).max() < 1e-4 * np.abs(wanted).max()


def images(function, *batches):
    """Applies a function of single images to batches, image by image."""
    return np.stack([function(*image) for image in zip(*double(batches), strict=True)])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def silu(x):
    return x * sigmoid(x)


def softplus(x):
    return np.log1p(np.exp(x))


def gelu(x):
    return x * (1 + special.erf(x / math.sqrt(2))) / 2


def softmax(x):
    return np.exp(x) / np.exp(x).sum()


def layer_norm(x, scale, shift):
    """Over the channels of each pixel."""
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-6) * scale + shift


def windows(x):
    """Every pixel's zero-padded 3x3 neighbourhood: h w 3 3 c."""
    height, width, _ = x.shape
    x = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    return np.array([[x[i : i + 3, j : j + 3] for j in range(width)] for i in range(height)])


def conv(p, x):
    return np.einsum("hwijc,ijcd->hwd", windows(x), p["kernel"]) + p["bias"]


def depthwise_conv(p, x):
    return np.einsum("hwijc,ijc->hwc", windows(x), p["kernel"]) + p["bias"]


def conv1x1(p, x):
    return x @ p["kernel"] + p["bias"]


def shallow(p, image):
    """Eq. 1."""
    norm = p["LayerNorm_0"]
    return layer_norm(conv(p["Conv_0"]["Conv_0"], image), norm["scale"], norm["bias"])


def quadrants(height, width):
    """Rows and columns of the four patches of an image that is padded to even sizes."""
    h, w = (height + 1) // 2, (width + 1) // 2
    return itertools.product((slice(0, h), slice(h, 2 * h)), (slice(0, w), slice(w, 2 * w)))


def local(p, features, halo):
    """Eq. 2-4: the depthwise convolution of quadrants, which with `halo` see their neighbours."""
    height, width, _ = features.shape
    if halo:
        seen = depthwise_conv(p["DepthwiseConv_0"], features)
    else:
        padded = np.pad(features, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        seen = np.zeros_like(padded)
        for rows, columns in quadrants(height, width):
            seen[rows, columns] = depthwise_conv(p["DepthwiseConv_0"], padded[rows, columns])
        seen = seen[:height, :width]
    return gelu(conv1x1(p["Conv_0"]["Dense_0"], seen)) * seen


def token_loop(p, x, reverse):
    """A selective SSM along the tokens of x (... l d): h = exp(dt A) h + dt B x, y = C h + D x."""
    A, D = -np.exp(p["A_log"]), p["D"]
    rank, state = p["dt_proj"].shape[0], A.shape[1]
    dt, B, C = np.split(x @ p["x_proj"] + p.get("x_bias", 0), [rank, rank + state], -1)
    dt = softplus(dt @ p["dt_proj"] + p["dt_bias"])
    y, h = np.zeros_like(x), np.zeros((*x.shape[:-2], *A.shape))
    tokens = range(x.shape[-2])
    for t in reversed(tokens) if reverse else tokens:
        step, token = dt[..., t, :, None], x[..., t, :, None]
        h = np.exp(step * A) * h + step * B[..., t, None, :] * token
        y[..., t, :] = (h * C[..., t, None, :]).sum(-1) + D * x[..., t, :]
    return y


def both_directions(p, name, x):
    """Each direction has its own parameters; their outputs are summed."""
    directions = [d for d in DIRECTIONS if f"{name}_{d}" in p]
    return sum(token_loop(p[f"{name}_{d}"], x, DIRECTIONS[d]) for d in directions)


def spatial_channel(p, features):
    """Eq. 5-7. SC-Scan: over the pixels in raster order, and over the channels of each pixel."""
    x = depthwise_conv(p["DepthwiseConv_0"], conv1x1(p["Conv_0"]["Dense_0"], features))
    tokens = silu(x).reshape(-1, x.shape[-1])
    over_pixels = both_directions(p, "spatial", tokens)
    over_channels = both_directions(p, "channel", tokens[..., None])[..., 0]
    scanned = (over_pixels + over_channels).reshape(x.shape)
    norm = p["LayerNorm_0"]
    return layer_norm(scanned, norm["scale"], norm["bias"]) * silu(features)


def waves(length):
    return np.exp(-2j * np.pi * np.outer(range(length), range(length)) / length)


def spectrum(x):
    """Eq. 8, orthonormal (ours), of a real image: the columns v = 0 ... w // 2."""
    height, width, _ = x.shape
    rows, columns = waves(height), waves(width)[:, : width // 2 + 1]
    return np.einsum("hwc,hu,wv->uvc", x, rows, columns) / math.sqrt(height * width)


def image_of(half, width):
    """The inverse of `spectrum`: every column but 0 and w / 2 also stands for its conjugate."""
    height = half.shape[0]
    rows, columns = waves(height).conj(), waves(width)[: half.shape[1]].conj()
    times = np.array([1 if 2 * v in (0, width) else 2 for v in range(half.shape[1])])
    x = np.einsum("uvc,uh,vw,v->hwc", half, rows, columns, times)
    return x.real / math.sqrt(height * width)


def phase(z):
    """The angle in (-pi, pi]; where z is real, rounding must not decide between -pi and pi."""
    real = np.abs(z.imag) < 1e-12
    return np.where(real, np.where(z.real < 0, np.pi, 0), np.arctan2(z.imag, z.real))


def ring(height, width):
    """Frequencies (u, v) by rings, one cycle of the longer side wide, and by angle within each."""

    def place(frequency):
        u, v = frequency
        y, x = (u if 2 * u < height else u - height) / height, v / width
        return round(math.hypot(y, x) * max(height, width)), math.atan2(y, x)

    return sorted(itertools.product(range(height), range(width // 2 + 1)), key=place)


def raster(height, width):
    return list(itertools.product(range(height), range(width // 2 + 1)))


def frequency_rotation(p, features, order=ring):
    """Eq. 8-12. Amplitude and phase are separate sequences, each with its own models.

    Returns the features, and the largest amplitude after FR-Scan.
    """
    height, width, _ = features.shape
    z = spectrum(features)
    scanned = []
    for i, part in enumerate((np.log1p(np.abs(z)), phase(z))):
        part = silu(depthwise_conv(p[f"DepthwiseConv_{i}"], part))
        own = jax.tree.map(lambda v, i=i: v[i], {k: v for k, v in p.items() if "polar" in k})
        places = order(height, width)
        tokens = both_directions(own, "polar", np.array([part[place] for place in places]))
        for place, token in zip(places, tokens, strict=True):
            part[place] = token
        scanned.append(part)
    enhanced = image_of(scanned[0] * np.exp(1j * scanned[1]), width)
    return enhanced * silu(features), np.abs(scanned[0]).max()


def enhance(p, features, halo=True):
    """Eq. 13-14, closed by a convolution (ours): F_m, and the largest amplitude."""
    frequency, amplitude = frequency_rotation(p["FrequencyRotation_0"], features)
    branches = [
        local(p["Local_0"], features, halo),
        spatial_channel(p["SpatialChannel_0"], features),
        frequency,
    ]
    return conv(p["JointConv_0"], np.concatenate(branches, -1)), amplitude


def interleave(first, second):
    """The tokens of both in turn, and the places of the first one's."""
    tokens = [token for pair in zip(first, second, strict=True) for token in pair]
    return np.array(tokens), [2 * i for i in range(len(first))]


def concatenate(first, second):
    """All tokens of the second, then all of the first; and the places of the first one's."""
    return np.array([*second, *first]), [len(second) + i for i in range(len(first))]


def cm_scan(p, first, second, order):
    """CM-Scan(first, second): along the pixels and along the channels, at the first's places."""
    a, b = (v.reshape(-1, v.shape[-1]) for v in (first, second))
    tokens, places = order(a, b)
    over_pixels = both_directions(p, "spatial", tokens)[places]
    tokens, places = order(a.T, b.T)
    over_channels = both_directions(p, "channel", tokens.T[..., None])[:, places, 0]
    return (over_pixels + over_channels).reshape(first.shape)


def expert(p, a, b, order=interleave):
    """Algorithm 1; the parameters of the two modalities are stacked."""
    first, second = (jax.tree.map(lambda v, m=m: v[m], p) for m in (0, 1))
    ln1, ln2 = (
        layer_norm(x, q["scale"], q["shift"]) @ q["linear"] + q["linear_bias"]
        for q, x in ((first, a), (second, b))
    )
    s1 = silu(ln1 @ first["conv"] + first["conv_bias"])
    s2 = silu(ln2 @ second["conv"] + second["conv_bias"])
    cm1, cm2 = cm_scan(first, s1, s2, order), cm_scan(second, s2, s1, order)
    return cm1 * silu(ln2) + cm2 * silu(ln1)


def gate(p, a, b, top_k, epsilon=0.0):
    """Eq. 15-18: the weights of the experts, and the softmax of all logits without noise."""
    features = np.concatenate([a, b], -1)
    pooled = features.mean((0, 1)) + features.max((0, 1))
    logits = pooled @ p["gate"]["kernel"]
    noisy = logits + epsilon * softplus(pooled @ p["noise"]["kernel"])
    chosen = sorted(range(len(noisy)), key=lambda i: -noisy[i])[:top_k]
    weights = np.zeros_like(noisy)
    weights[chosen] = softmax(noisy[chosen])
    return weights, softmax(logits)


def consensus(p, a, b, top_k, order=interleave):
    """Eq. 15-19: F_mf, the weights, the importance and the output of every expert."""
    weights, importance = gate(p["Gate_0"], a, b, top_k)
    stacked = {k: v for k, v in p.items() if k != "Gate_0"}
    outputs = np.stack(
        [
            expert(jax.tree.map(lambda v, i=i: v[i], stacked), a, b, order)
            for i in range(len(weights))
        ]
    )
    fused = sum(weight * output for weight, output in zip(weights, outputs, strict=True))
    return fused, weights, importance, outputs


def decode(p, features):
    """I_mf = Conv(F_mf), with SiLU between the convolutions (ours)."""
    last = len(p) - 1
    for i in range(last):
        features = silu(conv(p[f"Conv_{i}"]["Conv_0"], features))
    return conv(p[f"Conv_{last}"]["Conv_0"], features)


def fuse(p, a, b, top_k):
    """The whole network on one pair of images."""
    sources = []
    for image, q in ((a, p["source_a"]), (b, p["source_b"])):
        sources.append(enhance(q["mafe"], shallow(q["shallow"], image)))
    (features_a, amplitude_a), (features_b, amplitude_b) = sources
    fused, weights, importance, outputs = consensus(p["mccm"], features_a, features_b, top_k)
    return {
        "image": sigmoid(decode(p["decoder"], fused)),
        "features_a": features_a,
        "features_b": features_b,
        "features_fused": fused,
        "experts": outputs,
        "weights": weights,
        "importance": importance,
        "amplitude": max(amplitude_a, amplitude_b),
    }


@pytest.mark.parametrize("size", SIZES)
def test_shallow(size):
    image = draw(2, *size, 1)
    params, p = random_params(mafe.Shallow(WIDTH), image)
    got = run(mafe.Shallow(WIDTH), params, image)
    check(got, images(lambda x: shallow(p, x), image))


@pytest.mark.parametrize("halo", [True, False], ids=["halo", "literal"])
@pytest.mark.parametrize("size", SIZES)
def test_local(size, halo):
    features = draw(2, *size, WIDTH)
    params, p = random_params(mafe.Local(halo), features)
    got = run(mafe.Local(halo), params, features)
    check(got, images(lambda x: local(p, x, halo), features))


@pytest.mark.parametrize("method", [m for m in METHODS if m != "pallas"])
@pytest.mark.parametrize("directions", [("forward",), ("forward", "reverse")], ids=["one", "two"])
def test_scans_are_a_token_loop(directions, method):
    """Two groups of sequences, each with its own models."""

    def models(width, state, rank, bias):
        parts = [ssm.SelectiveSSM(width, state, rank, (2,), bias) for _ in directions]
        params = [random_params(part, seed=i)[0] for i, part in enumerate(parts)]
        bound = tuple(part.bind({"params": v})() for part, v in zip(parts, params, strict=True))
        named = {f"scan_{d}": double(v) for d, v in zip(directions, params, strict=True)}
        return bound, [jax.tree.map(lambda v, g=g: v[g], named) for g in (0, 1)]

    def looped(groups, x):
        return np.stack([both_directions(p, "scan", v) for p, v in zip(groups, x, strict=True)])

    x = draw(2, 2, 11, WIDTH)
    bound, groups = models(WIDTH, STATE, RANK, bias=False)
    got = jax.jit(lambda b, x: ssm.scan_tokens(b, x, method))(bound, x)
    check(got, looped(groups, double(x)))

    x = draw(2, 9, 5)
    bound, groups = models(1, CHANNEL_STATE, 1, bias=True)
    got = jax.jit(lambda b, x: ssm.scan_channels(b, x, method))(bound, x)
    check(got, looped(groups, double(x)[..., None])[..., 0])


@pytest.mark.parametrize("bidirectional", [True, False], ids=["both", "forward"])
@pytest.mark.parametrize("size", SIZES)
def test_spatial_channel(size, bidirectional):
    features = draw(2, *size, WIDTH)
    module = mafe.SpatialChannel(STATE, CHANNEL_STATE, RANK, bidirectional)
    params, p = random_params(module, features)
    assert ("spatial_reverse" in p) == bidirectional
    check(run(module, params, features), images(lambda x: spatial_channel(p, x), features))


@pytest.mark.parametrize("size", [*SIZES, (16, 17), (17, 16), (1, 4), (12, 30)])
def test_ring_order(size):
    half = size[1] // 2 + 1
    np.testing.assert_array_equal(scan_orders.ring(*size), [u * half + v for u, v in ring(*size)])


@pytest.mark.parametrize("name", ["ring", "raster"])
@pytest.mark.parametrize("size", SIZES)
def test_frequency_rotation(size, name):
    frequency_rotation_is_the_references(size, name)


def test_frequency_rotation_where_rounding_decides_the_phase():
    """Frequency (h / 2, 0) is real, but with 6 rows its rounded value is not exactly so."""
    frequency_rotation_is_the_references((6, 8), "ring")


def frequency_rotation_is_the_references(size, name):
    features = draw(2, *size, WIDTH)
    module = mafe.FrequencyRotation(STATE, RANK, order=name)
    params, p = random_params(module, features)
    got, amplitude = run(module, params, features)
    order = {"ring": ring, "raster": raster}[name]
    wanted = [frequency_rotation(p, x, order) for x in double(features)]
    check(got, np.stack([x for x, _ in wanted]))
    check(amplitude, max(v for _, v in wanted))


@pytest.mark.parametrize("halo", [True, False], ids=["halo", "literal"])
def test_mafe(halo):
    features = draw(2, 7, 6, WIDTH)
    module = mafe.MAFE(WIDTH, STATE, CHANNEL_STATE, RANK, local_halo=halo)
    params, p = random_params(module, features)
    got, amplitude = run(module, params, features)
    wanted = [enhance(p, x, halo) for x in double(features)]
    check(got, np.stack([x for x, _ in wanted]))
    check(amplitude, max(v for _, v in wanted))


@pytest.mark.parametrize("name", ["interleave", "concatenate"])
def test_mccm(name):
    """Every expert, their weighted sum, and the same sum when the chosen ones run alone."""
    a, b = draw(2, 2, 5, 6, WIDTH)
    module = mccm.MCCM(WIDTH, STATE, CHANNEL_STATE, RANK, experts=3, top_k=2, order=name)
    params, p = random_params(module, a, b)
    order = {"interleave": interleave, "concatenate": concatenate}[name]
    wanted = [consensus(p, *pair, 2, order) for pair in zip(*double((a, b)), strict=True)]
    fused, weights, importance, outputs = (np.stack(v) for v in zip(*wanted, strict=True))

    got, routing, everyone = run(module, params, a, b, train=True)
    check(everyone, outputs.swapaxes(0, 1))
    check(got, fused)
    check(routing.weights, weights)
    check(routing.importance, importance)
    got, _, _ = run(module, params, a, b)
    check(got, fused)


def test_gate():
    """The normal factor of Eq. 17 is passed in, so that the noise of every image is known."""
    a, b = draw(2, 5, 4, 3, WIDTH)
    epsilon = draw(5, 4, seed=3, scale=2.0)
    params, p = random_params(moe.Gate(4, 2), a, b)
    pairs = list(zip(*double((a, b)), strict=True))

    weights, importance = zip(*(gate(p, *pair, 2) for pair in pairs), strict=True)
    routing = moe.Gate(4, 2).apply({"params": params}, a, b)
    check(routing.weights, weights)
    check(routing.importance, importance)

    noisy = [gate(p, *pair, 2, e)[0] for pair, e in zip(pairs, double(epsilon), strict=True)]
    routing = moe.Gate(4, 2).apply({"params": params}, a, b, noise=epsilon)
    check(routing.weights, noisy)
    check(routing.importance, importance)
    assert (np.array(noisy) > 0).tolist() != (np.array(weights) > 0).tolist()
    for kept, row in zip(np.asarray(routing.chosen), noisy, strict=True):
        assert set(kept) == set(np.flatnonzero(row))


@pytest.mark.parametrize("kinds", [("f4", "f4"), ("bf2", "f4"), ("f4", "bf2")])
def test_gradient_of_depthwise_convolution(kinds):
    """It equals that of a grouped convolution; each gradient has the type of its argument."""
    kinds = [{"f4": jnp.float32, "bf2": jnp.bfloat16}[kind] for kind in kinds]
    layer = DepthwiseConv()
    x = jax.random.normal(jax.random.key(0), (2, 7, 6, 3))
    p = layer.init(jax.random.key(1), x)["params"]
    dy = jax.random.normal(jax.random.key(2), x.shape)

    def grouped(p, x):
        kernel = p["kernel"][:, :, None]
        return p["bias"] + jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=3, precision="highest",
        )  # fmt: skip

    wanted = jax.vjp(grouped, p, x)[1](dy)
    x, p = x.astype(kinds[0]), jax.tree.map(lambda v: v.astype(kinds[1]), p)
    y, back = jax.vjp(lambda p, x: layer.apply({"params": p}, x), p, x)
    got = back(dy.astype(y.dtype))
    exact = jnp.bfloat16 not in kinds
    for ours, theirs, given in zip(*map(jax.tree.leaves, (got, wanted, (p, x))), strict=True):
        assert ours.dtype == given.dtype
        np.testing.assert_allclose(
            ours.astype("float32"), theirs, rtol=1e-4, atol=1e-4 if exact else 0.2
        )


@pytest.mark.parametrize("window", [1, 3, 4, 9])
def test_pooled_windows(window):
    """Each pixel stands for the maximum of its window, even if the border cuts it off."""
    a, b = draw(2, 3, 7, 6, WIDTH)
    both = np.concatenate(double((a, b)), -1)
    wanted = np.empty_like(both)
    for i, j in np.ndindex(7, 6):
        rows, columns = (slice(k // window * window, (k // window + 1) * window) for k in (i, j))
        wanted[:, i, j] = both[:, rows, columns].max((1, 2))
    mean, largest = moe.pool(a, b, window)
    check(mean, both.mean((1, 2)))
    check(largest, wanted.mean((1, 2)))
    if window > 7:
        check(largest, moe.pool(a, b)[1])
        check(moe.pool(a, b, 10**9)[1], largest)


@pytest.mark.parametrize("window", [0, 4, 6])
def test_pooled_from_blocks(window):
    a, b = draw(2, 3, 8, 10, WIDTH)
    means, maxima = moe.blocks(a, b, 2)
    mean, largest = moe.pool(a, b, window)
    check(means.mean((1, 2)), mean)
    check(moe.largest(maxima, window // 2), largest)


def test_windows_see_an_image_as_its_crops():
    """Copies side by side make no difference; the network's gate pools with its window too."""
    a, b = jnp.asarray(np.random.default_rng(0).uniform(size=(2, 2, 16, 24, 1)), jnp.float32)
    network = model.SMCMamba(WIDTH, STATE, CHANNEL_STATE, RANK, gate_window=8)
    params, _ = random_params(network, a, b)
    features = draw(2, 2, 16, 24, WIDTH)
    params["mccm"]["Gate_0"]["gate"]["kernel"] *= 5
    gate = moe.Gate(4, 2, network.gate_window)
    seen = gate.apply({"params": params["mccm"]["Gate_0"]}, *features)
    wide = [jnp.tile(x, (1, 2, 3, 1)) for x in features]
    check(gate.apply({"params": params["mccm"]["Gate_0"]}, *wide).weights, seen.weights)

    apply = jax.jit(network.apply)
    _, aux = apply({"params": params}, a, b)
    given = sum(moe.pool(aux.features_a, aux.features_b, 8))
    check(apply({"params": params}, a, b, given)[1].weights, aux.weights)
    whole = sum(moe.pool(aux.features_a, aux.features_b))
    assert (apply({"params": params}, a, b, whole)[1].weights != aux.weights).any()


@pytest.mark.parametrize("layers", [1, 3])
def test_decoder(layers):
    features = draw(2, 5, 6, WIDTH)
    params, p = random_params(model.Decoder(WIDTH, layers, 2), features)
    assert len(p) == layers
    got = run(model.Decoder(WIDTH, layers, 2), params, features)
    check(got, images(lambda x: decode(p, x), features))


def test_whole_network():
    a, b = jnp.asarray(np.random.default_rng(0).uniform(size=(2, 2, 16, 17, 1)), jnp.float32)
    network = model.SMCMamba(WIDTH, STATE, CHANNEL_STATE, RANK, experts=3, top_k=2)
    params, p = random_params(network, a, b, train=True)
    pairs = [fuse(p, *pair, 2) for pair in zip(*double((a, b)), strict=True)]
    wanted = {name: np.stack([pair[name] for pair in pairs]) for name in pairs[0]}
    wanted["experts"] = wanted["experts"].swapaxes(0, 1)
    wanted["amplitude"] = wanted["amplitude"].max()

    image, aux = run(network, params, a, b, train=True)
    for name, value in {"image": image, **aux._asdict()}.items():
        check(value, wanted[name])
    image, aux = run(network, params, a, b)
    check(image, wanted["image"])
    check(aux.features_fused, wanted["features_fused"])
