"""Comparison of methods: means, intervals, ranks and tests over the pairs of a data set."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped
from scipy import stats

from smc_jax import metrics

Scores = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Scores by method, pair and metric. Failed or undefined ones are missing."""
Values = dict[str, dict[str, float]]
"""Numbers by method and metric."""

CONFIDENCE = 0.95
RESAMPLES = 2000
_KNOWN = metrics.METRICS | metrics.TRUTH_METRICS


class Comparison(NamedTuple):
    """How the methods compare on a data set.

    Attributes:
      scores: the scores of each method and pair.
      metrics: the metrics that have scores, in the order of `METRICS`, then `TRUTH_METRICS`.
      means: by method and metric, over the pairs of the method.
      intervals: confidence intervals of the means, by the percentile bootstrap over pairs; missing
        for a single pair.
      complete: the methods that have a score wherever another has one.
      places: by method and metric, 1 for the best. Means that print alike share a place. A method
        without a score for some pair that another method has one for gets no place in that metric:
        its mean is over an easier or harder set.
      ranks: for complete methods, the mean over the metrics of their places among each other;
        methods that share places get the middle of them.
      p_values: by method, other method and metric, of the two-sided Wilcoxon signed-rank test over
        the pairs of both, not corrected for the number of tests; 1 if they score alike on all.
    """

    scores: Scores
    metrics: list[str]
    means: Values
    intervals: dict[str, dict[str, tuple[float, float]]]
    complete: list[str]
    places: dict[str, dict[str, int]]
    ranks: dict[str, float]
    p_values: dict[str, dict[str, dict[str, float]]]

    @property
    def methods(self) -> list[str]:
        return list(self.scores)


def compare(scores: Scores) -> Comparison:
    """Compares all methods. Equal scores give equal intervals: the seed is fixed."""
    there = {m for pairs in scores.values() for values in pairs.values() for m in values}
    names = [name for name in _KNOWN if name in there]
    columns = {
        method: {m: [p[m] for p in pairs.values() if m in p] for m in names}
        for method, pairs in scores.items()
    }
    means = {
        method: {m: math.fsum(v) / len(v) for m, v in column.items() if v}
        for method, column in columns.items()
    }
    intervals = {
        method: {m: _interval(v) for m, v in column.items() if len(v) > 1}
        for method, column in columns.items()
    }
    places: dict[str, dict[str, int]] = {method: {} for method in scores}
    for m in names:
        scored = {k: {pair for pair in pairs if m in pairs[pair]} for k, pairs in scores.items()}
        whole = [k for k in scores if scored[k] == set().union(*scored.values())]
        for k, place in zip(whole, _order(means, whole, m, "min"), strict=True):
            places[k][m] = int(place)
    complete = [k for k in scores if len(places[k]) == len(names)]
    middle = np.mean([_order(means, complete, m, "average") for m in names], axis=0)
    ranks = dict(zip(complete, middle.tolist(), strict=True))
    p_values: dict[str, dict[str, dict[str, float]]] = {method: {} for method in scores}
    for one, other in itertools.combinations(scores, 2):
        p_values[one][other] = p_values[other][one] = {
            m: _p_value(scores[one], scores[other], m) for m in names
        }
    return Comparison(scores, names, means, intervals, complete, places, ranks, p_values)


def higher_is_better(metric: str) -> bool:
    return _KNOWN[metric].higher_is_better


def digits(values: Mapping[str, Mapping[str, float]], metric: str) -> int:
    """Number of decimals that tables show in a column: three, or two if a value reaches 10."""
    return (
        2 if max((abs(v[metric]) for v in values.values() if metric in v), default=0) >= 10 else 3
    )


def text(values: Mapping[str, Mapping[str, float]], row: str, metric: str) -> str:
    """A value as tables show it; "" if it is missing."""
    return f"{values[row][metric]:.{digits(values, metric)}f}" if metric in values[row] else ""


def _interval(values: Sequence[float]) -> tuple[float, float]:
    low, high = stats.bootstrap(
        (np.asarray(values),),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(low), float(high)


def _order(
    means: Values, methods: Sequence[str], metric: str, ties: str
) -> Shaped[np.ndarray, "methods"]:
    """Places of methods in a metric, from 1; `ties` as in `scipy.stats.rankdata`."""
    # Values as printed, so that invisible differences decide nothing.
    read = np.array([float(text(means, method, metric)) for method in methods])
    return stats.rankdata(-read if higher_is_better(metric) else read, ties)


def _p_value(one: Mapping[str, Mapping], other: Mapping[str, Mapping], metric: str) -> float:
    pairs = [p for p in one if p in other and metric in one[p] and metric in other[p]]
    differences = np.array([one[p][metric] - other[p][metric] for p in pairs])
    return float(stats.wilcoxon(differences).pvalue) if differences.any() else 1.0
