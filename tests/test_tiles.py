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
    # All have one shape, so that one program serves them all.
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


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 120_000))
def test_cores_are_the_image(rows, columns, pixels):
    image = 16 * rows, 16 * columns
    seen = np.zeros(image, int)
    for tile in tiles.cover(*image, tiles.shape(*image, pixels)):
        seen[tile.core] += 1
        inside = np.zeros(image, int)[tile.place][tile.within].shape
        assert inside == seen[tile.core].shape
        for core, place, extent in zip(tile.core, tile.place, image, strict=True):
            assert core.start % 16 == core.stop % 16 == place.start % 16 == 0
            # A core stays away from the border of its tile, except where that is the image's.
            assert core.start - place.start >= 16 or core.start == 0
            assert place.stop - core.stop >= 16 or core.stop == extent
    assert (seen == 1).all()


@pytest.mark.parametrize(
    ("image", "pixels", "shape"),
    [
        ((2176, 3840), 578_703, (144, 3840)),
        ((2176, 3840), 144_675, (96, 1312)),  # at full width, only 32 rows would fit
        ((480, 640), 0, (64, 240)),
        ((32, 640), 0, (32, 336)),
        ((64, 640), 0, (64, 240)),
        ((480, 640), 10**6, (480, 640)),
        ((480, 640), 480 * 640 - 1, (256, 640)),
    ],
)
def test_shapes_of_tiles(image, pixels, shape):
    assert tiles.shape(*image, pixels) == shape


@pytest.mark.parametrize(
    ("image", "pixels", "most", "count"),
    [
        ((2176, 3840), 578_703, 2, 1),  # half of it is not enough for tiles of full width
        ((2176, 3840), 1_157_406, 2, 2),
        ((2176, 3840), 2_314_812, 8, 7),
        ((512, 1024), 4 * tiles.ROOMY, 1, 1),
        ((512, 1024), 2 * tiles.ROOMY - 1, 9, 1),
    ],
)
def test_as_many_tiles_at_once_as_stay_wide(image, pixels, most, count):
    assert tiles.at_once(*image, pixels, most) == count
    assert tiles.shape(*image, pixels // count)[1] == tiles.shape(*image, pixels)[1]


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.integers(1, 120), st.integers(1, 120), st.integers(128, 1100))
def test_shapes_of_tiles_are_not_much_worse_than_squares(rows, columns, side):
    image = 16 * rows, 16 * columns

    def pixels(shape):
        return sum(tile.weight.size for tile in tiles.cover(*image, shape))

    shape = tiles.shape(*image, side**2)
    assert np.prod(shape) <= side**2
    assert all(s % 16 == 0 and s >= min(64, i) for s, i in zip(shape, image, strict=True))
    square = side // 16 * 16
    assert pixels(shape) <= tiles.DEAR * pixels((square, square))
