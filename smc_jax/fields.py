"""A configuration's fields by their dotted names: how to set them, and what each may hold."""

import dataclasses
import difflib
import math
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from smc_jax.errors import ConfigError

T = TypeVar("T")

TASKS = ("ivif", "mdif", "mfif", "meif")
CHOICES = {
    "task": (*TASKS, "general"),
    "model.frequency_order": ("ring", "raster"),
    "model.cross_order": ("interleave", "concatenate"),
    "model.output": ("image", "residual", "blend"),
    "model.scan_method": ("auto", "reference", "associative", "chunked", "two_level", "pallas"),
    "loss.intensity_rule": ("max", "mean", "sharper", "task", "task_mean"),
    "loss.wavelet": ("haar", "cdf53", "cdf97"),
    "loss.feature_split": ("channel", "spatial"),
    "loss.balance": ("image", "running"),
    "train.dtype": ("float32", "bfloat16"),
    "optim.schedule": ("halving_cosine", "cosine", "sgdr", "step", "constant"),
}
LEAST = {
    "data.crop": 16,
    "data.batch": 1,
    "data.threads": 1,
    "data.cache_mb": 0,
    "model.width": 2,
    "model.state": 1,
    "model.channel_state": 1,
    "model.dt_rank": 1,
    "model.experts": 1,
    "model.top_k": 1,
    "model.gate_window": 0,
    "model.decoder_layers": 1,
    "model.trust": 0.0,
    "model.detail_trust": 0.0,
    "model.contrast_noise": 0.1,
    "model.glare": 0.0,
    "model.faint": 0.0,
    "loss.ssim_span": 1e-3,
    "loss.eps": 1e-12,
    "optim.lr": 0.0,
    "optim.period": 1,
    "optim.floor": 0.0,
    "optim.clip": 0.0,
    "train.steps": 1,
    "train.seed": 0,
    "train.accumulate": 1,
    "train.fsdp": 1,
    "train.ema": 0.0,
    "train.max_bad_steps": 0,
    "train.log_every": 1,
    "train.image_every": 1,
    "train.save_every": 1,
    "train.keep": 1,
    "train.trace_steps": 0,
    "validation.every": 0,
    "validation.pairs": 0,
}
MOST = 2**63 - 1
"""The largest integer that an array can hold."""
BELOW_ONE = ("optim.b1", "optim.b2", "train.ema")


def override(config: T, values: Mapping[str, Any]) -> T:
    """Returns a checked copy of `config` with dotted fields replaced, e.g. `{"loss.fcl": 0.0}`.

    Raises:
      ConfigError: a field is unknown (the message lists the valid ones) or a value does not fit.
    """
    copy: Any = _copy(config)
    for path, value in values.items():
        parent, _, name = path.rpartition(".")
        check_field(copy, path)
        setattr(_get(copy, parent), name, value)
    return copy.check()


def check_field(config: Any, path: str) -> None:
    """Raises ConfigError, with the valid names, if there is no field `path`, e.g. `loss.fcl`."""
    node: Any = config
    for name in path.split("."):
        fields = dataclasses.fields(node) if dataclasses.is_dataclass(node) else ()
        names = [f.name for f in fields]
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            hint = f"; did you mean {close[0]}?" if close else "."
            raise ConfigError(f"unknown config field {path}{hint} Valid here: {', '.join(names)}")
        node = getattr(node, name)


def check(config: Any) -> None:
    """Checks each field by itself.

    Raises:
      ConfigError: a value has the wrong type or lies outside what can be run.
    """
    _check_types(config, "config")
    for field, allowed in CHOICES.items():
        value = _get(config, field)
        if value not in allowed:
            raise ConfigError(f"config.{field} is {value!r}; it may be {', '.join(allowed)}")
    weights = [f.name for f in dataclasses.fields(config.loss) if f.type is float]
    for field, least in ({f"loss.{name}": 0.0 for name in weights} | LEAST).items():
        value = _get(config, field)
        if not least <= value < math.inf:  # false for nan, too
            raise ConfigError(f"config.{field} is {value}; it must be at least {least}")
    for field in BELOW_ONE:
        if not 0.0 <= _get(config, field) < 1.0:
            raise ConfigError(f"config.{field} is {_get(config, field)}; it must lie in [0, 1)")


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns nested values by their dotted names."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        path = f"{prefix}{name}"
        flat |= flatten(value, f"{path}.") if isinstance(value, dict) else {path: value}
    return flat


def _get(node: Any, path: str) -> Any:
    for part in filter(None, path.split(".")):
        node = getattr(node, part)
    return node


def _copy(node: Any) -> Any:
    if not dataclasses.is_dataclass(node):
        return node
    return type(node)(**{f.name: _copy(getattr(node, f.name)) for f in dataclasses.fields(node)})


def _check_types(node: Any, path: str) -> None:
    for field in dataclasses.fields(node):
        value = getattr(node, field.name)
        here = f"{path}.{field.name}"
        if dataclasses.is_dataclass(field.type):
            if not isinstance(value, typing.cast(type, field.type)):
                raise ConfigError(f"{here} holds fields of its own and cannot be replaced")
            _check_types(value, here)
        elif field.type is float and isinstance(value, int) and not isinstance(value, bool):
            setattr(node, field.name, float(value))
        elif type(value) is not field.type:
            wanted = typing.cast(type, field.type).__name__
            raise ConfigError(f"{here} is {value!r}; it must be of type {wanted}")
        elif field.type is int and not -MOST <= value <= MOST:
            raise ConfigError(f"{here} is {value}; that is too large")
