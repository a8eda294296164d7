"""Where arrays live: batches are split over the devices, everything else is on each of them."""

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from smc_jax.types import Batch


def make_mesh() -> Mesh:
    """All devices along one axis, `data`; the compiler places what is not told (Auto)."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """One whole copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def split(mesh: Mesh) -> NamedSharding:
    """The first axis divided among the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def put(batch: Batch, mesh: Mesh) -> Batch:
    """The global batch out of what this process read of it."""
    sharding = split(mesh)
    return jax.tree.map(lambda v: jax.make_array_from_process_local_data(sharding, v), batch)
