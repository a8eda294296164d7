"""Training is the same on any number of devices and processes."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import tiny

from configs import base
from smc_jax import sharding
from smc_jax.config import override
from smc_jax.errors import ConfigError

ROOT = Path(__file__).parent.parent
WAIT = 600
"""Seconds to wait for a process, on a machine that is busy with much else."""
VALUES = tiny.TINY | tiny.QUICK | {"model.mafe": True, "data.batch": 8, "train.ema": 0.9}

ON_MANY = """
import json, sys
import jax
from smc_jax import sharding, train, train_step
from smc_jax.config import Config, override

folder, values = sys.argv[1], json.loads(sys.argv[2])
sharding.SMALL = 16
jit_step = train_step.jit_step

class BrokenError(Exception):
    pass

def run(name, devices, **more):
    def make_mesh(fsdp):
        kinds = (jax.sharding.AxisType.Auto,) * 2
        shape = devices // fsdp, fsdp
        return jax.make_mesh(shape, sharding.AXES, kinds, devices=jax.devices()[:devices])

    real, sharding.make_mesh = sharding.make_mesh, make_mesh
    train.train(override(Config(), values | more), f"{folder}/{name}")
    sharding.make_mesh = real

def broken(cfg, model, mesh):
    step, done = jit_step(cfg, model, mesh), []
    def counting(state, batch):
        if len(done) == 4:
            raise BrokenError
        done.append(batch)
        return step(state, batch)
    return counting

assert jax.device_count() == 8
for devices in (1, 8):
    run(f"on{devices}", devices)
train_step.jit_step = broken
try:
    run("moved", 8, **{"train.fsdp": 4})
except BrokenError:
    pass
train_step.jit_step = jit_step
run("moved", 2)
"""


@pytest.fixture(scope="module")
def values(tmp_path_factory):
    return VALUES | {"data.dir": tiny.data_set(tmp_path_factory.mktemp("devices"))}


@pytest.fixture(scope="module")
def cached(tmp_path_factory):
    return os.environ | {
        "PYTHONPATH": str(ROOT),
        "SMC_JAX_CACHE": str(tmp_path_factory.mktemp("cache")),
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("cache")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }


def fake_devices(count):
    flags = os.environ["XLA_FLAGS"] + f" --xla_force_host_platform_device_count={count}"
    return {"XLA_FLAGS": flags}


def metrics(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def assert_same(workdir, other):
    mine, theirs = metrics(workdir), metrics(other)
    assert [line["step"] for line in mine] == [1, 2, 3, 4, 5, 6]
    for one, two in zip(mine, theirs, strict=True):
        assert one == pytest.approx(two, rel=2e-3, abs=1e-4)


def on_eight(cached, *arguments):
    """Runs Python with these arguments on eight fake devices; returns what it prints."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=cached | fake_devices(8),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_training_step_exchanges_gradients_alone(cached):
    """Apart from them only a few scalars: losses and signs of trouble."""
    exchanged, gradients = json.loads(on_eight(cached, "tests/eight_devices.py"))
    assert [kind for kind, _, _ in exchanged] == ["all-reduce"]
    assert gradients < exchanged[0][2] < gradients + 1000


def test_one_and_eight_devices_train_the_same(values, cached, tmp_path):
    """So do eight that split the weights, and two that go on from their checkpoint."""
    told = on_eight(cached, "-c", ON_MANY, str(tmp_path), json.dumps(values))
    assert "batch 8: 8 devices x 1 parts x 1 pairs" in told
    assert "moved: going on from step 3" in told
    for name in ("on8", "moved"):
        assert_same(tmp_path / name, tmp_path / "on1")


def start(values, cached, workdir, process=None, port=0):
    flags = [f"--config.{name}={value}" for name, value in values.items()]
    if process is not None:
        flags += ["--config.train.distributed=true", f"--coordinator=127.0.0.1:{port}"]
        flags += ["--processes=2", f"--process={process}"]
    return subprocess.Popen(
        [sys.executable, "train.py", "--config=configs/msrs.py", f"--workdir={workdir}", *flags],
        cwd=ROOT,
        env=cached | fake_devices(1 if process is None else 2),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def pair(values, cached, workdir):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [start(values, cached, workdir, process, port) for process in (0, 1)]


def test_two_processes_train_as_one_does_and_stop_together(values, cached, tmp_path):
    values = values | {"validation.every": 3, "validation.split": "train", "validation.pairs": 3}
    values |= {"validation.metrics": "EN,SD", "validation.best": "SD", "model.mafe": False}
    values |= {"train.save_every": 1000}
    alone = start(values, cached, tmp_path / "alone")
    told = alone.communicate(timeout=WAIT)[0]
    assert alone.returncode == 0, told
    two = pair(values, cached, tmp_path / "two")
    told = [process.communicate(timeout=WAIT)[0] for process in two]
    assert [process.returncode for process in two] == [0, 0], told
    assert "batch 8: 4 devices x 1 parts x 2 pairs" in told[0]
    assert "step 6/6" in told[0]
    assert "step" not in told[1], "only the first process tells"
    assert_same(tmp_path / "two", tmp_path / "alone")

    # One of them is told to stop; later a single process goes on from where both stopped.
    more = values | {"train.steps": 2000, "validation.every": 5000, "train.log_every": 1}
    more |= {"train.image_every": 5000}
    two = pair(more, cached, tmp_path / "stopped")
    for line in two[0].stdout:
        if line.startswith("step "):
            break
    two[1].send_signal(signal.SIGTERM)
    told = [process.communicate(timeout=WAIT)[0] for process in two]
    assert [process.returncode for process in two] == [0, 0], told
    assert "stopped after step" in told[0]
    step = int(told[0].partition("stopped after step ")[2].split()[0])
    saved = [p.name for p in (tmp_path / "stopped" / "checkpoints").iterdir()]
    assert saved == [str(step)]
    alone = start(more | {"train.steps": step + 1}, cached, tmp_path / "stopped")
    assert f"going on from step {step}" in alone.communicate(timeout=WAIT)[0]
    assert alone.returncode == 0
    assert [line["step"] for line in metrics(tmp_path / "stopped")] == list(range(1, step + 2))


def test_batch_that_the_devices_do_not_divide_is_refused():
    mesh = sharding.one_device()
    cfg = override(base.get_config(), {"data.batch": 6, "train.accumulate": 4})
    with pytest.raises(ConfigError, match=r"batch is 6.*1 devices times .*accumulate=4.*take 8,"):
        sharding.check_batch(cfg, mesh)
    assert sharding.check_batch(override(cfg, {"train.accumulate": 3}), mesh) == 2
    with pytest.raises(
        ConfigError, match=r"config\.train\.fsdp is 3; it must divide the 1 devices"
    ):
        sharding.make_mesh(3)


def test_processes_that_cannot_be_joined_are_told(cached, tmp_path):
    flags = ["--config.train.distributed=true", f"--workdir={tmp_path / 'w'}"]
    done = subprocess.run(
        [sys.executable, "train.py", "--config=configs/msrs.py", *flags],
        cwd=ROOT,
        env=cached,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: config.train.distributed: the processes of this job")
