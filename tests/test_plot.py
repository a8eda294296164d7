"""The plot of the curves of runs."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from smc_jax import plot
from smc_jax.errors import InputError


@pytest.fixture
def runs(tmp_path):
    for number in (1, 2):
        workdir = tmp_path / f"run{number}"
        workdir.mkdir()
        rows = [{"step": i, "loss": number / i, "chosen_0": 0.5} for i in range(1, 600)]
        rows[4]["loss"] = None
        rows[9]["val/VIF"] = 0.5
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (workdir / "metrics.jsonl").write_text(lines + '{"step": 600, "lo')
    return tmp_path


def test_curves_are_what_was_logged(runs):
    curves = plot.read(runs / "run2")
    assert curves.keys() == {"loss", "chosen_0", "val/VIF"}
    assert curves["loss"].shape == (2, 599)
    assert np.isnan(curves["loss"][1, 4])
    np.testing.assert_array_equal(curves["val/VIF"], [[10], [0.5]])


def test_a_field_a_name_and_a_colour_a_run(runs, capsys):
    pytest.importorskip("matplotlib", reason="pip install '.[plot]'")
    out = runs / "new" / "curves.png"
    workdirs = [str(runs / "run1"), str(runs / "run2")]
    assert plot.main([*workdirs, f"--out={out}"]) is None
    assert capsys.readouterr().out == f"wrote {out}\n"
    both = np.asarray(Image.open(out).convert("RGB")).astype(int)
    one = plot.draw({"run1": plot.read(runs / "run1")}, ["loss"])
    one = np.asarray(Image.open(io.BytesIO(one)).convert("RGB")).astype(int)
    assert both.shape[1] > 1.5 * one.shape[1], "loss and val/VIF are side by side"
    orange = (255, 127, 14)
    assert (abs(both - orange).max(-1) < 30).any()
    assert not (abs(one - orange).max(-1) < 30).any()


def test_a_name_is_no_formula(runs):
    pytest.importorskip("matplotlib", reason="pip install '.[plot]'")
    curves = {"lo$s^$": np.array([[1.0, 2.0], [3.0, 4.0]])}
    assert plot.draw({"r$x^$": curves}).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none"], "none/metrics.jsonl is not there; give the --workdir of a training"),
        (["run1", "--names=los"], "no run has logged los; there is loss, chosen_0, val/VIF"),
        (["bad"], "metrics.jsonl is damaged at [1, 2]; remove that line"),
        (["bytes"], "metrics.jsonl is damaged at \ufffd\ufffd; remove that line"),
        (["words"], 'metrics.jsonl is damaged at {"step": 1, "loss": "abc"}; remove that line'),
        (
            ["run1", "--out=curves.pdf"],
            "--out=curves.pdf is no name of a picture; give one that ends",
        ),
        (["run1", "--out=run1/metrics.jsonl"], "metrics.jsonl is no name of a picture"),
        (["empty"], "no run has logged anything; there is nothing yet"),
    ],
)
def test_what_cannot_be_drawn_is_told(runs, arguments, message, capsys, monkeypatch):
    pytest.importorskip("matplotlib", reason="pip install '.[plot]'")
    damaged = {
        "bad": b"[1, 2]\n",
        "bytes": b"\xff\xfe\n",
        "words": b'{"step": 1, "loss": "abc"}\n',
        "empty": b"",
    }
    for name, content in damaged.items():
        (runs / name).mkdir()
        (runs / name / "metrics.jsonl").write_bytes(content)
    monkeypatch.chdir(runs)
    assert plot.main(arguments) == 2
    assert message in capsys.readouterr().err
    assert not (runs / "curves.png").exists()


def test_without_matplotlib_it_says_how_to_get_it(runs, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(InputError, match="plots need matplotlib: pip install"):
        plot.draw({"run1": plot.read(runs / "run1")})
