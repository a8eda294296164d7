"""The methods of the selective scan against each other, and against PyTorch where it is installed.

python -m benchmarks.scan

Optional rivals: a plain loop over tokens in PyTorch (`pip install torch`), mamba.py's parallel scan
(`pip install mambapy`) and, on a GPU, mamba-ssm's kernel (`pip install mamba-ssm`).
"""

import functools
import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange

from benchmarks.measure import compiled, interleaved, table
from smc_jax.selective_scan import METHODS as ALL
from smc_jax.selective_scan import selective_scan

# The kernels are for a GPU.
METHODS = [method for method in ALL if method != "pallas" or jax.default_backend() == "gpu"]
# batch, tokens, groups, channels a group, state.
SHAPES = {
    "1024 tokens, width 64": (1, 1024, 1, 64, 16),
    "4096 tokens, width 64": (1, 4096, 1, 64, 16),
    "16384 tokens, width 64": (1, 16384, 1, 64, 16),
    "65536 tokens, width 64": (1, 65536, 1, 64, 16),
    # CM-Scan of all experts and modalities at crop 64.
    "8192 tokens, 8 groups of 32": (1, 8192, 8, 32, 16),
    # A channel is one token here.
    "16384 pixels, 32 channels": (16384, 32, 1, 1, 4),
    "16384 pixels, 64 channels": (16384, 64, 1, 1, 4),
}
FULL_SIZE = (1, 480 * 640, 1, 128, 16)


def inputs(batch, length, groups, width, state):
    """Inputs as Mamba initialises them: steps of 0.001 to 0.1, decay rates -1 to -n.

    Tokens come first, as the model lays them out: "l b d" and "l b g n".
    """
    r = np.random.default_rng(0)

    def normal(*shape):
        return jnp.asarray(r.standard_normal(shape), jnp.float32)

    channels = groups * width
    x = normal(length, batch, channels)
    dt = jnp.exp(jnp.asarray(r.uniform(np.log(1e-3), np.log(1e-1), x.shape), jnp.float32))
    A = -jnp.tile(jnp.arange(1.0, state + 1), (channels, 1))
    return x, dt, A, *(normal(length, batch, groups, state) for _ in "BC")


def scan(x, dt, A, B, C, *, method):
    x, dt, B, C = (jnp.moveaxis(v, 0, 1) for v in (x, dt, B, C))
    return jnp.moveaxis(selective_scan(x, dt, A, B, C, method=method), 0, 1)


def programs(method, arguments):
    """Forward, and forward with backward, as functions of nothing; and the bytes that each needs
    beside its arguments and results.
    """
    run = functools.partial(scan, method=method)

    def loss(*arguments):
        return (run(*arguments) ** 2).sum()

    forward, _, forward_bytes = compiled(run, *arguments)
    both, _, both_bytes = compiled(jax.grad(loss, range(5)), *arguments)
    timed = (functools.partial(program, *arguments) for program in (forward, both))
    return *timed, (forward_bytes, both_bytes)


def torch_programs(rival, arguments):
    """The same of a rival in PyTorch; without groups, as those have none."""
    import torch

    device = "cuda" if jax.default_backend() == "gpu" else "cpu"
    x, dt, A, B, C = (torch.tensor(np.asarray(v), device=device) for v in arguments)
    x, dt, B, C = (v.movedim(0, 1).contiguous() for v in (x, dt, B[:, :, 0], C[:, :, 0]))
    leaves = [v.requires_grad_() for v in (x, dt, A, B, C)]

    def forward():
        with torch.no_grad():
            rival(*leaves)
        _wait(torch, device)

    def both():
        torch.autograd.grad((rival(*leaves) ** 2).sum(), leaves)
        _wait(torch, device)

    return forward, both, None


def _wait(torch, device):
    if device == "cuda":
        torch.cuda.synchronize()


def torch_loop(x, dt, A, B, C):
    import torch

    a = torch.exp(dt[..., None] * A)
    b = (dt * x)[..., None] * B[:, :, None]
    h, states = torch.zeros_like(a[:, 0]), []
    # unbind: indexing would cost the backward pass the square of the length.
    for a_t, b_t in zip(a.unbind(1), b.unbind(1), strict=True):
        h = a_t * h + b_t
        states.append(h)
    return torch.einsum("bldn,bln->bld", torch.stack(states, 1), C)


def torch_pscan(x, dt, A, B, C):
    import torch
    from mambapy.pscan import pscan

    h = pscan(torch.exp(dt[..., None] * A), (dt * x)[..., None] * B[:, :, None])
    return torch.einsum("bldn,bln->bld", h, C)


def torch_kernel(x, dt, A, B, C):
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    x, dt, B, C = (rearrange(v, "b l d -> b d l") for v in (x, dt, B, C))
    return rearrange(selective_scan_fn(x, dt, A, B, C), "b d l -> b l d")


def rivals(groups):
    found = {}
    if groups == 1 and importlib.util.find_spec("torch"):
        found["PyTorch loop"] = torch_loop
        if importlib.util.find_spec("mambapy"):
            found["mamba.py pscan"] = torch_pscan
        if importlib.util.find_spec("mamba_ssm") and jax.default_backend() == "gpu":
            found["mamba-ssm kernel"] = torch_kernel
    return found


def main() -> None:
    print(
        f"{jax.devices()[0].device_kind}, float32; medians of 5 turns, all methods in each turn\n"
    )
    rows = []
    methods = [method for method in METHODS if method != "auto"]
    for name, shape in SHAPES.items():
        arguments = inputs(*shape)
        made = {method: programs(method, arguments) for method in methods}
        made |= {n: torch_programs(rival, arguments) for n, rival in rivals(shape[2]).items()}
        kinds = ("forward", "both")
        seconds = interleaved(
            {(m, kind): run for m, of in made.items() for kind, run in zip(kinds, of, strict=False)}
        )
        for method, (*_, memory) in made.items():
            ours = [seconds[method, kind] for kind in kinds]
            theirs = [seconds["associative", kind] for kind in kinds]
            rows.append([name, method])
            rows[-1] += [f"{s * 1e3:.1f}" for s in ours]
            rows[-1] += [f"{t / s:.1f}" for t, s in zip(theirs, ours, strict=True)]
            rows[-1] += [f"{b / 1e6:.1f}" for b in memory] if memory else ["", ""]
    header = ["shape", "method", "forward ms", "forward + backward ms", "x associative, forward"]
    header += ["x associative, both", "temporary MB, forward", "temporary MB, both"]
    print(table(header, rows))
    *_, (forward, both) = programs("auto", inputs(*FULL_SIZE))
    print(
        f"\n{FULL_SIZE[1]} tokens, width {FULL_SIZE[3]}, auto: {forward / 1e6:.0f} MB of temporary "
        f"memory forward, {both / 1e6:.0f} MB forward + backward"
    )


if __name__ == "__main__":
    main()
