"""Weight files, and the command that makes them."""

import contextlib
import errno
import json
import struct

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import weight_files
from flax import traverse_util

import smc_jax
from smc_jax import checkpoint, export, files, model, model_card, weights
from smc_jax.config import TASKS, override
from smc_jax.errors import ConfigError


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "x.safetensors"
    return path, *weight_files.make(path)


def test_what_is_written_is_read(made):
    path, cfg, params = made
    found = weights.read(path)
    assert found.config == cfg
    assert found.about == {"data": "none", "steps": 0, "seed": 0}
    chex.assert_trees_all_equal(found.params, params)


def test_bfloat16_halves_the_file(made, tmp_path):
    path, _, params = made
    weights.write(tmp_path / "half.safetensors", weights.read(path), "bfloat16")
    found = weights.read(tmp_path / "half.safetensors").params
    expected = jax.tree.map(lambda v: v.astype(jnp.bfloat16).astype(jnp.float32), params)
    chex.assert_trees_all_equal(found, expected)
    saved = path.stat().st_size - (tmp_path / "half.safetensors").stat().st_size
    # Besides the numbers, the file has a header with their offsets, in more or fewer digits.
    assert saved == pytest.approx(2 * sum(v.size for v in jax.tree.leaves(params)), rel=0.02)


def test_the_file_is_plain_safetensors(made):
    """Reads the header by hand: eight bytes of length, then JSON."""
    path, cfg, params = made
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    about = header.pop("__metadata__")
    assert json.loads(about["config"])["model"]["width"] == cfg.model.width
    flat = traverse_util.flatten_dict(params, sep="/")
    assert header.keys() == flat.keys()
    entry = header["source_a/shallow/LayerNorm_0/scale"]
    start, end = entry["data_offsets"]
    values = np.frombuffer(content[8 + length :][start:end], np.float32).reshape(entry["shape"])
    np.testing.assert_array_equal(values, flat["source_a/shallow/LayerNorm_0/scale"])


def test_load_gives_a_model_and_its_parameters(made):
    path, cfg, params = made
    network, loaded = smc_jax.load(path)
    assert network == model.build(cfg.model)
    apply = jax.jit(network.apply)
    a, b = jax.random.uniform(jax.random.key(0), (2, 1, 16, 16, 1))
    fused, _ = apply({"params": loaded}, a, b)
    np.testing.assert_array_equal(fused, apply({"params": params}, a, b)[0])


def test_packaged_names(made, tmp_path, monkeypatch):
    path, cfg, _ = made
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    with pytest.raises(ConfigError, match=r"no weights for ivif .*none is packaged yet"):
        weights.for_task("ivif")
    for name in ("meif", "general"):
        (tmp_path / f"{name}.safetensors").write_bytes(path.read_bytes())
    assert weights.packaged() == ["general", "meif"]
    assert weights.for_task("meif") == "meif"
    assert weights.for_task("ivif") == "general"
    assert weights.load("meif")[0] == cfg
    out = tmp_path / "new" / "p.safetensors"
    assert export.main(["meif", f"--out={out}"]) == 0
    chex.assert_trees_all_equal(weights.read(out).params, weights.load("meif")[1])
    with pytest.raises(ConfigError, match=r"no weights mfif; .*\(general, meif\), a \.safetensors"):
        smc_jax.load("mfif")


def damaged(content, how):
    return {
        "empty": b"",
        "cut": content[:-10],
        "text": b"no weights at all" * 9,
        "other": safetensors_of({}),
        "version": content.replace(b"smc_jax 1", b"smc_jax 9"),
        "config": content.replace(b'\\"width\\": 8', b'\\"width\\": 7'),
        "field": content.replace(b'\\"width\\"', b'\\"wedth\\"'),
        "shape": content.replace(b'\\"width\\": 8', b'\\"width\\": 4'),
        "list": safetensors_of({}, config="[]"),
        "about": safetensors_of({}, config="{}", about="[]"),
    }[how]


def safetensors_of(tensors, **header):
    import safetensors.numpy

    return safetensors.numpy.save(tensors, {"format": weights.FORMAT} | header if header else None)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("empty", "damaged or no safetensors file"),
        ("cut", "damaged or no safetensors file"),
        ("text", "damaged or no safetensors file"),
        ("other", "no weight file of this version"),
        ("version", "no weight file of this version"),
        ("config", r"header of .*width is 7; it must be even"),
        ("field", r"header of .*unknown config field model\.wedth"),
        ("shape", "does not fit its config"),
        ("list", r"header of .*: the config is \[\]; it must hold fields"),
        ("about", r"header of .*: about is \[\]; it must hold fields"),
    ],
)
def test_damage_is_told(made, tmp_path, how, message):
    content = made[0].read_bytes()
    path = tmp_path / "bad.safetensors"
    path.write_bytes(damaged(content, how))
    assert path.read_bytes() != content
    with pytest.raises(ConfigError, match=message) as caught:
        weights.load(path)
    assert "bad.safetensors" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_weights_are_told(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.safetensors cannot be read: No such file"):
        weights.load(tmp_path / "none.safetensors")
    with pytest.raises(ConfigError, match="holds no checkpoint"):
        weights.load(tmp_path)


def test_blown_up_weights_are_not_written(made, tmp_path):
    loaded = weights.read(made[0])
    loaded.params["source_a"]["shallow"]["LayerNorm_0"]["bias"] += np.inf
    with pytest.raises(ConfigError, match="source_a/shallow/LayerNorm_0/bias is not finite"):
        weights.write(tmp_path / "x.safetensors", loaded)
    assert not list(tmp_path.iterdir())


def test_export(made, tmp_path, capsys):
    path, cfg, params = made
    table = {"EN": 6.5, "MI": 2.25}
    scores = {"methods": {"Max": {"pairs": 3, "mean": table}, "Ours": {"pairs": 3, "mean": {}}}}
    (tmp_path / "metrics.json").write_text(json.dumps(scores))
    out = tmp_path / "new" / "meif.safetensors"
    told = ["--data=30 pairs", "--command=train.py --x", f"--metrics=MEFB={tmp_path}/metrics.json"]
    assert export.main([str(path), f"--out={out}", *told]) == 0
    assert capsys.readouterr().out == f"wrote {out}, {out.with_suffix('.md')}\n"
    found = weights.read(out)
    assert found.config == cfg
    chex.assert_trees_all_equal(found.params, params)
    assert found.about["steps"] == 0
    assert found.about["metrics"]["MEFB"]["methods"]["Max"] == table
    card = out.with_suffix(".md").read_text()
    count = sum(v.size for v in jax.tree.leaves(params))
    for line in (
        "# meif",
        f"SMC-Mamba, {count:,} parameters, stored in float32.",
        "| data | 30 pairs |",
        "| command | `train.py --x` |",
        "Means over 3 pairs, by `evaluate.py`.",
        "| Max | 6.5 | 2.25 |",
    ):
        assert line in card.splitlines()


def test_the_card_of_a_run_that_went_on_from_other_weights(made, tmp_path, monkeypatch):
    _, cfg, params = made
    fine = override(cfg, {"train.init_from": "/home/me/runs/msrs", "train.only": "decoder"})
    monkeypatch.setattr(checkpoint, "load", lambda path: (fine, params, 3))
    found = export.read("runs/fine")
    assert (found.config.train.init_from, found.config.train.only) == ("", "decoder")
    monkeypatch.setattr(export, "read", lambda path: found)
    assert export.main(["runs/fine", f"--out={tmp_path}/fine.safetensors"]) == 0
    card = (tmp_path / "fine.md").read_text().splitlines()
    assert "| begun with | `runs/msrs` |" in card
    assert "| parts that learned | `decoder` |" in card
    assert "/home" not in "".join(card)


def test_the_mean_of_several(tmp_path, capsys):
    ways = [{"scan_method": "reference"}, {"remat": True}, {}]
    made = [
        weight_files.make(tmp_path / f"{seed}.safetensors", seed=seed, **way)
        for seed, way in enumerate(ways)
    ]
    out = tmp_path / "mean.safetensors"
    paths = [str(tmp_path / f"{seed}.safetensors") for seed in range(3)]
    assert export.main([*paths, f"--out={out}"]) == 0
    found = weights.read(out)
    assert found.config == made[-1][0]
    assert found.about["mean of"] == 3
    assert "| mean of | 3 networks; the lines above tell of the last |" in (
        out.with_suffix(".md").read_text().splitlines()
    )
    expected = jax.tree.map(lambda *v: np.mean(v, 0), *(params for _, params in made))
    chex.assert_trees_all_close(found.params, expected, rtol=1e-5, atol=1e-7)
    weight_files.make(tmp_path / "wide.safetensors", width=16)
    wide = str(tmp_path / "wide.safetensors")
    assert export.main([paths[0], wide, f"--out={tmp_path / 'no.safetensors'}"]) == 2
    told = capsys.readouterr().err
    assert told == "error: the mean is of one network alone; these differ in config.model.width\n"
    assert not (tmp_path / "no.safetensors").exists()


def test_the_mean_is_for_one_task(made, tmp_path, capsys):
    network = weights.read(made[0])
    other = network._replace(config=override(network.config, {"task": "ivif"}))
    weights.write(tmp_path / "ivif.safetensors", other)
    out = tmp_path / "new" / "mean.safetensors"
    assert export.main([str(made[0]), str(tmp_path / "ivif.safetensors"), f"--out={out}"]) == 2
    told = capsys.readouterr().err
    assert told == "error: the mean is of networks for one task; these are for meif, ivif\n"
    assert not out.parent.exists()


def test_the_mean_has_no_scores_but_its_own(made, tmp_path):
    scored, file = tmp_path / "scored.safetensors", tmp_path / "metrics.json"
    for value, paths, out, expected in (
        (2.25, [made[0]], scored, {"T": 2.25}),
        (None, [scored], tmp_path / "again.safetensors", {"T": 2.25}),
        (None, [made[0], scored], tmp_path / "mean.safetensors", None),
        (3.5, [made[0], scored], tmp_path / "told.safetensors", {"U": 3.5}),
    ):
        given = []
        if value is not None:
            file.write_text(json.dumps({"methods": {"Max": {"pairs": 3, "mean": {"MI": value}}}}))
            given = [f"--metrics={next(iter(expected))}={file}"]
        assert export.main([*map(str, paths), f"--out={out}", *given]) == 0
        tables = weights.read(out).about.get("metrics")
        found = tables and {k: v["methods"]["Max"]["MI"] for k, v in tables.items()}
        assert found == expected
        card = out.with_suffix(".md").read_text()
        headings = [line for line in card.splitlines() if line.startswith("## ")]
        assert headings == [f"## {name}" for name in expected or ()]


@pytest.mark.parametrize("there", ["x.safetensors", "x.md"])
def test_export_overwrites_only_when_told(made, tmp_path, capsys, there):
    (tmp_path / there).write_text("mine")
    command = [str(made[0]), f"--out={tmp_path / 'x.safetensors'}"]
    assert export.main(command) == 2
    told = capsys.readouterr().err
    assert f"{tmp_path / there} is there already; give --out another name, or --overwrite" in told
    assert len(told.splitlines()) == 1
    assert [p.name for p in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "mine"
    assert export.main([*command, "--overwrite"]) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.md", "x.safetensors"]
    chex.assert_trees_all_equal(weights.read(tmp_path / "x.safetensors").params, made[2])
    assert (tmp_path / "x.md").read_text().startswith("# x\n")


@pytest.mark.parametrize("there", ["x.safetensors", "x.md"])
@pytest.mark.parametrize("more", [[], ["--overwrite"]])
def test_export_never_replaces_a_folder(made, tmp_path, capsys, there, more):
    (tmp_path / there).mkdir()
    assert export.main([str(made[0]), f"--out={tmp_path / 'x.safetensors'}", *more]) == 2
    told = capsys.readouterr().err
    assert told == f"error: {tmp_path / there} is a folder; give --out another name\n"
    assert [p.name for p in tmp_path.rglob("*")] == [there]


@pytest.mark.parametrize("full", ["x.safetensors", "x.md"])
def test_there_are_no_weights_without_a_card(made, tmp_path, monkeypatch, capsys, full):
    """If either of the two cannot be written, nothing is left."""
    replacing = files.replacing

    class Full:
        def write(self, content):
            raise OSError(errno.ENOSPC, "No space left on device")

    @contextlib.contextmanager
    def filling(path):
        with replacing(path) as file:
            yield Full() if path.name == full else file

    monkeypatch.setattr(files, "replacing", filling)
    assert export.main([str(made[0]), f"--out={tmp_path / 'x.safetensors'}"]) == 2
    assert f"{tmp_path / full} cannot be written: No space" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_card_holds_what_is_no_character(made, tmp_path):
    out = tmp_path / "x.safetensors"
    assert export.main([str(made[0]), f"--out={out}", "--data=caf\udce9"]) == 0
    assert "| data | caf? |" in out.with_suffix(".md").read_text().splitlines()


def test_the_card_is_a_table_whatever_is_in_it(made, tmp_path):
    out = tmp_path / "x.safetensors"
    told = ["--data=a|b", "--command=x | `y`"]
    assert export.main([str(made[0]), f"--out={out}", *told]) == 0
    lines = out.with_suffix(".md").read_text().splitlines()
    assert r"| data | a\|b |" in lines
    assert r"| command | `` x \| `y` `` |" in lines


ROW = {"pairs": 3, "mean": {"MI": 2.25}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "has no methods"),
        ("[]", "has no methods"),
        ('{"methods": {}}', "has no methods"),
        ('{"methods": [1]}', "has no methods"),
        ('{"methods": {"Max": {"pairs"', "is no JSON, or cut off"),
        (b"\xff\xfe\xff", "is no JSON, or cut off"),
        ({"mean": 5}, "lacks pairs or means"),
        ({"mean": {"MI": None}}, "lacks pairs or means"),
        ({"mean": {"MI": "2"}}, "lacks pairs or means"),
        ({"mean": {"MI": float("nan")}}, "lacks pairs or means"),
        ({"mean": {"MI": 10**400}}, "lacks pairs or means"),
        ({"pairs": None}, "lacks pairs or means"),
    ],
)
def test_malformed_metrics_are_told(made, tmp_path, capsys, content, message):
    file, out = tmp_path / "metrics.json", tmp_path / "new" / "x.safetensors"
    if isinstance(content, dict):
        content = json.dumps({"methods": {"Max": ROW, "Ours": ROW | content}})
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError, match=message):
        model_card.read_metrics(f"T={file}")
    assert export.main([str(made[0]), f"--out={out}", f"--metrics=T={file}"]) == 2
    told = capsys.readouterr().err
    assert f"give NAME=FILE, with a metrics.json of evaluate.py ({file} {message}" in told
    assert len(told.splitlines()) == 1
    assert not out.parent.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out={tmp}/x.npz"], "give a file NAME.safetensors"),
        (["--out={tmp}/x.safetensors", "--metrics=A={tmp}/none"], "none cannot be read: No such"),
        (["--out={tmp}/x.safetensors", "--metrics={path}"], "give NAME=FILE"),
        (["--out={tmp}/x.safetensors", "--metrics=A={path}"], "give NAME=FILE"),
        (["--out={path}/x.safetensors"], "cannot be written"),
    ],
)
def test_export_refuses(made, tmp_path, capsys, arguments, message):
    filled = [text.format(tmp=tmp_path, path=made[0]) for text in arguments]
    assert export.main([str(made[0]), *filled]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert len(told.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_weights_for_every_task_are_packaged():
    assert set(weights.packaged()) == {*TASKS, "general"}


@pytest.mark.parametrize("name", weights.packaged())
def test_packaged_weights(name):
    path = weights.FOLDER / f"{name}.safetensors"
    assert path.stat().st_size < 1e6
    found = weights.read(path)
    assert found.config.task == name
    assert found.about["steps"] > 0
    assert found.about["data"]
    card = path.with_suffix(".md").read_text()
    assert card.startswith(f"# {name}\n")
    network = model.build(found.config.model)
    a, b = jax.random.uniform(jax.random.key(0), (2, 1, 32, 32, 1))
    fused, _ = jax.jit(network.apply)({"params": found.params}, a, b)
    chex.assert_tree_all_finite(fused)
