"""Pairs that are fused side by side: what they share, and how they are interrupted."""

import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor

import numpy as np
import pytest

from smc_jax import batch, fusion, image_files, memory, workers
from smc_jax.batch import Job
from smc_jax.picture import Picture
from smc_jax.workers import Room

SOON = 10
"""Seconds after which a thread that should have gone on counts as stuck."""


@pytest.fixture
def threads():
    with ThreadPoolExecutor(2) as pool:
        yield pool


@pytest.fixture
def jobs(tmp_path, monkeypatch):
    """Four pairs of 16x20 pixels, for two workers."""
    monkeypatch.setattr(workers, "count", lambda: 2)
    made = []
    for name in "0123":
        path = tmp_path / f"{name}.png"
        image_files.write(path, np.zeros((16, 20), np.uint8))
        made.append(Job(path, path, tmp_path / f"o{name}.png"))
    return made


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


def test_half_of_what_was_free_is_the_budget(monkeypatch, threads):
    """Whether or not the pairs that took some of it already use it."""
    free = [20, 14]
    monkeypatch.setattr(memory, "available", lambda: free[0])
    room = Room()
    with room.take(6) as outer, room.take(6) as inner:
        assert (outer, inner) == (20, 20)
        free.pop(0)
        other = threads.submit(enter, room, 9)
        with pytest.raises(TimeoutError):
            other.result(0.1)
    assert other.result(SOON) == 14


def test_where_nothing_is_free_one_goes_alone(monkeypatch, threads):
    monkeypatch.setattr(memory, "available", lambda: 0)
    room = Room()
    with room.take(6) as budget:
        assert budget == 0
        other = threads.submit(enter, room, 6)
        with pytest.raises(TimeoutError):
            other.result(0.1)
    assert other.result(SOON) == 0


def test_who_comes_first_is_let_in_first():
    room, order = Room(), []

    def one(needed):
        with room.take(needed, 10):
            order.append(needed)

    with ThreadPoolExecutor(3) as pool, room.take(5, 10):
        first = pool.submit(one, 6)
        while not room._waiting:
            pass
        later = [pool.submit(one, 2), pool.submit(one, 3)]
        with pytest.raises(TimeoutError):
            later[0].result(0.1)
    assert order[0] == 6
    assert [v.result(SOON) for v in (first, *later)] == [None] * 3
    assert sorted(order) == [2, 3, 6]


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


def test_an_interrupted_pool_waits_for_no_room_and_goes_on_with_no_part():
    begun, go, done = threading.Event(), threading.Event(), []

    def parts():
        for part in workers.each([1, 2]):
            begun.set()
            go.wait(SOON)
            done.append(part)

    def work():
        with workers.ROOM.take(10, 10), workers.pool(2) as pool:
            found.extend((pool.submit(parts), pool.submit(enter, workers.ROOM, 1, 10)))
            begun.wait(SOON)
            threading.Timer(0.1, go.set).start()
            raise KeyboardInterrupt

    found = []
    with pytest.raises(KeyboardInterrupt):
        work()
    for future in found:
        with pytest.raises(CancelledError):
            future.result(SOON)
    assert done == [1]
    assert list(workers.each([1, 2])) == [1, 2]  # in a thread outside any pool
    assert enter(workers.ROOM, 1, 10) == 10


@pytest.mark.parametrize("size", [1, 2])
def test_an_interrupted_pool_begins_no_further_part_of_a_pair(size):
    begun, go, done, found = threading.Event(), threading.Event(), [], []

    def part(i):
        begun.set()
        go.wait(SOON)
        done.append(i)

    def parts():
        with workers.side_by_side(part, range(20), size) as results:
            list(results)

    def work():
        with workers.pool(1) as pool:
            found.append(pool.submit(parts))
            begun.wait(SOON)
            threading.Timer(0.1, go.set).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    with pytest.raises(CancelledError):
        found[0].result(SOON)
    # Those that had begun are finished.
    assert 1 <= len(done) <= size


@pytest.mark.parametrize("size", [1, 3])
def test_parts_come_in_order(size):
    def part(i):
        threading.Event().wait((0.1, 0, 0.05, 0)[i])
        return i

    with workers.side_by_side(part, range(4), size) as found:
        assert list(found) == [0, 1, 2, 3]


@pytest.mark.parametrize("size", [1, 2])
def test_who_does_not_want_the_results_stops_the_parts(size):
    go, done = threading.Event(), []

    def part(i):
        if i:
            go.wait(SOON)
        done.append(i)

    def work():
        with workers.side_by_side(part, range(20), size) as found:
            next(found)
            threading.Timer(0.1, go.set).start()
            raise MemoryError

    with pytest.raises(MemoryError):
        work()
    # Those that had begun are finished.
    assert 1 <= len(done) <= 1 + size


def test_pairs_are_fused_side_by_side(jobs):
    two = threading.Barrier(2)

    def fuse(a, b, budget):
        assert budget == 10**9
        two.wait(SOON)  # passes only when two pairs are inside
        return Picture(a.pixels)

    assert batch.run(jobs, fuse, int.__mul__, 10**9, False) == ([j.out for j in jobs], [], [])


def test_pairs_that_have_no_room_together_take_turns(jobs):
    inside, most = [], []

    def fuse(a, b, budget):
        inside.append(1)
        most.append(len(inside))
        threading.Event().wait(0.05)
        inside.pop()
        return Picture(a.pixels)

    assert batch.run(jobs, fuse, int.__mul__, 2 * 16 * 20 - 1, False)[0] == [j.out for j in jobs]
    assert most == [1, 1, 1, 1]


def test_an_interrupted_pool_compiles_nothing_else():
    begun, go, done = threading.Event(), threading.Event(), []

    def slow(x):
        done.append(x.shape)
        begun.set()
        go.wait(SOON)
        return x

    function, found = fusion._Compiled(slow), []

    def work():
        with workers.pool(2) as pool:
            found.append(pool.submit(function, np.ones(1)))
            begun.wait(SOON)
            found.append(pool.submit(function, np.ones(2)))
            threading.Timer(0.1, go.set).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert found[0].result(SOON).shape == (1,)
    with pytest.raises(CancelledError):
        found[1].result(SOON)
    assert done == [(1,)]


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
