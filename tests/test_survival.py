"""Runs that are stopped, killed or out of disk space go on as if nothing had happened."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny

from smc_jax import checkpoint

ROOT = Path(__file__).parent.parent
STEPS = 30
VALUES = {
    **tiny.TINY,
    **tiny.QUICK,
    "train.steps": STEPS,
    "train.image_every": 10,
    "train.save_every": 1,
    "train.ema": 0.9,
}


class Nursery:
    def __init__(self, folder, values):
        self.folder, self.values = folder, values
        cache = {
            "JAX_COMPILATION_CACHE_DIR": str(folder / "cache"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "PYTHONPATH": str(ROOT),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "tests/nursery.py"],
            cwd=ROOT,
            env=os.environ | cache,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, **what):
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def start(self, workdir, name="log", limit=0, **values):
        values = self.values | values
        log = str(self.folder / name)
        return self.ask(workdir=str(workdir), values=values, log=log, limit=limit)

    def wait(self, pid):
        """Returns the exit status, or the negative number of the signal that killed the process."""
        return os.waitstatus_to_exitcode(self.ask(wait=pid))

    def log(self, name="log"):
        return (self.folder / name).read_text()


@pytest.fixture(scope="module")
def nursery(tmp_path_factory):
    folder = tmp_path_factory.mktemp("survival")
    nursery = Nursery(folder, VALUES | {"data.dir": tiny.data_set(folder)})
    yield nursery
    nursery.process.stdin.close()
    nursery.process.wait()
    nursery.process.stdout.close()


@pytest.fixture(scope="module")
def unbroken(nursery):
    workdir = nursery.folder / "unbroken"
    assert nursery.wait(nursery.start(workdir)) == 0, nursery.log()
    return workdir


def logged(workdir):
    path = workdir / "metrics.jsonl"
    return path.read_text(errors="replace").count("\n") if path.exists() else 0


def until(workdir, lines):
    end = time.monotonic() + 600
    while logged(workdir) < lines:
        assert time.monotonic() < end, "the run does not begin"
        time.sleep(0.005)


def assert_equal_runs(workdir, other):
    text = (workdir / "metrics.jsonl").read_text()
    steps = [json.loads(line)["step"] for line in text.splitlines()]
    assert steps == list(range(1, STEPS + 1))
    assert (workdir / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()
    for name in sorted(p.name for p in (other / "images").iterdir()):
        assert (workdir / "images" / name).read_bytes() == (other / "images" / name).read_bytes()
    mine, theirs = (checkpoint.load(w)[1] for w in (workdir, other))
    jax.tree.map(np.testing.assert_array_equal, mine, theirs)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_signal_ends_a_run_with_a_checkpoint_of_its_step(
    nursery, unbroken, tmp_path, number, status
):
    pid = nursery.start(tmp_path, **{"train.save_every": 1000})
    until(tmp_path, 3)
    os.kill(pid, number)
    assert nursery.wait(pid) == status, nursery.log()
    done = logged(tmp_path)
    assert 3 <= done < STEPS
    assert f"stopped after step {done} of {STEPS}" in nursery.log()
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == [str(done)]
    assert nursery.wait(nursery.start(tmp_path)) == 0
    assert f"going on from step {done}" in nursery.log()
    assert_equal_runs(tmp_path, unbroken)


def test_killed_at_any_moment_a_run_goes_on(nursery, unbroken, tmp_path):
    """Since it saves every step, it is saving almost all of the time."""
    moments = random.Random(0)
    for turn in range(14):
        before = logged(tmp_path)
        # Some are killed at their start, most while they train.
        pid = nursery.start(tmp_path)
        if turn % 5 == 4:
            time.sleep(moments.uniform(0, 2))
        elif before < STEPS - 8:
            end = time.monotonic() + 60
            while logged(tmp_path) <= before and time.monotonic() < end:
                time.sleep(0.002)
            time.sleep(moments.uniform(0, 0.08))
        os.kill(pid, signal.SIGKILL)
        nursery.wait(pid)
        log = nursery.log()
        assert "error" not in log, log
        if before and "going on from step" in log:
            # It loses at most the step whose checkpoint was being written, and the next one.
            assert int(log.partition("going on from step ")[2].split()[0]) >= before - 2
    assert nursery.wait(nursery.start(tmp_path)) == 0, nursery.log()
    assert_equal_runs(tmp_path, unbroken)
    left = {p.name for p in (tmp_path / "checkpoints").iterdir()}
    assert left == {str(STEPS), str(STEPS - 1)}, "a killed save left something behind"


def test_full_disk_leaves_the_older_checkpoints(nursery, unbroken, tmp_path):
    pid = nursery.start(tmp_path)
    until(tmp_path, 5)
    os.kill(pid, signal.SIGTERM)
    assert nursery.wait(pid) == 0
    done = logged(tmp_path)
    largest = max(f.stat().st_size for f in (tmp_path / "checkpoints").rglob("*") if f.is_file())
    pid = nursery.start(tmp_path, limit=largest - 1000)
    assert nursery.wait(pid) == 2
    assert "a checkpoint cannot be written" in nursery.log()
    assert "the older checkpoints are intact" in nursery.log()
    # A slow machine also prints its progress, which does not count.
    told = [line for line in nursery.log().splitlines() if line and not line.startswith("step ")]
    assert len(told) <= 3, nursery.log()
    assert checkpoint.load(tmp_path / "checkpoints" / str(done))
    assert nursery.wait(nursery.start(tmp_path)) == 0
    assert f"going on from step {done}" in nursery.log()
    assert_equal_runs(tmp_path, unbroken)


def test_second_run_in_a_workdir_is_refused(nursery, tmp_path):
    pid = nursery.start(tmp_path, "first")
    until(tmp_path, 1)
    second = nursery.start(tmp_path, "second")
    assert nursery.wait(second) == 2
    assert f"{tmp_path} is in use by process {pid} on " in nursery.log("second")
    os.kill(pid, signal.SIGKILL)
    nursery.wait(pid)
    # The lock's file is still there, but nobody holds it.
    assert nursery.wait(nursery.start(tmp_path, "third")) == 0
