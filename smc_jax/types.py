"""The letters of every shape in this package, and what flows between its parts.

| letter | axis                                | letter | axis                              |
|--------|-------------------------------------|--------|-----------------------------------|
| b      | batch (image pairs)                 | l      | tokens of a scanned sequence      |
| h, w   | height and width, in pixels         | d      | width of a scan: channels a token |
| c      | feature channels                    | n      | state numbers a scan channel      |
| e      | experts                             | g      | groups of a scan (share B and C)  |
"""

from typing import NamedTuple

from jaxtyping import Array, Float, Int

Scalar = Float[Array, ""]
Image = Float[Array, "b h w 1"]
"""Luma in [0, 1]."""
Features = Float[Array, "b h w c"]
Coarse = Float[Array, "b coarse_h coarse_w c"]
"""Means of features over squares of pixels."""
Pooled = Float[Array, "b p"]
"""Features of both sources, pooled over the image: what the gate sees."""
Noise = Float[Array, "b e"]
"""Standard normal numbers, by which training makes the gate's logits vary."""


class Batch(NamedTuple):
    """Aligned pairs of luma images; `a` and `b` are the two sources of the paper, I_m1 and I_m2."""

    a: Image
    b: Image
    task: Int[Array, "b"]
    """What each pair is for, by its place in `config.TASKS`."""
    truth: Image | None = None
    """What should come out, below 0 where that is not known; None if no loss asks for it."""


class Aux(NamedTuple):
    """What the losses and the figures need from inside the model."""

    features_a: Features
    """F_m1: the first source after MAFE (Eq. 14)."""
    features_b: Features
    """F_m2: the second source after MAFE."""
    features_fused: Features
    """F_mf: the weighted sum of the experts (Eq. 19)."""
    experts: Float[Array, "e b h w c"] | None
    """CM_i(F_mc) of every expert; None where only the chosen ones ran or there are none."""
    weights: Float[Array, "b e"] | None
    """W_exp: gate weights after top-k, 0 for experts that were not chosen (Eq. 18)."""
    importance: Float[Array, "b e"] | None
    """Softmax of the noise-free gate logits over all experts, before top-k."""
    amplitude: Scalar
    """Largest amplitude that leaves FR-Scan: the first number to look at when training diverges."""
