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


SWALLOWED = """
import gc, signal, time
from smc_jax import command

def once(phase, info):
    gc.callbacks.remove(once)
    raise {}

def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    gc.callbacks.append(once)
    gc.collect()
    time.sleep(60)

import sys
sys.exit(command.guarded(main))
"""


@pytest.mark.parametrize(
    ("error", "status"), [("KeyboardInterrupt", 130), ("SystemExit(143)", 143)]
)
def test_an_interrupt_while_garbage_is_collected_is_not_lost(error, status):
    # In the background of a shell, SIGINT would be ignored.
    script = "import signal; signal.signal(2, signal.default_int_handler)\n" + SWALLOWED
    done = subprocess.run(
        [sys.executable, "-c", script.format(error)], capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done.stderr
    assert "Exception ignored" not in done.stderr


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
