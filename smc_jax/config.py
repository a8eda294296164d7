"""The configuration: plain typed values, read from `configs/*.py`, overridden by dotted flags.

Defaults are the paper's setting. Where the paper is silent they are our choice, marked `(ours)`.
"""

import dataclasses
import difflib
import json
import math
import typing
from collections.abc import Mapping
from typing import Any

from smc_jax.errors import ConfigError

TASKS = ("ivif", "mdif", "mfif", "meif")
GENERAL = "general"
"""The task of a run on data sets of several tasks."""


@dataclasses.dataclass
class Data:
    """What is read. A data set is a folder `<dir>/<name>` that `data_prep` wrote."""

    name: str = "msrs"
    """A data set, or several with their shares of the pairs: `msrs:2,llvip:1`."""
    dir: str = "data"
    split: str = "train"
    crop: int = 128
    """Side of the square training crops, in pixels (ours; 64 for medical images)."""
    batch: int = 1
    augment: bool = True
    """Flips and quarter turns (ours)."""
    threads: int = 4
    """Threads that decode images ahead of training."""
    cache_mb: int = 1024
    """Memory for decoded images, in MB; those that it has no room for are decoded each time."""


@dataclasses.dataclass
class Model:
    """The network of the paper's Figure 1."""

    width: int = 32
    """Feature channels C (ours)."""
    state: int = 16
    """State numbers a channel in the spatial and frequency scans (ours)."""
    channel_state: int = 4
    """State numbers in the scans along the channels (ours)."""
    dt_rank: int = 2
    """Rank of the projection that makes the step size (ours)."""
    experts: int = 4
    top_k: int = 2
    mafe: bool = True
    """False: shallow features go to the experts as they are."""
    share_mafe: bool = False
    """One MAFE for both sources instead of one each (ours: one each)."""
    local: bool = True
    """The local gated branch of MAFE (Eq. 2-4)."""
    local_halo: bool = True
    """Let quadrants of the local branch see one pixel across the seam (ours; False: each is
    padded by itself, as one may read the paper)."""
    sc_scan: bool = True
    """The spatial-channel branch of MAFE (Eq. 5-7)."""
    fr_scan: bool = True
    """The frequency-rotation branch of MAFE (Eq. 8-12)."""
    mccm: bool = True
    """False: the features of both sources are added instead of fused by experts."""
    cm_scan: bool = True
    """False: the experts keep their projections and crossed gates but scan nothing."""
    bidirectional: bool = True
    frequency_order: str = "ring"
    cross_order: str = "interleave"
    decoder_layers: int = 3
    """3x3 convolutions of the decoder (ours: the paper draws one box)."""
    output: str = "image"
    """What the decoder gives: the `image` (through a sigmoid); or, not in the paper, a `residual`,
    added to the mean of the sources, or a `blend`: each pixel's share of the sources in a weighted
    mean, and a residual."""
    scan_method: str = "auto"
    """Implementation of the selective scan; see `smc_jax.selective_scan`."""


@dataclasses.dataclass
class Loss:
    """Weights of the terms (Eq. 31) and the choices inside them. A weight of 0 removes its term."""

    fcl: float = 0.8
    pcl: float = 0.4
    wb: float = 1.0
    div: float = 1.0
    """Times lambda(t), which falls from 1 to 0 over the training."""
    cons: float = 1.0
    """Times 1 - lambda(t)."""
    ssim: float = 1.0
    intensity: float = 1.0
    gradient: float = 0.0
    """L1 distance to the larger of the two source gradients; not in the paper."""
    intensity_rule: str = "max"
    """`max` or `mean` of the sources, or by the `task` of each pair (ours: max for ivif and mdif,
    mean for mfif and meif)."""
    wavelet: str = "haar"
    """Lifting scheme of the sub-bands: `haar`, `cdf53` or `cdf97`."""
    feature_split: str = "channel"
    """Sub-bands in L_fcl: of `channel` halves (literal) or of `spatial` rows and columns."""
    balance: str = "image"
    """L_wb over the weights of each `image` (literal) or over a `running` mean of importance."""
    clamp_div: bool = False
    """Hold L_div at 0 or above, so that experts gain nothing by becoming anti-parallel."""
    eps: float = 1e-4
    """Added to the denominators of the contrastive ratios (ours)."""


@dataclasses.dataclass
class Optim:
    """Adam and its learning rate."""

    lr: float = 2e-4
    schedule: str = "halving_cosine"
    """`halving_cosine`, `cosine`, `sgdr`, `step` or `constant`."""
    period: int = 1000
    """Steps in which `halving_cosine`, `sgdr` and `step` halve the rate."""
    floor: float = 1e-6
    """The rate never falls below this (ours)."""
    b1: float = 0.9
    b2: float = 0.999
    clip: float = 0.0
    """Largest global gradient norm; 0 leaves the gradient alone."""


@dataclasses.dataclass
class Train:
    """How long, and what is written on the way."""

    steps: int = 10_000
    """(ours)"""
    seed: int = 0
    log_every: int = 10
    image_every: int = 500
    save_every: int = 500
    keep: int = 2
    """Newest checkpoints that are kept."""


@dataclasses.dataclass
class Config:
    """A whole run."""

    task: str = "ivif"
    """What the sources are; the data sets must be for the same, or for any if it is `general`."""
    setting: str = "paper"
    """The name of its row in tables: `paper`, `practical`, or an ablation of one of them."""
    data: Data = dataclasses.field(default_factory=Data)
    model: Model = dataclasses.field(default_factory=Model)
    loss: Loss = dataclasses.field(default_factory=Loss)
    optim: Optim = dataclasses.field(default_factory=Optim)
    train: Train = dataclasses.field(default_factory=Train)

    def check(self) -> "Config":
        """Returns self.

        Raises:
          ConfigError: a value has the wrong type or lies outside what can be run.
        """
        _check_types(self, "config")
        mixture(self.data.name)
        for field, allowed in CHOICES.items():
            value = _get(self, field)
            if value not in allowed:
                raise ConfigError(f"config.{field} is {value!r}; it may be {', '.join(allowed)}")
        for field, least in _LEAST.items():
            value = _get(self, field)
            if not least <= value < math.inf:  # and nan is not
                raise ConfigError(f"config.{field} is {value}; it must be at least {least}")
        for field in ("optim.b1", "optim.b2"):
            if not 0.0 <= _get(self, field) < 1.0:
                raise ConfigError(f"config.{field} is {_get(self, field)}; it must lie in [0, 1)")
        if self.model.top_k > self.model.experts:
            raise ConfigError(
                f"config.model.top_k is {self.model.top_k}, more than the "
                f"{self.model.experts} experts of config.model.experts"
            )
        if self.model.width % 2:
            raise ConfigError(
                f"config.model.width is {self.model.width}; it must be even (channel halves)"
            )
        if self.model.mafe and not (self.model.local or self.model.sc_scan or self.model.fr_scan):
            raise ConfigError(
                "config.model.mafe needs one of local, sc_scan, fr_scan; to do without: mafe=False"
            )
        return self

    def to_json(self) -> str:
        """The config as indented JSON."""
        return json.dumps(dataclasses.asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> "Config":
        """The config that `to_json` wrote.

        Raises:
          ConfigError: a field is unknown or a value does not fit.
        """
        return override(cls(), _flatten(json.loads(text)))


def mixture(names: str) -> dict[str, float]:
    """The data sets of `data.name` and their shares: `{"msrs": 2.0, "sice": 1.0}`.

    Args:
      names: `NAME` or `NAME:SHARE`, several parted by commas; a share is 1 where it is left out.

    Raises:
      ConfigError: a name is missing or comes twice, or a share is no number above 0.
    """
    shares: dict[str, float] = {}
    for part in names.split(","):
        name, _, share = (text.strip() for text in part.partition(":"))
        try:
            value = float(share or 1)
        except ValueError:
            value = 0.0
        if not name or name in shares or not 0 < value < math.inf:
            raise ConfigError(
                f"config.data.name is {names!r}; write each data set once, as NAME or NAME:SHARE "
                "with a share above 0, and commas between them"
            )
        shares[name] = value
    return shares


def override(config: Config, values: Mapping[str, Any]) -> Config:
    """A checked copy of `config` with dotted fields replaced, e.g. `{"loss.fcl": 0.0}`.

    Raises:
      ConfigError: a field is unknown (the message lists the valid ones) or a value does not fit.
    """
    config = typing.cast(Config, _copy(config))
    for path, value in values.items():
        parent, _, name = path.rpartition(".")
        check_field(config, path)
        setattr(_get(config, parent), name, value)
    return config.check()


def check_field(config: Config, path: str) -> None:
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


CHOICES = {
    "task": (*TASKS, GENERAL),
    "model.frequency_order": ("ring", "raster"),
    "model.cross_order": ("interleave", "concatenate"),
    "model.output": ("image", "residual", "blend"),
    "model.scan_method": ("auto", "reference", "associative", "chunked", "two_level", "pallas"),
    "loss.intensity_rule": ("max", "mean", "task"),
    "loss.wavelet": ("haar", "cdf53", "cdf97"),
    "loss.feature_split": ("channel", "spatial"),
    "loss.balance": ("image", "running"),
    "optim.schedule": ("halving_cosine", "cosine", "sgdr", "step", "constant"),
}
_LEAST = {
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
    "model.decoder_layers": 1,
    **{f"loss.{f.name}": 0.0 for f in dataclasses.fields(Loss) if f.type is float},
    "optim.lr": 0.0,
    "optim.period": 1,
    "optim.floor": 0.0,
    "optim.clip": 0.0,
    **{f"train.{f.name}": 1 for f in dataclasses.fields(Train)},
    "train.seed": 0,
}


def _get(node: Any, path: str) -> Any:
    for part in filter(None, path.split(".")):
        node = getattr(node, part)
    return node


def _copy(node: Any) -> Any:
    if not dataclasses.is_dataclass(node):
        return node
    return type(node)(**{f.name: _copy(getattr(node, f.name)) for f in dataclasses.fields(node)})


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        path = f"{prefix}{name}"
        flat |= _flatten(value, f"{path}.") if isinstance(value, dict) else {path: value}
    return flat


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
