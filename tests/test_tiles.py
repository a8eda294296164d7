import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smc_jax import tiles


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.integers(16, 400), st.integers(16, 400), st.integers(65, 200), st.integers(1, 64))
def test_weights_sum_to_one(height, width, size, overlap):
    total, shapes = np.zeros((height, width)), set()
    for place, weight in tiles.cover(height, width, size, overlap):
        total[place] += weight
        shapes.add(weight.shape)
        assert weight.min() >= 0
    np.testing.assert_allclose(total, 1, atol=1e-6)
    assert shapes == {(min(height, size), min(width, size))}  # so that one program serves all


def test_neighbours_overlap_and_pass_smoothly():
    found = list(tiles.cover(16, 200, 100, 20))
    starts = [place[1].start for place, _ in found]
    assert starts == [0, 48, 100]  # multiples of 4, as all lengths are
    for start, after in itertools.pairwise(starts):
        assert start + 100 - after >= 20
    for _, weight in found:
        assert np.abs(np.diff(weight, axis=1)).max() < 0.06


def test_no_overlap_is_needed_for_one_tile():
    ((place, weight),) = tiles.cover(20, 30, 32, 8)
    assert place == (slice(0, 20), slice(0, 30))
    np.testing.assert_array_equal(weight, np.ones((20, 30)))


@pytest.mark.parametrize(("pixels", "side"), [(0, 128), (128**2, 128), (200**2, 192), (10**6, 992)])
def test_side(pixels, side):
    assert tiles.side(pixels) == side
