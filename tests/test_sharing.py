"""What several devices exchange in a training step."""

import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def test_a_training_step_exchanges_gradients_alone():
    """And a few scalars: losses and what shows illness."""
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, HERE / "eight_devices.py"],
        env=os.environ | flags | {"PYTHONPATH": str(HERE.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    exchanged, gradients = json.loads(done.stdout)
    assert [kind for kind, _, _ in exchanged] == ["all-reduce"]
    assert gradients < exchanged[0][2] < gradients + 1000
