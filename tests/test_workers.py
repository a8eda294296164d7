"""Pairs that are fused side by side: what they share, and how they end."""

import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor

import numpy as np
import pytest

from smc_jax import batch, color, fusion, memory, workers
from smc_jax.batch import Job
from smc_jax.picture import Picture
from smc_jax.workers import Room

SOON = 10
"""Seconds after which a thread that should have gone on has failed."""


@pytest.fixture
def threads():
    with ThreadPoolExecutor(2) as pool:
        yield pool


def enter(room, needed, budget=None):
    with room.take(needed, budget) as found:
        return found


@pytest.mark.parametrize(("first", "second", "together"), [(4, 6, True), (5, 6, False)])
def test_who_has_no_room_waits(threads, first, second, together):
    room = Room()
    with room.take(first, 10):
        other = threads.submit(enter, room, second, 10)
        if together:
            assert other.result(SOON) == 10
        else:
            with pytest.raises(TimeoutError):
                other.result(0.1)
    assert other.result(SOON) == 10


def test_one_that_needs_more_than_there_is_has_all_of_it(threads):
    room = Room()
    with room.take(100, 10) as budget:
        assert budget == 10
        other = threads.submit(enter, room, 1, 10)
        with pytest.raises(TimeoutError):
            other.result(0.1)
    assert other.result(SOON) == 10


def test_what_is_free_is_asked_while_nothing_is_taken(monkeypatch):
    free = iter([20, 30])
    monkeypatch.setattr(memory, "available", lambda: next(free))
    room = Room()
    with room.take(5) as outer, room.take(5) as inner:
        assert (outer, inner) == (20, 20)
    assert enter(room, 5) == 30


def test_a_closed_room_lets_nobody_in_and_nobody_go_on(threads):
    room = Room()
    parts = room.each([1, 2, 3])
    assert next(parts) == 1
    with room.take(10, 10):
        waiting = threads.submit(enter, room, 1, 10)
        with room.closed():
            with pytest.raises(CancelledError):
                waiting.result(SOON)
            with pytest.raises(CancelledError):
                next(parts)
            with pytest.raises(CancelledError):
                enter(room, 0, 10)
    assert enter(room, 1, 10) == 10


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
def test_an_interrupted_pool_begins_nothing_else(error):
    begun, go = threading.Event(), threading.Event()
    done = []

    def one(i):
        begun.set()
        go.wait(SOON)
        done.append(i)

    def work():
        with workers.pool(1) as pool:
            for i in range(3):
                pool.submit(one, i)
            begun.wait(SOON)
            threading.Timer(0.1, go.set).start()
            raise error

    with pytest.raises(error):
        work()
    assert done == [0]


def test_pairs_are_fused_side_by_side(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "count", lambda: 2)
    image = np.zeros((16, 16), np.uint8)
    names = ["0", "1", "2", "3"]
    for name in names:
        color.write(tmp_path / f"{name}.png", image)
    jobs = [
        Job(tmp_path / f"{n}.png", tmp_path / f"{n}.png", tmp_path / f"o{n}.png") for n in names
    ]
    two = threading.Barrier(2)

    def fuse(a, b):
        two.wait(SOON)  # nobody comes alone
        return Picture(a.pixels)

    assert batch.run(jobs, fuse, False) == ([job.out for job in jobs], [], [])


def test_a_shape_is_compiled_once(threads):
    traced, both = [], threading.Barrier(2)

    def double(x):
        traced.append(x.shape)
        return 2 * x

    function = fusion._Compiled(double)

    def call(size):
        both.wait(SOON)
        return function(np.ones(size, np.float32))

    for size in (3, 3, 4):
        for found in threads.map(call, [size, size]):
            np.testing.assert_array_equal(found, np.full(size, 2))
    assert traced == [(3,), (4,)]
