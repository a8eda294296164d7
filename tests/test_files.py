import os
from pathlib import Path

import pytest

from smc_jax import files
from smc_jax.errors import InputError


def test_write_replaces_whole_files(tmp_path):
    path = tmp_path / "new" / "x.txt"
    files.write(path, b"one")
    files.write(path, b"two")
    assert path.read_bytes() == b"two"
    assert os.stat(path).st_mode & 0o777 == 0o644
    assert [p.name for p in path.parent.iterdir()] == ["x.txt"]


def test_failed_write_leaves_what_was_there(tmp_path):
    (tmp_path / "x" / "inside").mkdir(parents=True)
    with pytest.raises(InputError, match="x cannot be written"):
        files.write(tmp_path / "x", b"no file can replace this folder")
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="cannot be written"):
        files.write(tmp_path / "file" / "x", b"")


def test_check_folder(tmp_path):
    files.check_folder(tmp_path, "--out")
    files.check_folder(tmp_path / "one" / "two", "--out")
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match=f"--out={path}: .*file is a file; give a folder"):
            files.check_folder(path, "--out")
    with pytest.raises(InputError, match=r"--out=.*x: File name too long; give another folder"):
        files.check_folder(tmp_path / ("x" * 256), "--out")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_check_folder_that_may_not_be_written(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="may not be written to"):
        files.check_folder(tmp_path / "new", "--out")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="there is no such file system here")
def test_check_folder_where_even_the_superuser_may_not_write():
    with pytest.raises(InputError, match="--out=/proc/new: /proc may not be written to"):
        files.check_folder("/proc/new", "--out")


def test_lock_that_cannot_be_written_is_told(tmp_path, monkeypatch):
    def full(handle, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    message = "run/lock cannot be written: No space left on device"
    with pytest.raises(InputError, match=message), files.locked(tmp_path / "run"):
        pass


def test_folder_appears_whole_or_not_at_all(tmp_path):
    out = tmp_path / "new" / "x"

    def half():
        with files.making(out) as folder:
            (folder / "half").touch()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    assert not list(out.parent.iterdir())
    with files.making(out) as folder:
        (folder / "all").touch()
        assert not out.exists()
    assert [p.name for p in out.parent.rglob("*")] == ["x", "all"]
    with pytest.raises(InputError, match="x is there already"), files.making(out):
        pass
