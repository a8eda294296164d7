"""The count of operations, on programs that can be counted by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.operations import operations


def count(function, *shapes):
    return operations(jax.make_jaxpr(function)(*(jnp.zeros(shape) for shape in shapes)))


def test_products_and_convolutions():
    assert count(lambda a, b: a @ b, (3, 5), (5, 7)) == 2 * 3 * 5 * 7
    kernel = np.zeros((3, 3, 4, 6), np.float32)
    numbers = ("NHWC", "HWIO", "NHWC")

    def convolution(x):
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers)

    assert count(convolution, (2, 8, 9, 4)) == 2 * (2 * 8 * 9 * 6) * (3 * 3 * 4)


def test_loops_and_branches():
    def loop(x):
        return jax.lax.scan(lambda c, row: (c + jax.jit(jnp.exp)(row), None), x[0], x)[0]

    assert count(loop, (10, 4)) == 10 * (4 + 4)
    most = count(lambda x: jax.lax.cond(True, lambda v: v, lambda v: v * v + v, x), (5,))
    assert most == 10
    assert count(lambda x: x.reshape(2, 3).T.sum(), (6,)) == 6
