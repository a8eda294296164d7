"""Operations of a training step and of fusing a pair, counted in the program before it is compiled.

python -m benchmarks.operations
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

from benchmarks.measure import table
from configs import base
from smc_jax import command, model, sharding, train_state, train_step
from smc_jax.config import override
from smc_jax.types import Batch

MOVING = {
    "reshape", "transpose", "broadcast_in_dim", "slice", "dynamic_slice", "dynamic_update_slice",
    "concatenate", "squeeze", "pad", "gather", "rev", "convert_element_type", "copy", "iota",
    "split", "stop_gradient", "optimization_barrier", "sharding_constraint",
}  # fmt: skip
"""Primitives that compute nothing."""


def main() -> None:
    command.Parser(description=__doc__.splitlines()[0]).parse_args()
    cfg = override(base.get_config("practical"), {"model.scan_method": "chunked"})
    network, mesh = model.build(cfg.model), sharding.one_device()
    state = train_state.abstract(cfg, network, mesh)
    rows = []
    for crop in (64, 128):
        image = jax.ShapeDtypeStruct((1, crop, crop, 1), jnp.float32)
        batch = Batch(image, image, jax.ShapeDtypeStruct((1,), jnp.int32))
        step = jax.make_jaxpr(train_step.jit_step(cfg, network, mesh))(state, batch)
        rows.append([f"a training step, crop {crop}, a pair", f"{operations(step) / 1e9:.1f}"])
    image = jax.ShapeDtypeStruct((1, 480, 640, 1), jnp.float32)
    fuse = jax.make_jaxpr(lambda p, a, b: network.apply({"params": p}, a, b)[0])
    fused = operations(fuse(state.params, image, image))
    rows.append(["fusing a pair, 640x480", f"{fused / 1e9:.1f}"])
    print(table(["", "10^9 operations"], rows))


def operations(program: Any) -> int:
    """Counts additions, multiplications and functions of numbers, over all turns of each `scan`.

    Args:
      program: a jaxpr. Of the branches of a `cond`, the one with the most operations counts.
    """
    return sum(_of(equation) for equation in program.eqns)


def _of(equation: Any) -> int:
    name, given = equation.primitive.name, equation.params
    made = sum(math.prod(v.aval.shape) for v in equation.outvars)
    if name == "dot_general":
        (contracted, _), _ = given["dimension_numbers"]
        return 2 * made * math.prod(equation.invars[0].aval.shape[i] for i in contracted)
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        into = kernel[given["dimension_numbers"].rhs_spec[0]]
        return 2 * made * math.prod(kernel) // into
    if name == "fft":
        lengths = math.prod(given["fft_lengths"])
        return int(2.5 * made * math.log2(lengths))
    inner = [operations(p) for p in _programs(given)]
    if name == "cond":
        return max(inner)
    if name == "scan":
        return given["length"] * sum(inner)
    if inner:
        return sum(inner)
    return 0 if name in MOVING else max(made, *(math.prod(v.aval.shape) for v in equation.invars))


def _programs(values: dict[str, Any]) -> list[Any]:
    kinds = (core.Jaxpr, core.ClosedJaxpr)
    flat = jax.tree.leaves(values, is_leaf=lambda v: isinstance(v, kinds))
    return [v for v in flat if isinstance(v, kinds)]


if __name__ == "__main__":
    raise SystemExit(command.guarded(main))
