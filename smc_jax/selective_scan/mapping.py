"""How scans with their own gradient behave under `jax.vmap` and inside `jax.shard_map`."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap
from jaxtyping import Array


def joining(function: Callable, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> Callable:
    """Returns `function` with a rule for `jax.vmap` that merges the mapped axis into the groups.

    Scans side by side in one call are faster than the scan with each of its operations mapped.

    Args:
      function: takes arrays and returns a tuple of arrays.
      inputs: the axis of the groups in each argument.
      outputs: the axis of the groups in each result.
    """
    joined = custom_vmap(function)

    @joined.def_vmap
    def _(size, mapped, *args):
        wide = [
            v if is_mapped else jnp.broadcast_to(v, (size, *v.shape))
            for v, is_mapped in zip(args, mapped, strict=True)
        ]
        wide = [_join(v, axis) for v, axis in zip(wide, inputs, strict=True)]
        results = zip(joined(*wide), outputs, strict=True)
        return tuple(_part(v, axis, size) for v, axis in results), (True,) * len(outputs)

    return joined


def _join(v, axis: int):
    v = jnp.moveaxis(v, 0, axis)
    return v.reshape(*v.shape[:axis], -1, *v.shape[axis + 2 :])


def _part(v, axis: int, size: int):
    v = v.reshape(*v.shape[:axis], size, -1, *v.shape[axis + 1 :])
    return jnp.moveaxis(v, axis, 0)


def vary_alike(*arrays: Array) -> list[Array]:
    """Casts arrays to vary over the same mesh axes, as loops inside `jax.shard_map` require."""
    varying = [jax.typeof(v).manual_axis_type.varying for v in arrays]
    axes = frozenset().union(*varying)
    missing = (tuple(axes - there) for there in varying)
    return [lax.pcast(v, m, to="varying") for v, m in zip(arrays, missing, strict=True)]
