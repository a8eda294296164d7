"""Timing that is robust on a busy machine: candidates take turns, and medians count."""

import random
import time
from collections.abc import Callable, Mapping
from statistics import median

import jax


def interleaved(
    candidates: Mapping[str, Callable[[], object]], rounds: int = 5, calls: int = 1
) -> dict[str, float]:
    """Returns the median seconds of each candidate over `rounds` turns, after a warm-up turn.

    Each turn has a random order, because a candidate that follows one that frees gigabytes waits
    for that. For a device that works while the next call is prepared, take many `calls` per turn.
    """
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    order = random.Random(0)
    for turn in range(rounds + 1):
        for name in order.sample(list(candidates), len(candidates)):
            start = time.perf_counter()
            for _ in range(calls):
                result = candidates[name]()
            jax.block_until_ready(result)
            if turn:
                seconds[name].append((time.perf_counter() - start) / calls)
    return {name: median(values) for name, values in seconds.items()}


def compiled(function, *arguments):
    """Returns the compiled function, the seconds to compile it and its temporary bytes."""
    start = time.perf_counter()
    program = jax.jit(function).lower(*arguments).compile()
    seconds = time.perf_counter() - start
    return program, seconds, program.memory_analysis().temp_size_in_bytes


def table(header: list[str], rows: list[list[str]]) -> str:
    """Formats rows as a Markdown table."""
    return "\n".join([head(header), *map(row, rows)])


def head(header: list[str]) -> str:
    """Formats the first two lines of a Markdown table, for callers that print rows one by one."""
    return f"{row(header)}\n{row(['---'] * len(header))}"


def row(cells: list[str]) -> str:
    """Formats one line of a Markdown table."""
    return f"| {' | '.join(cells)} |"
