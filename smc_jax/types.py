"""The letters of every shape in this package, and the data that flows between its parts.

| letter | axis                                | letter | axis                              |
|--------|-------------------------------------|--------|-----------------------------------|
| b      | batch (image pairs)                 | l      | tokens of a scanned sequence      |
| h, w   | height and width, in pixels         | d      | channels of a token               |
| c      | feature channels                    | n      | state size per channel            |
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
"""Features of both sources pooled over the image: the input of the gate."""
Noise = Float[Array, "b e"]
"""Standard normal numbers that perturb the gate's logits in training."""


class Batch(NamedTuple):
    """Aligned pairs of luma images; `a` and `b` are the two sources of the paper, I_m1 and I_m2."""

    a: Image
    b: Image
    task: Int[Array, "b"]
    """The task of each pair, as an index into `config.TASKS`."""
    truth: Image | None = None
    """The ground truth, negative where it is unknown; None if no loss needs it."""


class Aux(NamedTuple):
    """Values from inside the model that losses and figures need."""

    features_a: Features
    """F_m1: the first source after MAFE (Eq. 14)."""
    features_b: Features
    """F_m2: the second source after MAFE."""
    features_fused: Features
    """F_mf: the weighted sum of the experts (Eq. 19)."""
    experts: Float[Array, "e b h w c"] | None
    """CM_i(F_mc) of every expert; None if only the chosen ones ran or there are none."""
    weights: Float[Array, "b e"] | None
    """W_exp: gate weights after top-k, 0 for experts that were not chosen (Eq. 18)."""
    importance: Float[Array, "b e"] | None
    """Softmax of the noise-free gate logits over all experts, before top-k."""
    amplitude: Scalar
    """Largest amplitude that leaves FR-Scan: the first number to look at when training diverges."""
