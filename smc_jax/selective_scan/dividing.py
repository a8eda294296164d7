"""How a program for several devices divides what the compiler cannot look into."""

import math
from collections.abc import Callable
from typing import NamedTuple

from jax import lax
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

Placed = dict[str, tuple[str, ...]]
"""For an axis of the arrays: the axes of the mesh along which it is divided."""


class Division(NamedTuple):
    """The axes of a function that does the same to every part along some of them."""

    axes: str
    """Their names, of arguments and results: "l b, b -> l b". A result that lacks a free one is a
    sum over it."""
    free: str
    """Along which it may be divided. Of the others each device has all."""


def dividing(function: Callable, division: Division) -> Callable:
    """A function, which returns a tuple of arrays, as one that each device calls with its part."""
    sides = division.axes.split("->")
    inputs, outputs = ([operand.split() for operand in side.split(",")] for side in sides)
    free = division.free.split()
    # In the order in which they appear, as the compiler wants them.
    names = dict.fromkeys(name for operand in inputs + outputs for name in operand)
    whole = tuple(name for name in names if name not in free)

    def partition(mesh: Mesh, arguments, results):
        del results
        placed = _placed(inputs, arguments, free, mesh)

        def place(operand: list[str]) -> NamedSharding:
            return NamedSharding(mesh, PartitionSpec(*map(placed.get, operand)))

        def part(*args: Array) -> tuple[Array, ...]:
            return tuple(map(add, function(*args), outputs))

        def add(result: Array, operand: list[str]) -> Array:
            over = [axis for name, axes in placed.items() if name not in operand for axis in axes]
            return lax.psum(result, over) if over else result

        return mesh, part, tuple(map(place, outputs)), tuple(map(place, inputs))

    # Of the arguments it wants to know the positions.
    divided = custom_partitioning(lambda *args: function(*args))
    divided.def_partition(partition, sharding_rule=division.axes, need_replication_factors=whole)
    return divided


def _placed(inputs: list[list[str]], arguments, free: list[str], mesh: Mesh) -> Placed:
    """A free axis is divided as in the first argument that has it divided, if that can be."""
    placed: Placed = {}
    for operand, argument in zip(inputs, arguments, strict=True):
        for name, extent, over in zip(operand, argument.shape, argument.sharding.spec, strict=True):
            over = (over,) if isinstance(over, str) else over or ()
            taken = {axis for axes in placed.values() for axis in axes}
            even = extent % math.prod(mesh.shape[axis] for axis in over) == 0
            if over and even and name in free and name not in placed and not taken & set(over):
                placed[name] = tuple(over)
    return placed
