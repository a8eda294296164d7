"""Chooses between equivalent functions when a program is compiled, not when it is traced."""

import importlib
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import mlir

HOPPER = 9.0
"""The lowest compute capability that the kernels support."""


def choose(*args: jax.Array, kernel: Callable, gpu: Callable, other: Callable):
    """Calls `kernel` where our kernels run, `gpu` on other GPUs, and `other` elsewhere.

    The kernels run in float32, on GPUs of this machine that they support, in a program for one
    device or inside `jax.shard_map`: the compiler cannot partition them among several devices. An
    exported program (`jax.export`) does not use them, because it may run on any GPU.

    Args:
      kernel, gpu, other: functions of `args` that return tuples of arrays and differ in speed only.
    """
    if all(v.dtype == jnp.float32 for v in args):

        def cuda(*args):
            return tuple(_kernel_or_gpu.bind(*args, kernel=kernel, gpu=gpu))
    else:
        cuda = gpu
    return lax.platform_dependent(*args, cuda=cuda, rocm=gpu, default=other)


def has_kernels() -> bool:
    """Returns whether this machine has GPUs and our kernels support all of them."""
    found = gpus()
    if not found or any(float(gpu.compute_capability) < HOPPER for gpu in found):
        return False
    try:
        # Not every build of jaxlib has the modules that the kernels import.
        importlib.import_module("smc_jax.selective_scan.kernels")
    except ImportError:
        return False
    return True


def gpus() -> list[Any]:
    """Returns the NVIDIA GPUs that this process may use."""
    try:
        return jax.local_devices(backend="cuda")
    except RuntimeError:
        return []


def _abstract(*avals, kernel, gpu):
    del kernel
    # Not jax.eval_shape: inside jax.shard_map, the types must keep the mesh axes they vary over.
    return jax.make_jaxpr(gpu)(*avals).out_avals


def _lower(context, *args, kernel, gpu):
    module = context.module_context
    here = set(module.platforms) == {"cuda"} and not module.lowering_parameters.for_export
    function = kernel if here and _devices(module.axis_context) == 1 and has_kernels() else gpu
    # Inside jax.shard_map, types say over which mesh axes an array varies; inside a kernel arrays
    # vary over none.
    plain = (jax.ShapeDtypeStruct(v.shape, v.dtype) for v in context.avals_in)
    plain = jax.make_jaxpr(lambda *args: args)(*plain).in_avals
    lower = mlir.lower_fun(function, multiple_results=True)
    return lower(context.replace(avals_in=plain), *args)


def _devices(axes) -> int:
    """Returns the number of devices among which the compiler still has to partition arrays."""
    if not hasattr(axes, "manual_axes"):
        return getattr(axes, "num_devices", 1)
    return math.prod(n for name, n in axes.mesh.shape.items() if name not in axes.manual_axes)


_kernel_or_gpu = Primitive("kernel_or_gpu")
_kernel_or_gpu.multiple_results = True
_kernel_or_gpu.def_abstract_eval(_abstract)
mlir.register_lowering(_kernel_or_gpu, _lower)
