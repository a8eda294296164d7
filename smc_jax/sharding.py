"""Placement of arrays: batches are split over all devices, weights over those of one mesh axis.

The mesh has two axes. Devices along `fsdp` share one copy of the weights; each position along
`data` has its own. By default `fsdp` has length 1, so that every device has all weights.
"""

from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from smc_jax.config import Config
from smc_jax.errors import ConfigError
from smc_jax.types import Batch

AXES = ("data", "fsdp")
SMALL = 2**10
"""Arrays with fewer elements than this are not split."""


def make_mesh(fsdp: int = 1) -> Mesh:
    """The mesh of all devices of all processes; the compiler infers other placements (Auto).

    Raises:
      ConfigError: `fsdp` does not divide their number.
    """
    devices = jax.device_count()
    if devices % fsdp:
        raise ConfigError(f"config.train.fsdp is {fsdp}; it must divide the {devices} devices")
    return jax.make_mesh((devices // fsdp, fsdp), AXES, axis_types=(AxisType.Auto,) * 2)


def one_device() -> Mesh:
    """A mesh of the first device of this process."""
    first = jax.local_devices()[:1]
    return jax.make_mesh((1, 1), AXES, axis_types=(AxisType.Auto,) * 2, devices=first)


def check_batch(cfg: Config, mesh: Mesh) -> int:
    """Returns the number of pairs that each device computes at a time.

    Raises:
      ConfigError: the batch cannot be divided evenly.
    """
    batch, parts = cfg.data.batch, cfg.train.accumulate
    if batch % (mesh.size * parts):
        least = mesh.size * parts
        raise ConfigError(
            f"config.data.batch is {batch}, of all devices together; {mesh.size} devices times "
            f"config.train.accumulate={parts} must divide it: take {-(-batch // least) * least}, "
            "or fewer devices (CUDA_VISIBLE_DEVICES)"
        )
    return batch // (mesh.size * parts)


def replicated(mesh: Mesh) -> NamedSharding:
    """A full copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def split(mesh: Mesh) -> NamedSharding:
    """The first axis divided among all devices."""
    return NamedSharding(mesh, PartitionSpec(AXES))


def weights(mesh: Mesh, tree: PyTree) -> PyTree:
    """Returns a sharding for each array or abstract array. The longest axis that `fsdp` divides is
    split along it; small arrays, and those without such an axis, are replicated.
    """
    fsdp = mesh.shape["fsdp"]

    def place(array: Any) -> NamedSharding:
        fits = [i for i, extent in enumerate(array.shape) if extent % fsdp == 0]
        if fsdp == 1 or array.size < SMALL or not fits:
            return replicated(mesh)
        longest = max(fits, key=lambda i: array.shape[i])
        return NamedSharding(mesh, PartitionSpec(*[None] * longest, "fsdp"))

    return jax.tree.map(place, tree)


def put(batch: Batch, mesh: Mesh) -> Batch:
    """Assembles the global batch from the shares that the processes read."""
    sharding = split(mesh)
    return jax.tree.map(lambda v: jax.make_array_from_process_local_data(sharding, v), batch)


def gathered(tree: PyTree) -> PyTree:
    """Gathers whole arrays on the first device of this process."""
    there = jax.local_devices()[0]

    def whole(array: jax.Array) -> jax.Array:
        if not array.is_fully_replicated:
            mesh = array.sharding.mesh  # pyrefly: ignore[missing-attribute]
            array = jax.jit(lambda v: v, out_shardings=replicated(mesh))(array)
        return jax.device_put(array.addressable_data(0), there)

    return jax.tree.map(whole, tree)
