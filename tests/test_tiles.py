import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smc_jax import tiles


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    st.integers(16, 400),
    st.integers(16, 400),
    st.tuples(st.integers(65, 200), st.integers(65, 200)),
    st.integers(1, 64),
)
def test_weights_sum_to_one(height, width, shape, overlap):
    total, shapes = np.zeros((height, width)), set()
    for tile in tiles.cover(height, width, shape, overlap):
        total[tile.place] += tile.weight
        shapes.add(tile.weight.shape)
        assert tile.weight.min() >= 0
    np.testing.assert_allclose(total, 1, atol=1e-6)
    # One shape, so that one program serves all.
    assert shapes == {(min(height, shape[0]), min(width, shape[1]))}


def test_neighbours_overlap_and_pass_smoothly():
    found = tiles.cover(16, 200, (100, 100), 20)
    starts = [tile.place[1].start for tile in found]
    assert starts == [0, 48, 100]  # multiples of 4, as all lengths are
    for start, after in itertools.pairwise(starts):
        assert start + 100 - after >= 20
    for tile in found:
        assert np.abs(np.diff(tile.weight, axis=1)).max() < 0.06


def test_no_overlap_is_needed_for_one_tile():
    (tile,) = tiles.cover(20, 30, (32, 32), 8)
    assert tile.place == (slice(0, 20), slice(0, 30))
    np.testing.assert_array_equal(tile.weight, np.ones((20, 30)))


@pytest.mark.parametrize(
    ("image", "pixels", "shape"),
    [
        ((2176, 3840), 1088**2, (1120, 1024)),  # 8 tiles; of square ones of 1088 it would be 12
        ((480, 640), 0, (128, 128)),
        ((32, 640), 0, (32, 128)),
        ((64, 640), 0, (64, 128)),
        ((480, 640), 10**6, (480, 640)),
        ((480, 640), 480 * 640 - 1, (480, 352)),
    ],
)
def test_shapes_of_tiles(image, pixels, shape):
    assert tiles.shape(*image, pixels) == shape


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(128, 1100))
def test_shapes_of_tiles_are_no_worse_than_squares(rows, columns, side):
    image = 32 * rows, 32 * columns

    def pixels(shape):
        return sum(tile.weight.size for tile in tiles.cover(*image, shape))

    shape = tiles.shape(*image, side**2)
    assert np.prod(shape) <= side**2
    assert all(s % 32 == 0 and s >= min(128, i) for s, i in zip(shape, image, strict=True))
    square = side // 32 * 32
    assert pixels(shape) <= pixels((square, square))
