"""The compilation cache, in separate processes because its setting is process-wide."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
COMPILE = """
import resource, signal
import jax
import smc_jax
smc_jax.use_cache()
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, resource.RLIM_INFINITY))
print(jax.jit(lambda x: x + 1)(1))
"""


def compile_with(cache, limit="resource.RLIM_INFINITY", before=""):
    run = subprocess.run(
        [sys.executable, "-c", before + COMPILE.format(limit=limit)],
        env={**os.environ, "SMC_JAX_CACHE": str(cache), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (run.returncode, run.stdout) == (0, "2\n"), run.stderr
    return run.stderr


def test_programs_are_kept(tmp_path):
    assert compile_with(tmp_path / "a/b") == ""
    assert list((tmp_path / "a/b").glob("jit_*"))


def test_a_full_disk_is_no_matter(tmp_path):
    assert compile_with(tmp_path, limit=10) == ""
    assert all(file.stat().st_size <= 10 for file in tmp_path.glob("jit_*"))
    assert compile_with(tmp_path) == ""


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    error = compile_with(tmp_path / "file/cache")
    assert error == (
        f"{tmp_path}/file/cache cannot be made (Not a directory): every start compiles anew; "
        "SMC_JAX_CACHE names another folder\n"
    )


def test_no_home():
    homeless = """
import os, pwd
os.environ.pop("HOME", None)
def unknown(uid):
    raise KeyError(uid)
pwd.getpwuid = unknown
"""
    error = compile_with("", before=homeless)
    assert error == (
        "~/.cache/smc_jax cannot be made (Could not determine home directory.): every start "
        "compiles anew; SMC_JAX_CACHE names another folder\n"
    )
