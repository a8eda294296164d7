"""The methods of the selective scan against each other: time and temporary memory.

python -m benchmarks.scan
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.measure import compiled, interleaved, table
from smc_jax.selective_scan import METHODS, selective_scan

# batch, tokens, groups, channels a group, state; the last two are the model's at crop 64.
SHAPES = {
    "1024 tokens, width 64": (1, 1024, 1, 64, 16),
    "4096 tokens, width 64": (1, 4096, 1, 64, 16),
    "16384 tokens, width 64": (1, 16384, 1, 64, 16),
    "8192 tokens, 8 groups of 32": (1, 8192, 8, 32, 16),
    "4096 pixels, 64 channels": (4096, 64, 1, 1, 4),
}


def inputs(batch, length, groups, width, state):
    """Inputs as Mamba initialises them: steps of 0.001 to 0.1, decay rates -1 to -n."""
    r = np.random.default_rng(0)

    def normal(*shape):
        return jnp.asarray(r.standard_normal(shape), jnp.float32)

    channels = groups * width
    dt = jnp.exp(jnp.asarray(r.uniform(np.log(1e-3), np.log(1e-1), (batch, length, channels))))
    A = -jnp.tile(jnp.arange(1.0, state + 1), (channels, 1))
    B, C = normal(batch, length, groups, state), normal(batch, length, groups, state)
    return normal(batch, length, channels), dt, A, B, C


def main() -> None:
    print(
        f"{jax.devices()[0].device_kind}, float32; medians of 5 turns, all methods in each turn\n"
    )
    rows = []
    for name, shape in SHAPES.items():
        arguments = inputs(*shape)
        programs, memory = {}, {}
        for method in METHODS:
            run = functools.partial(selective_scan, method=method)

            def loss(*arguments, run=run):
                return (run(*arguments) ** 2).sum()

            forward, _, forward_bytes = compiled(run, *arguments)
            both, _, both_bytes = compiled(jax.grad(loss, range(5)), *arguments)
            programs[method, "forward"] = functools.partial(forward, *arguments)
            programs[method, "both"] = functools.partial(both, *arguments)
            memory[method] = forward_bytes, both_bytes
        seconds = interleaved(programs)
        for method in METHODS:
            forward, both = seconds[method, "forward"], seconds[method, "both"]
            rows.append(
                [
                    name,
                    method,
                    f"{forward * 1e3:.1f}",
                    f"{both * 1e3:.1f}",
                    f"{seconds['associative', 'forward'] / forward:.1f}",
                    f"{seconds['associative', 'both'] / both:.1f}",
                    f"{memory[method][0] / 1e6:.1f}",
                    f"{memory[method][1] / 1e6:.1f}",
                ]
            )
    header = ["shape", "method", "forward ms", "forward + backward ms", "x associative, forward"]
    header += ["x associative, both", "temporary MB, forward", "temporary MB, both"]
    print(table(header, rows))


if __name__ == "__main__":
    main()
