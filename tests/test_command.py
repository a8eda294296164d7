"""How commands end."""

import subprocess
import sys

import pytest

SCRIPT = """
from smc_jax import command, errors

def main():
    {}

command.run(main)
"""


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ("return None", 0, ""),
        ("return 2", 2, ""),
        ("raise errors.ImageError('x.png is bad')", 2, "error: x.png is bad\n"),
        ("raise OSError(28, 'No space left on device')", 2, "error: [Errno 28] No space left"),
        ("raise KeyboardInterrupt", 130, "interrupted\n"),
    ],
)
def test_ends(body, status, told):
    script = SCRIPT.format(body)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == status
    assert done.stderr.startswith(told)
    assert len(done.stderr.splitlines()) == bool(told)
