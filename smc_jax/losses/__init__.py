"""The training loss: named terms, each a pure function, weighted by the config (Eq. 24 and 31)."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from smc_jax import config
from smc_jax.losses import experts
from smc_jax.losses.contrastive import feature_contrast, pixel_contrast
from smc_jax.losses.correlation import correlation_loss
from smc_jax.losses.edges import edge_loss, gradient_loss
from smc_jax.losses.fidelity import fidelity_loss
from smc_jax.losses.intensity import intensity_loss
from smc_jax.losses.ssim import ssim_loss
from smc_jax.losses.structure import structure_loss
from smc_jax.losses.truth import truth_loss
from smc_jax.types import Aux, Batch, Image, Scalar


def total(
    loss: config.Loss,
    fused: Image,
    aux: Aux,
    batch: Batch,
    progress: Scalar | float,
    importance: Float[Array, "e"] | None,
) -> tuple[Scalar, dict[str, Scalar]]:
    """Returns the weighted sum of all terms, and each unweighted term by its name in the config.

    Args:
      loss: weights and choices; a term of weight 0 is not computed.
      fused: I_mf, the model's output for the batch.
      aux: the model's features; without experts the terms wb, div and cons are left out.
      batch: the sources; without a ground truth the term truth is left out.
      progress: fraction of the training that is done, t/T in [0, 1].
      importance: running mean of the experts' importance, for `balance="running"`.
    """
    features = aux.features_fused, aux.features_a, aux.features_b
    images = fused, batch.a, batch.b
    lambda_t = experts.lambda_t(progress)
    terms = {
        "fcl": lambda: feature_contrast(
            *features, split=loss.feature_split, wavelet=loss.wavelet, eps=loss.eps
        ),
        "pcl": lambda: pixel_contrast(*images, wavelet=loss.wavelet, eps=loss.eps),
        "ssim": lambda: ssim_loss(*images, span=loss.ssim_span),
        "intensity": lambda: intensity_loss(*images, rule=loss.intensity_rule, task=batch.task),
        "gradient": lambda: gradient_loss(*images),
        "correlation": lambda: correlation_loss(*images),
        "fidelity": lambda: fidelity_loss(*images),
        "edges": lambda: edge_loss(*images),
        "structure": lambda: structure_loss(*images),
    }
    if (truth := batch.truth) is not None:
        terms["truth"] = lambda: truth_loss(fused, truth)
    schedule = {}
    if aux.experts is not None and aux.weights is not None:
        outputs, weights = aux.experts, aux.weights
        terms |= {
            "wb": lambda: _balance(loss, weights, aux.importance, importance),
            "div": lambda: experts.diversity(outputs, clamp=loss.clamp_div),
            "cons": lambda: experts.consensus(outputs, aux.features_fused, weights),
        }
        schedule = {"div": lambda_t, "cons": 1 - lambda_t}
    values = {name: term() for name, term in terms.items() if getattr(loss, name)}
    weighted = [getattr(loss, k) * schedule.get(k, 1.0) * v for k, v in values.items()]
    return sum(weighted, start=jnp.zeros(())), values


def _balance(
    loss: config.Loss,
    weights: Float[Array, "b e"],
    importance: Float[Array, "b e"] | None,
    running: Float[Array, "e"] | None,
) -> Scalar:
    if loss.balance == "image":
        return experts.balance(weights)
    assert importance is not None
    assert running is not None
    return experts.running_balance(importance, running)
