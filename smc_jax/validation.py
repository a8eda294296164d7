"""Image metrics on pairs that the network is not trained on."""

from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import PyTree

from smc_jax import border, color, data_source, metrics, mixture
from smc_jax.config import Config
from smc_jax.data_source import Example
from smc_jax.errors import ConfigError
from smc_jax.model import SMCMamba


class Validator:
    """A fixed choice of pairs, as a function from parameters to scores."""

    def __init__(self, cfg: Config, network: SMCMamba):
        """Opens the split of the data set, or of each data set of a mixture.

        Raises:
          ConfigError: there is no such split or metric, `validation.best` is none of them, or an
            image is too small for metrics.
        """
        check(cfg)
        self._names = metrics.chosen(cfg.validation.metrics, "cddfuse")
        pairs = [
            (source, index)
            for name in mixture.shares(cfg.data.name)
            for source in [_opened(cfg, name)]
            for index in range(len(source))
        ]
        count = min(len(pairs), cfg.validation.pairs or len(pairs))
        chosen = np.linspace(0, len(pairs) - 1, count).round().astype(int)
        self._chosen = [pairs[i] for i in chosen]
        self._apply = jax.jit(lambda params, a, b: network.apply({"params": params}, a, b)[0])

    def __call__(self, params: PyTree) -> dict[str, float]:
        """Returns the mean of each metric over the pairs on which it is defined.

        Processes share the pairs; `params` are on one device of each. A metric that is undefined
        for all pairs is missing.
        """
        mine = self._chosen[jax.process_index() :: jax.process_count()]
        scores = [self._score(params, data_source.pair(source, index)) for source, index in mine]
        table = np.array([[s.get(name, np.nan) for name in self._names] for s in scores])
        table = table.reshape(-1, len(self._names))
        sums = np.stack([np.nansum(table, 0), np.isfinite(table).sum(0)])
        if jax.process_count() > 1:
            sums = np.asarray(multihost_utils.process_allgather(sums)).sum(0)
        return {
            name: float(total / count)
            for name, total, count in zip(self._names, *sums, strict=True)
            if count
        }

    def _score(self, params: PyTree, pair: Example) -> dict[str, float]:
        luma = [color.luma(image) for image in (pair.a, pair.b)]
        height, width = luma[0].shape
        filled = [jax.device_put(border.mirror(image)[None, ..., None]) for image in luma]
        fused = jax.device_get(self._apply(params, *filled))[0, :height, :width, 0]
        a, b = (color.luma8(image) for image in (pair.a, pair.b))
        return metrics.score(a, b, np.rint(fused * 255).astype(np.uint8), None, self._names)


def _opened(cfg: Config, name: str) -> Any:
    source = data_source.open(cfg.data.dir, name, cfg.validation.split)
    least = data_source.smallest(source, name, cfg.validation.split)
    if min(least["height"], least["width"]) < metrics.SMALLEST:
        raise ConfigError(
            f"{least['name']} of {name} is {least['width']}x{least['height']}; metrics need images "
            f"of at least {metrics.SMALLEST} pixels a side: leave such images out of "
            f"{cfg.validation.split}"
        )
    return source


def check(cfg: Config) -> None:
    """Checks the names of metrics.

    Raises:
      ConfigError: there is no such metric, or `validation.best` is none of them.
    """
    names = metrics.chosen(cfg.validation.metrics, "cddfuse")
    if cfg.validation.best not in names:
        raise ConfigError(
            f"config.validation.best is {cfg.validation.best!r}; it may be one of "
            f"config.validation.metrics: {', '.join(names)}"
        )
