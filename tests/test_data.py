import jax
import numpy as np
import pytest
from PIL import Image

from data_prep.build import build
from smc_jax import data_source, input_pipeline
from smc_jax.config import TASKS, Data
from smc_jax.errors import ConfigError, ImageError
from smc_jax.types import Batch

SIZE = 20, 30


def place(number):
    """A 16-bit image whose values identify the image and the pixel: no two are equal."""
    return (number * SIZE[0] * SIZE[1] + np.arange(SIZE[0] * SIZE[1]).reshape(SIZE)).astype(
        np.uint16
    )


def make(folder, images, name="x", task="ivif"):
    """Builds a data set whose second sources are the negatives of the first; returns its folder."""
    for number, image in enumerate(images):
        for side, content in (("a", image), ("b", np.iinfo(image.dtype).max - image)):
            path = folder / f"{name}_in/train" / side / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(content).save(path)
    build(folder / f"{name}_in", task, name, folder)
    return str(folder)


@pytest.fixture(scope="module")
def placed(tmp_path_factory):
    return make(tmp_path_factory.mktemp("data"), [place(n) for n in range(6)])


@pytest.fixture(autouse=True)
def accept_smooth_crops(monkeypatch):
    monkeypatch.setattr(input_pipeline, "FLAT", 0.0)


def take(iterator, count):
    return [next(iterator) for _ in range(count)]


def values(crop):
    """The 16-bit values of a crop "h w 1"."""
    return np.rint(crop[..., 0] * 65535).astype(int)


def images_of(batches):
    return [int(v) // (SIZE[0] * SIZE[1]) for batch in batches for v in values(batch.a)[:, 0, 0]]


def same(left, right):
    return jax.tree.all(jax.tree.map(np.array_equal, left, right))


def test_batches(placed):
    batch = next(input_pipeline.batches(Data("x", placed, crop=16, batch=4), "ivif", 0))
    assert isinstance(batch, Batch)
    assert batch.task.tolist() == [TASKS.index("ivif")] * 4
    for image in (batch.a, batch.b):
        assert image.shape == (4, 16, 16, 1)
        assert image.dtype == np.float32
        assert image.min() >= 0
        assert image.max() <= 1


def test_seed_decides(placed):
    config = Data("x", placed, crop=16, batch=2)
    first = take(input_pipeline.batches(config, "ivif", 3), 9)
    again = take(
        input_pipeline.batches(Data("x", placed, crop=16, batch=2, threads=1), "ivif", 3), 9
    )
    assert same(first, again)
    assert not same(first, take(input_pipeline.batches(config, "ivif", 4), 9))


def test_resume(placed):
    config = Data("x", placed, crop=16, batch=2)
    iterator = input_pipeline.batches(config, "ivif", 0)
    take(iterator, 5)
    state = iterator.get_state()
    expected = take(iterator, 6)
    other = input_pipeline.batches(config, "ivif", 0)
    take(other, 2)
    other.set_state(state)
    assert same(take(other, 6), expected)


def test_epochs_show_every_image_in_another_order(placed):
    found = images_of(
        take(input_pipeline.batches(Data("x", placed, crop=16, batch=2), "ivif", 0), 30)
    )
    epochs = [tuple(found[i : i + 6]) for i in range(0, 60, 6)]
    assert all(sorted(epoch) == list(range(6)) for epoch in epochs)
    assert len(set(epochs)) > 5


@pytest.mark.parametrize("name", ["", "x,", "x,x", "x:0", "x:-1", "x:two", "x:inf", "x:nan", ":2"])
def test_no_mix(name):
    with pytest.raises(ConfigError, match=r"config\.data\.name is .*NAME:SHARE"):
        input_pipeline.batches(Data(name), "ivif", 0)


def test_sources_are_augmented_alike(placed):
    for batch in take(input_pipeline.batches(Data("x", placed, crop=16, batch=2), "ivif", 0), 20):
        np.testing.assert_allclose(batch.a + batch.b, 1, atol=1e-6)


@pytest.mark.parametrize("augment", [False, True])
def test_crops_are_windows_in_any_place_and_turn(placed, augment):
    config = Data("x", placed, crop=16, batch=4, augment=augment)
    corners, turns = set(), set()
    for batch in take(input_pipeline.batches(config, "ivif", 0), 200):
        for crop in values(batch.a):
            crop = crop % (SIZE[0] * SIZE[1])
            top, left = divmod(int(crop.min()), SIZE[1])
            window = place(0)[top : top + 16, left : left + 16]
            views = {
                (turn, flip): np.rot90(np.fliplr(window) if flip else window, turn)
                for turn in range(4)
                for flip in (False, True)
            }
            (view,) = (key for key, image in views.items() if np.array_equal(image, crop))
            corners.add((top, left))
            turns.add(view)
    assert len(turns) == (8 if augment else 1)
    # Every place where a crop of this size can lie.
    assert corners == {(t, c) for t in range(5) for c in range(15)}


def test_flat_crops_are_drawn_again(tmp_path, monkeypatch):
    monkeypatch.setattr(input_pipeline, "FLAT", 0.01)
    image = np.full((16, 256), 40, np.uint8)
    image[:, :32] = np.random.default_rng(0).integers(0, 256, (16, 32))
    config = Data("x", make(tmp_path, [image]), crop=16)
    flat = sum(
        batch.a.std() < 0.01 for batch in take(input_pipeline.batches(config, "ivif", 0), 200)
    )
    # 32 of 241 places show texture: 87 % of single draws are flat, and 32 % of eight in a row.
    expected = 200 * (1 - 32 / 241) ** input_pipeline.DRAWS
    assert 0.6 * expected < flat < 1.4 * expected


def test_one_textured_source_is_enough(tmp_path, monkeypatch):
    monkeypatch.setattr(input_pipeline, "FLAT", 0.01)
    image = np.zeros((16, 17), np.uint8)
    target = make(tmp_path, [image], "flat")
    noise = np.random.default_rng(0).integers(0, 256, image.shape, dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "flat_in/train/b/0.png")
    build(tmp_path / "flat_in", "ivif", "half", tmp_path)
    draws = []
    crop = input_pipeline._crop
    monkeypatch.setattr(input_pipeline, "_crop", lambda *args: draws.append(1) or crop(*args))
    for name, expected in (("flat", input_pipeline.DRAWS), ("half", 1)):
        draws.clear()
        pair = data_source.pair(data_source.open(target, name, "train"), 0)
        input_pipeline.Augment(16, False).random_map((pair, np.int32(0)), np.random.default_rng(0))
        assert len(draws) == expected


@pytest.fixture(scope="module")
def with_truth(tmp_path_factory):
    """Data set x has a ground truth, which equals its first source; y has none."""
    folder = tmp_path_factory.mktemp("truth")
    for side in ("a", "b", "gt"):
        (folder / "x_in/train" / side).mkdir(parents=True)
        image = np.iinfo(np.uint16).max - place(0) if side == "b" else place(0)
        Image.fromarray(image).save(folder / "x_in/train" / side / "0.png")
    build(folder / "x_in", "mfif", "x", folder)
    return make(folder, [place(1)], "y", "mfif")


@pytest.mark.parametrize("asked", [False, True])
def test_ground_truth_is_decoded_if_it_is_asked_for(with_truth, monkeypatch, asked):
    source = data_source.open(with_truth, "x", "train")
    assert data_source.pair(source, 0).truth is not None
    decoded = []
    decode = data_source.image_files.decode
    monkeypatch.setattr(
        data_source.image_files, "decode", lambda *args: decoded.append(1) or decode(*args)
    )
    example, _ = input_pipeline.Decoded(source, "mfif", input_pipeline.Room(0), truth=asked)[0]
    assert len(decoded) == 2 + asked
    assert (example.truth is not None) == asked


def test_ground_truth_is_augmented_like_its_sources(with_truth):
    settings = Data("x,y", with_truth, crop=16, batch=2)
    for batch in take(input_pipeline.batches(settings, "mfif", 0, truth=True), 20):
        known = np.array(images_of([batch])) == 0
        assert known.sum() == 1
        np.testing.assert_array_equal(batch.truth[known], batch.a[known])
        np.testing.assert_array_equal(batch.truth[~known], -1)


def test_ground_truth_that_is_nowhere_is_refused(with_truth):
    with pytest.raises(ConfigError, match=r"loss\.truth needs pairs .* and y has none"):
        input_pipeline.batches(Data("y", with_truth, crop=16), "mfif", 0, truth=True)


@pytest.mark.parametrize("split", ["train[:x%]", "train[:0%]", "train[5", "test"])
def test_part_that_is_not_there(placed, split):
    with pytest.raises(ConfigError, match=r"has no split .*, but train, and parts"):
        data_source.open(placed, "x", split)


def test_texture_of_the_ground_truth_alone_is_not_enough(monkeypatch):
    monkeypatch.setattr(input_pipeline, "FLAT", 0.01)
    draws = []
    crop = input_pipeline._crop
    monkeypatch.setattr(input_pipeline, "_crop", lambda *args: draws.append(1) or crop(*args))
    flat, noise = np.zeros(SIZE, np.uint8), np.random.default_rng(0).bytes(SIZE[0] * SIZE[1])
    example = data_source.Example("x", flat, flat, np.frombuffer(noise, np.uint8).reshape(SIZE))
    augment = input_pipeline.Augment(16, False, truth=True)
    augment.random_map((example, np.int32(0)), np.random.default_rng(0))
    assert len(draws) == input_pipeline.DRAWS


def test_ground_truth_changes_no_crop(with_truth):
    settings = Data("x,y", with_truth, crop=16, batch=2)
    with_it = take(input_pipeline.batches(settings, "mfif", 0, truth=True), 10)
    without = take(input_pipeline.batches(settings, "mfif", 0), 10)
    assert all(batch.truth is None for batch in without)
    assert same([batch._replace(truth=None) for batch in with_it], without)


def test_processes_share_each_batch(placed, monkeypatch):
    config = Data("x", placed, crop=16, batch=4)
    seen = []
    for process in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(jax, "process_count", lambda: 2)
            patch.setattr(jax, "process_index", lambda process=process: process)
            batches = take(input_pipeline.batches(config, "ivif", 0), 6)
        assert batches[0].a.shape[0] == 2
        seen.append(batches)
    alone = take(input_pipeline.batches(config, "ivif", 0), 6)
    for whole, *shares in zip(alone, *seen, strict=True):
        np.testing.assert_array_equal(whole.a, np.concatenate([share.a for share in shares]))


def test_names_are_those_of_the_batch(placed):
    config = Data("x", placed, crop=16, batch=4)
    for step, batch in enumerate(take(input_pipeline.batches(config, "ivif", 3), 5), start=1):
        assert input_pipeline.names(config, 3, step) == [f"{i}" for i in images_of([batch])]


def test_uneven_shares_are_refused(placed, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 7)
    with pytest.raises(ConfigError, match="batch is 4; 7 processes must divide it"):
        input_pipeline.batches(Data("x", placed, crop=16, batch=4), "ivif", 0)


def test_crop_larger_than_an_image(placed):
    with pytest.raises(ConfigError, match=r"crop is 21, but 0 of x is 30x20; take a smaller crop"):
        input_pipeline.batches(Data("x", placed, crop=21), "ivif", 0)


def test_missing_data_set(placed, tmp_path):
    with pytest.raises(ConfigError, match=f"no data set in {tmp_path}/y; build it: python -m data"):
        input_pipeline.batches(Data("y", str(tmp_path)), "ivif", 0)
    with pytest.raises(ConfigError, match="x has no split 'test', but train"):
        data_source.open(placed, "x", "test")
    with pytest.raises(ConfigError, match=r"x holds pairs for ivif, but config\.task is mdif"):
        input_pipeline.batches(Data("x", placed, crop=16), "mdif", 0)


def test_damaged_data_set(tmp_path):
    make(tmp_path, [place(0)])
    (file,) = tmp_path.glob("x/*/*.array_record*")
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ConfigError, match="x is damaged; build it again"):
        input_pipeline.batches(Data("x", str(tmp_path), crop=16), "ivif", 0)
    file.unlink()
    with pytest.raises(ConfigError, match="x is damaged; build it again"):
        input_pipeline.batches(Data("x", str(tmp_path), crop=16), "ivif", 0)


@pytest.mark.parametrize("file", ["dataset_info.json", "features.json"])
def test_damaged_description_of_a_data_set(tmp_path, file):
    make(tmp_path, [place(0)])
    (tmp_path / "x/1.0.0" / file).write_text("{")
    with pytest.raises(ConfigError, match="x is damaged; build it again"):
        data_source.open(str(tmp_path), "x", "train")


def test_damaged_record_is_named(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (5, 300, 300), dtype=np.uint8)
    make(tmp_path, list(noise))
    (file,) = tmp_path.glob("x/*/*.array_record*")
    content = bytearray(file.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(64)
    file.write_bytes(content)
    source = data_source.open(str(tmp_path), "x", "train")
    assert data_source.pair(source, 0).name == "0"
    with pytest.raises(ImageError, match="record 2 of the data set is damaged"):
        data_source.pair(source, 2)
    assert data_source.pair(source, 4).name == "4"


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Data set x holds images 0 to 5, and y images 6 and 7, for another task."""
    folder = tmp_path_factory.mktemp("mixed")
    make(folder, [place(n) for n in range(6)])
    return make(folder, [place(n) for n in (6, 7)], "y", "mfif")


def test_mixture_keeps_shares_and_tells_tasks(mixed):
    config = Data("x:3,y", mixed, crop=16, batch=2)
    batches = take(input_pipeline.batches(config, "general", 0), 40)
    images = images_of(batches)
    tasks = [int(t) for batch in batches for t in batch.task]
    assert [t == 2 for t in tasks] == [n > 5 for n in images]
    assert set(tasks) == {0, 2}
    assert sum(t == 0 for t in tasks) == 60
    assert all(sum(t == 0 for t in tasks[i : i + 4]) == 3 for i in range(0, 80, 4))


def test_mixture_resumes(mixed):
    config = Data("x:2,y:1", mixed, crop=16)
    iterator = input_pipeline.batches(config, "general", 0)
    take(iterator, 7)
    state = iterator.get_state()
    other = input_pipeline.batches(config, "general", 0)
    other.set_state(state)
    assert same(take(other, 9), take(iterator, 9))


def test_data_sets_of_a_mixture_are_shuffled_apart(placed, tmp_path):
    make(tmp_path, [place(n) for n in range(6)])
    folder = make(tmp_path, [place(n) for n in range(6)], "y")
    found = images_of(take(input_pipeline.batches(Data("x,y", folder, crop=16), "ivif", 0), 60))
    assert found[::2] != found[1::2]


def test_mixture_for_one_task_holds_no_other(mixed):
    with pytest.raises(ConfigError, match=r"y holds pairs for mfif, but config\.task is ivif"):
        input_pipeline.batches(Data("x,y", mixed, crop=16), "ivif", 0)


@pytest.mark.parametrize(("size", "least"), [(0, 60), (5000, 2 + 4 * 10), (1_000_000, 6)])
def test_cache_changes_no_batch_and_keeps_its_budget(placed, monkeypatch, size, least):
    decoded = []
    room = input_pipeline.Room
    monkeypatch.setattr(input_pipeline, "Room", lambda _: room(size))
    decode = data_source.decode
    monkeypatch.setattr(data_source, "decode", lambda record: decoded.append(1) or decode(record))
    config = Data("x", placed, crop=16, threads=1)
    batches = take(input_pipeline.batches(config, "ivif", 0), 60)
    monkeypatch.setattr(data_source, "decode", decode)
    assert same(
        batches, take(input_pipeline.batches(Data("x", placed, crop=16, cache_mb=0), "ivif", 0), 60)
    )
    # A pair takes 2 x 20 x 30 x 2 bytes: two of the six fit into 5000.
    # Threads may have read ahead.
    assert least <= len(decoded) <= least + 6
