"""What the container that this process runs in leaves it (Linux, cgroup v2)."""

import re
from pathlib import Path

FOLDER = Path("/sys/fs/cgroup")


def memory() -> int | None:
    """Returns the bytes that the container may still take; None if there is no limit."""
    try:
        limit, used = (int((FOLDER / f"memory.{v}").read_text()) for v in ("max", "current"))
        statistics = (FOLDER / "memory.stat").read_text()
    except (OSError, ValueError):  # there is no container, or it has no limit
        return None
    given_up = re.search(r"^inactive_file (\d+)$", statistics, re.MULTILINE)
    return max(0, limit - used + (int(given_up[1]) if given_up else 0))


def cores() -> int | None:
    """Returns how many cores the container may keep busy, at least 1; None if there is no limit."""
    try:
        quota, period = map(int, (FOLDER / "cpu.max").read_text().split())
    except (OSError, ValueError):
        return None
    return max(1, quota // period)
