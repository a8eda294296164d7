"""`smc_jax.fuse`: what goes in, what comes out, and tiles."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import weight_files
from scipy import ndimage

import smc_jax
from smc_jax import color, config, fusion, image_files, memory, model, moe, tiles
from smc_jax.config import override
from smc_jax.errors import ConfigError, ImageError
from smc_jax.recolor import recolor

RNG = np.random.default_rng(0)
A, B = RNG.integers(0, 256, (2, 32, 32), dtype=np.uint8)
RED = np.stack([B, B // 2, B // 3], -1)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "x.safetensors"
    weight_files.make(path)
    return path


@pytest.fixture(scope="module")
def fuse(path):
    return lambda a, b, **more: smc_jax.fuse(a, b, weights=path, **more)


@pytest.mark.parametrize(
    ("a", "b", "shape", "dtype"),
    [
        (A, B, (32, 32), np.uint8),
        (A, RED, (32, 32, 3), np.uint8),
        (RED, A, (32, 32, 3), np.uint8),
        (np.stack([A] * 3, -1), B, (32, 32), np.uint8),
        (A.astype(np.uint16) * 257, B, (32, 32), np.uint16),
        (A / 255, B / 255, (32, 32), np.float32),
        (A.astype(np.float32) / 255, RED, (32, 32, 3), np.float32),
        (np.stack([A, B]), np.stack([B, A]), (2, 32, 32), np.uint8),
        (np.stack([A, B])[..., None], np.stack([B, A])[..., None], (2, 32, 32, 1), np.uint8),
        (np.stack([A, B]), np.stack([RED, RED]), (2, 32, 32, 3), np.uint8),
        (A[:17, :23], B[:17, :23], (17, 23), np.uint8),
        (jax.numpy.asarray(A), jax.numpy.asarray(B), (32, 32), np.uint8),
        (A.astype(">u2") * 257, B, (32, 32), np.uint16),
        (jax.numpy.asarray(A / 255, "bfloat16"), B, (32, 32), np.float32),
    ],
)
def test_shapes_and_types(fuse, a, b, shape, dtype):
    found = fuse(a, b)
    assert isinstance(found, np.ndarray)
    assert (found.shape, found.dtype) == (shape, dtype)


def test_it_is_the_network_that_fuses(fuse, path):
    network, params = smc_jax.load(path)
    a, b = (jax.numpy.asarray(v[None, ..., None] / np.float32(255)) for v in (A, B))
    expected = np.asarray(jax.jit(network.apply)({"params": params}, a, b)[0])[0, ..., 0]
    np.testing.assert_allclose(fuse(A / 255, B / 255), expected, atol=1e-5)
    np.testing.assert_allclose(fuse(A, B), expected * 255, atol=0.51)
    np.testing.assert_allclose(
        color.luma(fuse(A / 255, np.repeat(B[..., None], 3, -1) / 255)), expected, atol=1e-5
    )


def test_it_works_under_x64(path):
    expected = fusion.Fuser(*fusion.load(path))(A, RED)
    with jax.enable_x64(True):
        found = fusion.Fuser(*fusion.load(path))(A, RED)
    assert abs(found.astype(int) - expected).max() <= 1


def test_batches_are_image_by_image(fuse):
    batch = fuse(np.stack([A, B]), np.stack([RED, RED]))
    np.testing.assert_array_equal(batch[0], fuse(A, RED))
    np.testing.assert_array_equal(batch[1], fuse(B, RED))


def test_a_batch_keeps_its_channels(fuse):
    """The shape of the result does not depend on what the images show."""
    grey = fuse(np.stack([A, B]), np.stack([B, A]))
    assert grey.shape == (2, 32, 32)
    np.testing.assert_array_equal(
        fuse(np.stack([A, B])[..., None], np.stack([B, A])), grey[..., None]
    )
    wide = np.repeat(np.stack([A, B])[..., None], 3, -1)
    np.testing.assert_array_equal(
        fuse(wide, np.stack([B, A])[..., None]), np.repeat(grey[..., None], 3, -1)
    )


@pytest.mark.parametrize(
    ("task", "first", "second"),
    [("meif", A // 4, B), ("ivif", B, RED), ("mdif", RED, B), ("mfif", None, None)],
)
def test_the_order_is_mended(tmp_path, task, first, second):
    cfg, params = weight_files.make(tmp_path / "x.safetensors", output="blend")
    fuser = fusion.Fuser(override(cfg, {"task": task}), params)
    if first is None:
        assert (fuser(A, B) != fuser(B, A)).any()
        return
    np.testing.assert_array_equal(fuser(first, second), fuser(second, first))
    turned = recolor(fuser.luma(color.luma(second), color.luma(first)), first, second)
    assert (fuser(first, second) != turned).any()


@pytest.mark.parametrize(("task", "a", "b"), [("ivif", RED, A), ("mfif", RED, RED // 2)])
def test_a_task_may_be_named_beside_weights(tmp_path, task, a, b):
    """It decides the order of the sources, and how the result gets its colour."""
    cfg, params = weight_files.make(tmp_path / "x.safetensors", output="blend")
    expected = fusion.Fuser(override(cfg, {"task": task}), params)(a, b)
    found = smc_jax.fuse(a, b, weights=tmp_path / "x.safetensors", task=task)
    np.testing.assert_array_equal(found, expected)
    assert (found != smc_jax.fuse(a, b, weights=tmp_path / "x.safetensors")).any()
    with pytest.raises(ConfigError, match="no task xyz"):
        smc_jax.fuse(a, b, weights=tmp_path / "x.safetensors", task="xyz")


def test_for_any_task_the_images_tell_it(tmp_path):
    cfg, params = weight_files.make(tmp_path / "x.safetensors", output="blend")
    general = fusion.Fuser(override(cfg, {"task": "general"}), params)
    np.testing.assert_array_equal(general(B, RED), general(RED, B))  # grey and colour
    of_its_own = fusion.Fuser(override(cfg, {"task": "ivif"}), params)
    np.testing.assert_array_equal(general(B, RED), of_its_own(B, RED))


def test_weights_that_change_are_read_again(tmp_path):
    path = tmp_path / "x.safetensors"
    found = []
    for seed in range(2):
        weight_files.make(path, seed=seed)
        found.append(smc_jax.fuse(A, B, weights=path))
    weight_files.make(tmp_path / "y.safetensors", seed=1)
    assert (found[0] != found[1]).any()
    np.testing.assert_array_equal(found[1], smc_jax.fuse(A, B, weights=tmp_path / "y.safetensors"))


def test_files(fuse, tmp_path):
    image_files.write(tmp_path / "a.png", A)
    image_files.write(tmp_path / "b.png", RED)
    found = fuse(str(tmp_path / "a.png"), tmp_path / "b.png")
    np.testing.assert_array_equal(found, fuse(A, RED))
    np.testing.assert_array_equal(fuse(tmp_path / "a.png", RED), found)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (A, B[:20], "32x32 and 32x20 pixels"),
        (A[:15], B[:15], "32x15 pixels are too small"),
        (A[0], B[0], r"a has the shape \(32,\)"),
        (A, B[None, None, None], "b has the shape"),
        (np.zeros((2, 20, 20, 2), np.uint8), A, r"a has the shape \(2, 20, 20, 2\)"),
        (np.zeros((0, 20, 20), np.uint8), A, "a has the shape"),
        (np.zeros((20, 20, 4), np.uint8), A, r"\(20, 20, 4\); leave its transparency out"),
        (A[..., None], B, r"\(32, 32, 1\); leave its last axis out"),
        (A.astype(np.int32), B, "a is of int32"),
        (A > 9, B, "a is of bool"),
        (A.astype(np.float32), B, "a has values outside"),
        (np.full((20, 20), np.nan), B, "a has values outside .* or NaN"),
        (A[None], B, "a holds 1 images and b 1"),
        (np.stack([A, A]), B[None], "a holds 2 images and b 1"),
        ("none.png", B, "none.png cannot be read"),
        (A, None, "b has the shape"),
    ],
)
def test_wrong_images(fuse, a, b, message):
    with pytest.raises(ImageError, match=message):
        fuse(a, b)


def test_wrong_choices(fuse):
    with pytest.raises(ConfigError, match="no weights nowhere"):
        smc_jax.fuse(A, B, weights="nowhere")
    with pytest.raises(ConfigError, match="no task xyz"):
        smc_jax.fuse(A, B, task="xyz")
    with pytest.raises(ConfigError, match="'many' is no size of memory"):
        fuse(A, B, max_memory="many")
    with pytest.raises(ConfigError, match="max_memory=10 is less memory than a tile needs"):
        fuse(A, B, max_memory=10)


def test_task_chooses_the_weights(path, tmp_path, monkeypatch):
    monkeypatch.setattr("smc_jax.weights.FOLDER", tmp_path)
    for seed, name in enumerate(("general", "ivif")):
        weight_files.make(tmp_path / f"{name}.safetensors", seed=seed)
    fusion._fuser.cache_clear()
    each = [
        smc_jax.fuse(A, RED, weights=tmp_path / f"{name}.safetensors", task=task)
        for name, task in (("general", "mfif"), ("ivif", "ivif"))
    ]
    assert (each[0] != each[1]).any()
    np.testing.assert_array_equal(smc_jax.fuse(A, RED), each[1])  # grey and colour
    np.testing.assert_array_equal(smc_jax.fuse(A, RED, task="ivif"), each[1])
    np.testing.assert_array_equal(smc_jax.fuse(A, RED, task="mfif"), each[0])
    np.testing.assert_array_equal(smc_jax.fuse(A, RED, "mfif", weights="general"), each[0])
    fusion._fuser.cache_clear()


def smooth(seed, height, width):
    rng = np.random.default_rng(seed)
    small = rng.uniform(size=(height // 8, width // 8)).astype(np.float32)
    return np.kron(small, np.ones((8, 8), np.float32))


def test_tiles_change_little():
    """Tiles see only parts of the image, but use the same experts and low frequencies."""
    fuser = fusion.Fuser(*fusion.load("general"))
    a, b = (ndimage.gaussian_filter(smooth(seed, 128, 192), 1) for seed in range(2))
    whole = fuser.luma(a, b, max_memory=10**12)
    tiled = fuser.luma(a, b, max_memory=0)
    assert (whole != tiled).any()
    # Tiles that know nothing of each other would differ by 2.5 grey levels.
    assert np.abs(whole - tiled).mean() < 0.1 / 255
    # A seam would be a line of steps that the whole does not have.
    for axis in (0, 1):
        steps = np.diff(whole - tiled, axis=axis)
        assert np.abs(steps.mean(1 - axis)).max() < 0.1 / 255


def test_tiles_share_what_the_gate_sees(path):
    cfg, params = fusion.load(path)
    fuser, seen = fusion.Fuser(cfg, params), []
    apply = fuser._apply
    fuser._apply = lambda *values: seen.append(values[4]) or apply(*values)
    a, b = smooth(0, 128, 256), smooth(1, 128, 256)
    fuser.luma(a, b, max_memory=0)
    assert len(seen) == 3
    assert all(pooled is seen[0] for pooled in seen)


@pytest.mark.parametrize(
    ("cores", "budget", "at_once"), [(3, 4, 3), (2, 4, 2), (3, 2, 1), (3, 0, 1), (1, 4, 1)]
)
def test_tiles_are_fused_side_by_side_where_there_is_room(
    path, monkeypatch, cores, budget, at_once
):
    cfg, params = fusion.load(path)
    fuser, inside, most = fusion.Fuser(cfg, params), [], {"look": [], "apply": []}
    monkeypatch.setattr(fusion.workers, "cores", lambda: cores)

    def enter(image, phase):
        inside.append(image.size)
        threading.Event().wait(0.05)  # until others are inside too
        most[phase].append((len(inside), sum(inside)))
        inside.remove(image.size)

    def apply(params, a, b, coarse, pooled):
        enter(a, "apply")
        return a

    def look(params, a, b, coarse):
        enter(a, "look")
        features = jnp.repeat(a, cfg.model.width, -1)
        return moe.blocks(features, features, fuser._block)

    fuser._apply, fuser._look = apply, look
    a, b = np.random.default_rng(0).random((2, 512, 1024), np.float32)
    room = budget * tiles.ROOMY
    fused = fuser.luma(a, b, max_memory=room * memory.per_pixel(cfg.model))
    np.testing.assert_allclose(fused, a, atol=1e-6)
    for seen in most.values():
        assert max(count for count, _ in seen) == at_once
        assert max(pixels for _, pixels in seen) <= max(room, tiles.AREA)


@pytest.mark.parametrize("window", [0, 64])
def test_what_the_gate_sees_of_tiles_is_what_it_sees_of_the_whole(tmp_path, window):
    """The two are equal if each feature depends on its own pixel alone."""
    cfg, params = weight_files.make(tmp_path / "x.safetensors", gate_window=window)
    fuser, seen = fusion.Fuser(cfg, params), []

    def features(image):
        return jnp.concatenate([image * i for i in range(cfg.model.width)], -1)

    fuser._look = lambda params, a, b, coarse: moe.blocks(features(a), features(b), fuser._block)
    fuser._apply = lambda params, a, b, coarse, pooled: seen.append(pooled) or a
    a, b = (np.array(v, np.float32) for v in np.random.default_rng(0).random((2, 288, 416)))
    fuser.luma(a, b, max_memory=0)
    assert len(seen) > 3
    mean, most = moe.pool(*(features(v[None, ..., None]) for v in (a, b)), window)
    np.testing.assert_allclose(seen[0], mean + most, rtol=1e-5)


def test_the_gate_takes_what_it_is_given(path):
    network, params = smc_jax.load(path)
    apply = jax.jit(network.apply)
    a, b = jax.random.uniform(jax.random.key(0), (2, 1, 16, 16, 1))
    kernel = params["mccm"]["Gate_0"]["gate"]["kernel"]
    for expert in range(4):
        pooled = 0.1 * kernel[:, expert][None]
        _, aux = apply({"params": params}, a, b, pooled)
        logits = pooled @ kernel
        assert set(np.flatnonzero(aux.weights[0])) == set(np.argsort(logits[0])[-2:].tolist())


@pytest.mark.parametrize(
    "values", [{}, {"model.output": "blend"}, {"model.width": 16, "model.state": 8}]
)
def test_memory_is_what_the_compiler_says(values):
    cfg = override(config.Config(), values).model
    network, image = model.build(cfg), jax.ShapeDtypeStruct((1, 64, 96, 1), np.float32)
    params = jax.eval_shape(lambda a: network.init(jax.random.key(0), a, a), image)
    program = jax.jit(lambda p, a, b: network.apply(p, a, b)[0]).lower(params, image, image)
    needed = program.compile().memory_analysis().temp_size_in_bytes / (64 * 96)
    assert needed / 1.2 < memory.per_pixel(cfg) < 1.5 * needed


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("2GB", 2e9),
        ("1.5g", 1.5e9),
        ("500 MB", 5e8),
        ("300000000", 3e8),
        ("300000000b", 3e8),
        ("800000k", 8e8),
        ("2TB", 2e12),
        ("2GiB", 2 * 1024**3),
        ("1.5gi", 1.5 * 1024**3),
        ("200 mib", 200 * 1024**2),
        ("200000KiB", 200000 * 1024),
        ("1TiB", 1024**4),
        ("9" * 400, 10**400),
    ],
)
def test_sizes_of_memory(text, size):
    assert memory.parse(text) == size


@pytest.mark.parametrize("text", ["0", "1", "0GB", "0.05GB", "100MB", "95MiB"])
def test_sizes_of_memory_that_no_tile_fits_in(text):
    with pytest.raises(ConfigError, match="is less memory than a tile needs; give at least 114MB"):
        memory.parse(text)


def test_the_least_memory_is_what_the_smallest_tile_takes():
    least = tiles.AREA * memory.per_pixel(config.Model())
    assert memory.parse(f"{least}") == least
    with pytest.raises(ConfigError, match="less memory than a tile needs"):
        memory.parse(f"{least - 1}")
    assert memory.parse("114MB") >= least


@pytest.mark.parametrize(
    "text", ["", "GB", "-1GB", "1,5GB", "2 XB", "nan", "1e9", "500iB", "2\u212a", "\u0662GB"]
)
def test_no_sizes_of_memory(text):
    with pytest.raises(ConfigError, match="is no size of memory; give one such as 2GB"):
        memory.parse(text)


def test_some_memory_is_free():
    assert 10**6 < memory.available() < 10**14
