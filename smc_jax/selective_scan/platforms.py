"""Which of several equal functions runs: known when a program is compiled, not when traced."""

import importlib
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax._src import dispatch
from jax.extend.core import Primitive
from jax.interpreters import mlir

from smc_jax.selective_scan.dividing import Division, dividing

HOPPER = 9.0
"""The least compute capability that the kernels are for."""


def choose(*args: jax.Array, kernel: Callable, gpu: Callable, other: Callable, division: Division):
    """Calls `kernel` where our kernels run, `gpu` on another GPU, and `other` elsewhere.

    The kernels run in float32, on GPUs of this machine that they are for. An exported program
    (`jax.export`) has none: it may run on any GPU.

    Args:
      kernel, gpu, other: functions of `args`, equal in all but speed, that return tuples of arrays.
      division: how several devices share the work of `kernel`, into which the compiler cannot look.
    """
    if all(v.dtype == jnp.float32 for v in args):
        if several_gpus():
            # There is no public way for `_lower` to learn which devices a program is for.
            dispatch.prim_requires_devices_during_lowering.add(_kernel_or_gpu)

        def cuda(*args):
            options = {"kernel": kernel, "gpu": gpu, "division": division}
            return tuple(_kernel_or_gpu.bind(*args, **options))
    else:
        cuda = gpu
    return lax.platform_dependent(*args, cuda=cuda, rocm=gpu, default=other)


def has_kernels() -> bool:
    """Whether the GPUs of this machine, if it has any, are those that our kernels are for."""
    found = gpus()
    if not found or any(float(gpu.compute_capability) < HOPPER for gpu in found):
        return False
    try:
        # Not every build of jaxlib has what they import.
        importlib.import_module("smc_jax.selective_scan.kernels")
    except ImportError:
        return False
    return True


def gpus() -> list[Any]:
    """Those of NVIDIA that this process may use."""
    try:
        return jax.local_devices(backend="cuda")
    except RuntimeError:
        return []


def several_gpus() -> bool:
    """Whether programs may be for several GPUs, of this process and of others."""
    return bool(gpus()) and jax.device_count("cuda") > 1


def _abstract(*avals, kernel, gpu, division):
    del kernel, division
    # Not jax.eval_shape: inside jax.shard_map, results vary over axes of the mesh.
    return jax.make_jaxpr(gpu)(*avals).out_avals


def _lower(context, *args, kernel, gpu, division):
    module = context.module_context
    here = set(module.platforms) == {"cuda"} and not module.lowering_parameters.for_export
    devices = _devices(module.axis_context)
    function = gpu
    if here and has_kernels():
        if devices == 1:
            function = kernel
        elif getattr(module.axis_context, "device_assignment", None):
            function = dividing(kernel, division)
    # Inside jax.shard_map types tell over which axes of the mesh an array varies; in a kernel none
    # does.
    plain = (jax.ShapeDtypeStruct(v.shape, v.dtype) for v in context.avals_in)
    plain = jax.make_jaxpr(lambda *args: args)(*plain).in_avals
    lower = mlir.lower_fun(function, multiple_results=True)
    return lower(context.replace(avals_in=plain), *args)


def _devices(axes) -> int:
    """Among how many devices the compiler divides what is not divided already."""
    if not hasattr(axes, "manual_axes"):
        return getattr(axes, "num_devices", 1)
    return math.prod(n for name, n in axes.mesh.shape.items() if name not in axes.manual_axes)


_kernel_or_gpu = Primitive("kernel_or_gpu")
_kernel_or_gpu.multiple_results = True
_kernel_or_gpu.def_abstract_eval(_abstract)
mlir.register_lowering(_kernel_or_gpu, _lower)
