"""Lifting against the filter banks of PyWavelets, borders included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import pywt

from smc_jax.losses import wavelet

# The filter bank of each scheme, and the index of its first coefficient inside the signal.
BANKS = {"haar": ("haar", 0), "cdf53": ("bior2.2", 1), "cdf97": ("bior4.4", 2)}


def bank(x, scheme, axis=0):
    """The low band has the mean of the signal, the high band that of odd minus even samples."""
    name, start = BANKS[scheme]
    # `reflect` mirrors about the outermost samples, as the lifting does.
    low, high = pywt.dwt(np.asarray(x, np.float64), name, mode="reflect", axis=axis)
    inside = np.arange(start, start + x.shape[axis] // 2)
    return low.take(inside, axis) / np.sqrt(2), -high.take(inside, axis) * np.sqrt(2)


def bank_2d(x, scheme):
    low, high = bank(x, scheme, 1)
    (ll, lh), (hl, hh) = bank(low, scheme, 2), bank(high, scheme, 2)
    return ll, np.concatenate([lh, hl, hh], -1)


def random(*shape):
    return jax.random.normal(jax.random.key(0), shape)


def close(ours, theirs):
    assert len(ours) == len(theirs) == 2
    for x, y in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(x, y, atol=3e-6)


@pytest.mark.parametrize("scheme", BANKS)
def test_one_axis(scheme):
    x = random(5, 32)
    close(wavelet.lift(x, 1, scheme), bank(x, scheme, 1))


@pytest.mark.parametrize("scheme", BANKS)
@pytest.mark.parametrize("size", [(16, 24), (17, 24), (16, 23), (21, 19)])
def test_image(scheme, size):
    x = random(2, *size, 3)
    filled = np.pad(x, [(0, 0), *((0, n % 2) for n in size), (0, 0)], mode="edge")
    low, high = wavelet.lift_image(x, scheme)
    assert low.shape == (2, (size[0] + 1) // 2, (size[1] + 1) // 2, 3)
    close((low, high), bank_2d(filled, scheme))


def test_channel_halves_are_literal():
    x = random(2, 4, 5, 8)
    first, second = x[..., :4], x[..., 4:]
    close(wavelet.lift_channels(x), ((first + second) / 2, second - first))


@pytest.mark.parametrize("scheme", BANKS)
def test_channel_halves_play_even_and_odd(scheme):
    x = random(1, 3, 3, 16)
    woven = np.stack([x[..., :8], x[..., 8:]], -1).reshape(x.shape)
    close(wavelet.lift_channels(x, scheme), bank(woven, scheme, 3))


@pytest.mark.parametrize("scheme", BANKS)
def test_nothing_is_lost(scheme):
    # The transform is linear: its matrix must be invertible and well conditioned.
    units = jnp.eye(64).reshape(64, 8, 8, 1)
    low, high = jax.jit(wavelet.lift_image, static_argnums=1)(units, scheme)
    matrix = np.concatenate([low.reshape(64, -1), high.reshape(64, -1)], 1)
    assert np.linalg.cond(matrix) < 20


@pytest.mark.parametrize("scheme", BANKS)
def test_flat_image_has_only_a_low_band(scheme):
    low, high = wavelet.lift_image(jnp.full((1, 9, 8, 1), 0.75), scheme)
    np.testing.assert_allclose(low, 0.75, atol=1e-6)
    np.testing.assert_allclose(high, 0, atol=1e-6)
