"""Shapes of the arrays that the methods of the scan take and return.

b is the batch, l the tokens, g the groups, d the channels of a group, n the states of a channel and
k the chunks.
"""

from jaxtyping import Array, Float

Sequence = Float[Array, "l b g d"]
"""x, dt and y."""
Matrix = Float[Array, "l n b g"]
"""B and C."""
Rates = Float[Array, "n g d"]
"""A."""
State = Float[Array, "n b g d"]
"""h before the first or after the last token."""
States = Float[Array, "k n b g d"]
"""h as it enters each chunk."""

# Of scalar tokens, in r directions.
Affine = Float[Array, "r g k"]
"""Slopes or constants of dt, B and C: k = 1 + 2n."""
ScalarRates = Float[Array, "r g n"]
"""A."""
Skips = Float[Array, "r g"]
"""D."""
