"""The methods of the selective scan against each other, and against PyTorch where it is installed.

python -m benchmarks.scan [--methods=METHOD,...]

Optional rivals: a plain loop over tokens in PyTorch (`pip install torch`), mamba.py's parallel scan
(`pip install mambapy`) and, on a GPU, mamba-ssm's kernel (`pip install mamba-ssm`).
"""

import functools
import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange

from benchmarks.measure import compiled, head, interleaved, row
from smc_jax import command
from smc_jax.selective_scan import METHODS as ALL
from smc_jax.selective_scan import scalars, selective_scan
from smc_jax.selective_scan.scalars import ScalarSSM

ON_GPU = jax.default_backend() == "gpu"
# The kernels need a GPU, where loops over all tokens take seconds.
NOT_HERE = ("auto", "reference", "chunked") if ON_GPU else ("auto", "pallas")
METHODS = [method for method in ALL if method not in NOT_HERE]
CALLS = 20 if ON_GPU else 1
# The largest size of all states at which `associative`, which needs several such arrays, is run.
LARGE = 2**30
# Batch, tokens, groups, channels per group, state size.
GPU_SHAPES = {
    "307200 tokens, width 128": (1, 307200, 1, 128, 16),
    "307200 tokens, width 256": (1, 307200, 1, 256, 16),
    "307200 tokens, width 64": (1, 307200, 1, 64, 16),
    "307200 tokens, width 32": (1, 307200, 1, 32, 16),
    "76800 tokens, width 128": (1, 76800, 1, 128, 16),
    "8192 tokens, 8 groups of 32": (1, 8192, 8, 32, 16),
}
CPU_SHAPES = {
    "1024 tokens, width 64": (1, 1024, 1, 64, 16),
    "4096 tokens, width 64": (1, 4096, 1, 64, 16),
    "16384 tokens, width 64": (1, 16384, 1, 64, 16),
    "65536 tokens, width 64": (1, 65536, 1, 64, 16),
    "8192 tokens, width 256": (1, 8192, 1, 256, 16),
    # CM-Scan of all experts and modalities at crop 64.
    "8192 tokens, 8 groups of 32": (1, 8192, 8, 32, 16),
    # A channel is one token here.
    "16384 pixels, 32 channels": (16384, 32, 1, 1, 4),
    "16384 pixels, 64 channels": (16384, 64, 1, 1, 4),
}
SHAPES = GPU_SHAPES if ON_GPU else CPU_SHAPES
HEADER = [
    "shape",
    "method",
    "forward ms",
    "forward + backward ms",
    "x associative, forward",
    "x associative, both",
    "temporary MB, forward",
    "temporary MB, both",
]
FULL_SIZE = (1, 480 * 640, 1, 128, 16)
# Groups, sequences, scalar tokens per sequence, state size: the channels of each pixel, which the
# model scans in both directions.
SCALARS = {
    "16384 pixels, 32 channels": (1, 16384, 32, 4),
    "16384 pixels, 64 channels": (1, 16384, 64, 4),
}
if ON_GPU:
    SCALARS["2 groups of 307200 pixels, 64 channels"] = (2, 307200, 64, 4)


def inputs(batch, length, groups, width, state):
    """Returns inputs as Mamba initialises them: steps of 0.001 to 0.1, decay rates -1 to -n.

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


def scalar_inputs(groups, sequences, length, state):
    r = np.random.default_rng(0)
    k, lead = 1 + 2 * state, (2, groups)
    x = jnp.asarray(r.standard_normal((groups, sequences, length)), jnp.float32)
    slope, constant = (jnp.asarray(r.uniform(-1, 1, (*lead, k)), jnp.float32) for _ in range(2))
    A = -jnp.tile(jnp.arange(1.0, state + 1), (*lead, 1))
    return x, ScalarSSM(slope, constant.at[..., 0].add(-3), A, jnp.ones(lead))


def programs(run, arguments):
    """Compiles forward, and forward with backward, as functions without arguments.

    Also returns the bytes that each needs beside its arguments and results.
    """

    def loss(*arguments):
        return (run(*arguments) ** 2).sum()

    forward, _, forward_bytes = compiled(run, *arguments)
    both, _, both_bytes = compiled(jax.grad(loss, range(len(arguments))), *arguments)
    timed = (functools.partial(program, *arguments) for program in (forward, both))
    return *timed, (forward_bytes, both_bytes)


def torch_programs(rival, arguments):
    """Does what `programs` does for a rival in PyTorch, without groups and without the bytes."""
    import torch

    device = "cuda" if ON_GPU else "cpu"
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
    # unbind, since with indexing the backward pass would be quadratic in the length.
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
    """Returns the rivals that are installed, which on a GPU can only be the kernel.

    The others loop over tokens, or need several arrays of all states.
    """
    found = {}
    if groups > 1 or not importlib.util.find_spec("torch"):
        return found
    if ON_GPU:
        if importlib.util.find_spec("mamba_ssm"):
            found["mamba-ssm kernel"] = torch_kernel
        return found
    found["PyTorch loop"] = torch_loop
    if importlib.util.find_spec("mambapy"):
        found["mamba.py pscan"] = torch_pscan
    return found


def main() -> None:
    parser = command.Parser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--methods",
        type=lambda names: names.split(","),
        metavar="METHOD,...",
        help="these alone, and no rivals from PyTorch",
    )
    given = parser.parse_args().methods
    if unknown := set(given or ()) - set(METHODS):
        parser.error(f"--methods: {', '.join(unknown)}; here it may be {', '.join(METHODS)}")
    _main(given or METHODS, others=not given)


def _main(methods: list[str], *, others: bool) -> None:
    kind = jax.devices()[0].device_kind
    print(f"{kind}, float32; medians of 5 turns of {CALLS} calls, all methods in each turn")
    print(f"\n{head(HEADER)}")
    for name, shape in SHAPES.items():
        batch, length, groups, width, state = shape
        arguments = inputs(*shape)
        small = batch * length * groups * width * state <= LARGE
        made = {
            method: programs(functools.partial(scan, method=method), arguments)
            for method in methods
            if small or method != "associative"
        }
        if others:
            made |= {n: torch_programs(rival, arguments) for n, rival in rivals(groups).items()}
        _print_rows(name, made)
    _, _, (forward, both) = programs(functools.partial(scan, method="auto"), inputs(*FULL_SIZE))
    print(
        f"\n{FULL_SIZE[1]} tokens, width {FULL_SIZE[3]}, auto: {forward / 1e6:.0f} MB of temporary "
        f"memory forward, {both / 1e6:.0f} MB forward + backward"
    )
    print(f"\nScalar tokens, both directions\n\n{head(HEADER)}")
    for name, shape in SCALARS.items():
        arguments = scalar_inputs(*shape)
        made = {
            method: programs(functools.partial(scalars.scan, method=method), arguments)
            for method in methods
        }
        _print_rows(name, made)


def _print_rows(name, made):
    kinds = ("forward", "both")
    seconds = interleaved(
        {(m, kind): run for m, of in made.items() for kind, run in zip(kinds, of, strict=False)},
        calls=CALLS,
    )
    for method, (*_, memory) in made.items():
        ours = [seconds[method, kind] for kind in kinds]
        theirs = [seconds.get(("associative", kind)) for kind in kinds]
        cells = [f"{s * 1e3:.2f}" for s in ours]
        cells += [f"{t / s:.1f}" if t else "" for t, s in zip(theirs, ours, strict=True)]
        cells += [f"{b / 1e6:.1f}" for b in memory] if memory else ["", ""]
        print(row([name, method, *cells]), flush=True)


if __name__ == "__main__":
    raise SystemExit(command.guarded(main))
