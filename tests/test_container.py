"""What a container leaves this process."""

from types import SimpleNamespace

import pytest

from smc_jax import container, memory, workers


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(container, "FOLDER", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("limit", "left"), [("3000\n", 1100), ("1000\n", 0), ("max\n", None), (None, None)]
)
def test_memory_is_what_its_limit_leaves(folder, monkeypatch, limit, left):
    cpu = SimpleNamespace(memory_stats=lambda: None)
    monkeypatch.setattr(memory.jax, "local_devices", lambda: [cpu])
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: SimpleNamespace(available=9000))
    if limit:
        (folder / "memory.max").write_text(limit)
        (folder / "memory.current").write_text("2000\n")
        (folder / "memory.stat").write_text("anon 5\ninactive_file 100\nactive_file 7\n")
    assert container.memory() == left
    assert memory.available() == (9000 if left is None else left) // 2


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        ("200000 100000\n", 2),
        ("199000 100000\n", 1),
        ("5000 100000\n", 1),
        ("900000 100000\n", 8),
        ("max 100000\n", 8),
        ("", 8),
        (None, 8),
    ],
)
def test_cores_are_those_whose_time_it_may_take(folder, monkeypatch, quota, cores):
    monkeypatch.setattr(workers.jax, "default_backend", lambda: "cpu")
    monkeypatch.setattr(workers.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    if quota is not None:
        (folder / "cpu.max").write_text(quota)
    assert workers.cores() == cores
