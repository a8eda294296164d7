"""Scans and a training step on eight devices, for tests/test_dividing.py: prints what it found."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import tiny
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from benchmarks import training
from configs import base
from smc_jax import model, selective_scan, sharding, train_state, train_step
from smc_jax.config import override
from smc_jax.selective_scan import analytic, chunked, platforms, scalars
from smc_jax.selective_scan.dividing import dividing
from smc_jax.types import Batch

LENGTH, BATCH, GROUPS, WIDTH, STATES, PIXELS = 40, 8, 3, 5, 4, 64
EIGHT = "data", "fsdp"
MESH = jax.make_mesh((4, 2), EIGHT, axis_types=(AxisType.Auto,) * 2)


def main():
    draw = functools.partial(np.random.default_rng(0).normal, size=(LENGTH, BATCH, GROUPS, WIDTH))
    rates = -np.exp(draw(size=(STATES, GROUPS, WIDTH)))
    matrices = (
        draw(size=(LENGTH, STATES, BATCH, GROUPS)),
        draw(size=(LENGTH, STATES, BATCH, GROUPS)),
    )
    start = draw(size=(STATES, BATCH, GROUPS, WIDTH))
    sequences = draw(), np.log1p(np.exp(draw())), rates, *matrices, start
    options = {"reverse": True, "chunk": 16}
    directions, numbers = 2, 1 + 2 * STATES
    ssm = (
        draw(size=(directions, GROUPS, numbers)) / 3,
        draw(size=(directions, GROUPS, numbers)) / 3,
        -np.exp(draw(size=(directions, GROUPS, STATES))),
        draw(size=(directions, GROUPS)),
    )
    found = {
        "tokens": compare(
            functools.partial(chunked.forward, **options),
            functools.partial(chunked.backward, **options),
            analytic.DIVISIONS,
            lambda args, results: (*args[:5], results[2], jnp.cos(results[0]), results[1]),
            sequences,
            (1, 1, None, 2, 2, 1),
        ),
        "scalars": compare(
            functools.partial(scalars._forward, method="chunked"),
            functools.partial(scalars._backward, method="chunked"),
            scalars.DIVISIONS,
            lambda args, results: (*args, jnp.cos(results[0])),
            (draw(size=(GROUPS, PIXELS, WIDTH)), *ssm),
            (1, None, None, None, None),
        ),
        "odd": compare(
            functools.partial(scalars._forward, method="chunked"),
            functools.partial(scalars._backward, method="chunked"),
            scalars.DIVISIONS,
            lambda args, results: (*args, jnp.cos(results[0])),
            (draw(size=(GROUPS, PIXELS, WIDTH))[:, :-1], *ssm),
            (None,) * 5,
        ),
        "exchanged": exchanged(),
        "lowered": lowered(),
    }
    print(json.dumps(found))


def compare(forward, backward, divisions, between, args, places):
    """Results and gradients by eight devices and by one: the largest relative difference, what the
    eight exchange, and how many numbers of the results each of them has, of all.
    """
    args = [jnp.asarray(v, jnp.float32) for v in args]

    def both(forward, backward, *args):
        results = forward(*args)
        return results, backward(*between(args, results))

    want = jax.jit(functools.partial(both, forward, backward))(*args)
    divided = (dividing(forward, divisions["forward"]), dividing(backward, divisions["backward"]))
    shardings = [
        NamedSharding(MESH, PartitionSpec(*[None] * (place or 0), EIGHT if place else None))
        for place in places
    ]
    run = jax.jit(functools.partial(both, *divided), in_shardings=shardings)
    text = run.lower(*args).compile().as_text()
    got = run(*args)
    return {
        "error": max(
            float(jnp.abs(a - b).max() / jnp.abs(b).max())
            for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True)
        ),
        "exchanged": training.exchanges(text),
        "shares": [v.addressable_shards[0].data.size / v.size for v in jax.tree.leaves(got)],
    }


def exchanged():
    """What a training step sends, and how many bytes its gradients are."""
    values = tiny.TINY | tiny.QUICK | {"model.mafe": True, "data.batch": 8}
    cfg = override(base.get_config("practical"), values)
    network, mesh = model.build(cfg.model), sharding.make_mesh()
    state = train_state.abstract(cfg, network, mesh)
    image = jax.ShapeDtypeStruct((8, 16, 16, 1), jnp.float32)
    batch = Batch(image, image, jax.ShapeDtypeStruct((8,), jnp.int32))
    step = train_step.jit_step(cfg, network, mesh).lower(state, batch).compile()
    size = sum(v.size for v in jax.tree.leaves(state.params))
    return training.exchanges(step.as_text()), 4 * size


def lowered():
    """How often the compiler is asked to divide, in value and gradient of one scan on GPUs."""
    platforms.has_kernels = platforms.several_gpus = lambda: True
    whole, split = (NamedSharding(MESH, PartitionSpec(*axes)) for axes in ((), (EIGHT,)))
    x = jax.ShapeDtypeStruct((BATCH, LENGTH, WIDTH), jnp.float32)
    A = jax.ShapeDtypeStruct((WIDTH, STATES), jnp.float32)
    B = jax.ShapeDtypeStruct((BATCH, LENGTH, STATES), jnp.float32)

    def loss(*args):
        return (selective_scan(*args) ** 2).sum()

    step = jax.jit(jax.grad(loss, (0, 2)), in_shardings=(split, split, whole, split, split))
    text = step.trace(x, x, A, B, B).lower(lowering_platforms=("cuda",)).as_text()
    return text.count("@CustomSPMDPartitioning")


if __name__ == "__main__":
    main()
