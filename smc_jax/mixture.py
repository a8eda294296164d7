"""Several data sets in one training."""

import math

from smc_jax.errors import ConfigError


def shares(names: str) -> dict[str, float]:
    """Returns the data sets of `data.name` with their shares, e.g. `{"msrs": 2.0, "sice": 1.0}`.

    Args:
      names: `NAME` or `NAME:SHARE`, or several of these separated by commas; a share left out is 1.

    Raises:
      ConfigError: a name is missing or repeated, or a share is not a finite number above 0.
    """
    found: dict[str, float] = {}
    for part in names.split(","):
        name, _, share = (text.strip() for text in part.partition(":"))
        try:
            value = float(share or 1)
        except ValueError:
            value = 0.0
        if not name or name in found or not 0 < value < math.inf:
            raise ConfigError(
                f"config.data.name is {names!r}; write each data set once, as NAME or NAME:SHARE "
                "with a share above 0, and commas between them"
            )
        found[name] = value
    return found
