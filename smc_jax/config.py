"""The configuration: plain typed values, read from `configs/*.py`, overridden by dotted flags.

Defaults are the paper's setting. Where the paper is silent they are our choice, marked `(ours)`.
"""

import dataclasses
import json

from smc_jax import fields, mixture
from smc_jax.errors import ConfigError
from smc_jax.fields import CHOICES, TASKS, override

__all__ = [
    "CHOICES",
    "TASKS",
    "Config",
    "Data",
    "Loss",
    "Model",
    "Optim",
    "Train",
    "Validation",
    "override",
]


PARTS = ("source_a", "source_b", "mccm", "decoder")
"""Parts of the network, named as in its parameters."""


@dataclasses.dataclass
class Data:
    """The training pairs. A data set is a folder `<dir>/<name>` that `data_prep` wrote."""

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
    """Memory for decoded images, in MB; images that do not fit are decoded each time."""


@dataclasses.dataclass
class Model:
    """The network of the paper's Figure 1."""

    width: int = 32
    """Feature channels C (ours)."""
    state: int = 16
    """State size per channel in the spatial and frequency scans (ours)."""
    channel_state: int = 4
    """State size in the scans along the channels (ours)."""
    dt_rank: int = 2
    """Rank of the projection to the step size (ours)."""
    experts: int = 4
    top_k: int = 2
    gate_window: int = 0
    """Side in pixels of the windows whose maxima the gate averages (not in the paper); 0: the
    maximum of the whole image, which grows with its size."""
    mafe: bool = True
    """False: the experts get the shallow features."""
    share_mafe: bool = False
    """One MAFE for both sources instead of one each (ours: one each)."""
    local: bool = True
    """The local gated branch of MAFE (Eq. 2-4)."""
    local_halo: bool = True
    """Let quadrants of the local branch see one pixel across their seams (ours; False: each is
    padded by itself, which is the literal reading)."""
    sc_scan: bool = True
    """The spatial-channel branch of MAFE (Eq. 5-7)."""
    fr_scan: bool = True
    """The frequency-rotation branch of MAFE (Eq. 8-12)."""
    mccm: bool = True
    """False: the features of both sources are added instead of fused by experts."""
    cm_scan: bool = True
    """False: the experts keep their projections and crossed gates but scan nothing."""
    bidirectional: bool = True
    """Scan every sequence in reverse too."""
    frequency_order: str = "ring"
    """Order of the frequencies in FR-Scan: one of `scan_orders.GRIDS` (ours)."""
    cross_order: str = "interleave"
    """Order of the two modalities in CM-Scan: one of `scan_orders.CROSSINGS` (ours)."""
    decoder_layers: int = 3
    """Number of 3x3 convolutions in the decoder (ours: the paper draws one box)."""
    black_level: bool = False
    """Bring the first source down to the black level of the second, for infrared images (ours,
    `black_level.py`). Losses and metrics still see the source as it was."""
    output: str = "image"
    """Output of the decoder: the `image` (through a sigmoid); or, not in the paper, a `residual`
    that is added to the mean of the sources, or the weights of a `blend` of the sources, pixel by
    pixel and band by band (`blend.py`)."""
    trust: float = 0.0
    """How strongly the shares of a `blend` follow the sources' contrast before training."""
    detail_trust: float = 0.0
    """How much more strongly the shares of its bands of detail follow it."""
    contrast_noise: float = 1.0
    """Standard deviation of noise in grey levels of 255; details below it count as no contrast."""
    glare: float = 0.0
    """How strongly the shares of a `blend` follow the source that shows something where the other
    is white, as behind smoke."""
    faint: float = 0.0
    """Grey levels of 255 below which a `blend` approaches the brighter source."""
    within: bool = False
    """Keep each pixel of a `blend` between those of the sources."""
    scan_method: str = "auto"
    """Implementation of the selective scan; see `smc_jax.selective_scan`."""
    remat: bool = False
    """Recompute each block in the backward pass instead of keeping its activations."""


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
    ssim_span: float = 1.0
    """Dynamic range in the stabilising constants of SSIM (ours: that of the images); a smaller one
    gives faint structure in dark regions more weight."""
    intensity: float = 1.0
    gradient: float = 0.0
    """L1 distance to the larger of the two source gradients; not in the paper."""
    correlation: float = 0.0
    """Correlation of F minus one source with the other source (SCD); not in the paper."""
    fidelity: float = 0.0
    """Share of the sources' visual information (VIF) that F loses; not in the paper."""
    edges: float = 0.0
    """Share of the sources' edges (Qabf) that F loses; not in the paper."""
    structure: float = 0.0
    """Distance from the stronger structure of the sources (MEF-SSIM); not in the paper."""
    truth: float = 0.0
    """L1 distance of F and of its gradients to the ground truth, for pairs that have one; not in
    the paper."""
    intensity_rule: str = "max"
    """Target of the intensity loss: `max`, `mean` or `sharper` of the sources (ours). Two more
    choose it for each pair by its task: `task_mean` takes max for ivif and mdif, mean for mfif and
    meif; `task` is the same but for mfif, where it takes sharper."""
    wavelet: str = "haar"
    """Lifting scheme of the sub-bands: `haar`, `cdf53` or `cdf97`."""
    feature_split: str = "channel"
    """Sub-bands in L_fcl: of `channel` halves (literal) or of `spatial` rows and columns."""
    balance: str = "image"
    """L_wb over the weights of each `image` (literal) or over a `running` mean of importance."""
    clamp_div: bool = False
    """Count negative similarities in L_div as 0, so that anti-parallel experts gain nothing."""
    eps: float = 1e-4
    """Added to the denominators of the contrastive ratios (ours)."""


@dataclasses.dataclass
class Optim:
    """Adam and its learning rate."""

    lr: float = 2e-4
    schedule: str = "halving_cosine"
    """`halving_cosine`, `cosine`, `sgdr`, `step` or `constant`."""
    period: int = 1000
    """Steps after which `halving_cosine`, `sgdr` and `step` have halved the rate."""
    floor: float = 1e-6
    """The rate never falls below this (ours)."""
    b1: float = 0.9
    b2: float = 0.999
    clip: float = 0.0
    """Global gradient norm to clip at; 0: no clipping."""


@dataclasses.dataclass
class Train:
    """The length of the training, its devices, and what it writes."""

    steps: int = 10_000
    """(ours)"""
    seed: int = 0
    accumulate: int = 1
    """Number of parts in which a batch is computed, one after the other, to save memory."""
    fsdp: int = 1
    """Devices that share one copy of the weights; the others hold a copy each."""
    distributed: bool = False
    """Join the other processes of the job (Slurm, MPI, Kubernetes, TPU, or given by flags)."""
    dtype: str = "float32"
    """Type in which the network computes during training: `float32` or `bfloat16`. Weights,
    updates, the states of the scans and the losses are always float32."""
    ema: float = 0.0
    """Decay per step of the moving average of the weights, which evaluation takes; 0: none."""
    init_from: str = ""
    """Initial weights: a run's workdir or the folder of one of its checkpoints, a
    .safetensors file, a folder that `smc_jax.export` made, or a packaged name."""
    only: str = ""
    """Parts of the network to train, separated by commas: `source_a`, `source_b`, `mccm`,
    `decoder`. The others keep their weights, and their gradient is not computed. Empty: all."""
    max_bad_steps: int = 10
    """Most steps in a row that may have a loss, a gradient or weights that are not finite. Each is
    skipped; one more ends the run."""
    debug_nans: bool = False
    """Stop at the operation that produces the first NaN (slow)."""
    log_every: int = 10
    image_every: int = 500
    save_every: int = 500
    keep: int = 2
    """Number of newest checkpoints to keep."""
    trace_steps: int = 0
    """Steps to profile, soon after the start, into `<workdir>/trace`."""
    tensorboard: bool = False
    """Write event files for TensorBoard too."""
    wandb: str = ""
    """Project at Weights & Biases to log to as well."""

    def parts(self) -> list[str]:
        """The parts that `only` names."""
        return self.only.split(",") if self.only else []


@dataclasses.dataclass
class Validation:
    """Image metrics on held-out pairs during training (ours)."""

    every: int = 0
    """Steps between validations; 0: no validation."""
    split: str = "val"
    """A split of the data set, or of each in a mixture, or a part of one, as `train[90%:]`."""
    pairs: int = 16
    """Number of pairs, spread over the split; 0: all."""
    metrics: str = "paper"
    """A set of `smc_jax.metrics`, or names separated by commas."""
    best: str = "VIF"
    """The metric that decides which checkpoint is kept as the best; commands take that one by
    `--checkpoint=<workdir>/best`."""


@dataclasses.dataclass
class Config:
    """A whole run."""

    task: str = "ivif"
    """The task; the data sets must be for the same one. `general`: any of them."""
    setting: str = "paper"
    """Name of the row in tables: `paper`, `practical`, or an ablation of one of them."""
    data: Data = dataclasses.field(default_factory=Data)
    model: Model = dataclasses.field(default_factory=Model)
    loss: Loss = dataclasses.field(default_factory=Loss)
    optim: Optim = dataclasses.field(default_factory=Optim)
    train: Train = dataclasses.field(default_factory=Train)
    validation: Validation = dataclasses.field(default_factory=Validation)

    def check(self) -> "Config":
        """Returns self.

        Raises:
          ConfigError: a value has the wrong type or lies outside what can be run.
        """
        fields.check(self)
        mixture.shares(self.data.name)
        if self.model.top_k > self.model.experts:
            raise ConfigError(
                f"config.model.top_k is {self.model.top_k}, more than the "
                f"{self.model.experts} experts of config.model.experts"
            )
        there = {"source_b": not self.model.share_mafe, "mccm": self.model.mccm}
        parts = [part for part in PARTS if there.get(part, True)]
        if not set(self.train.parts()) <= set(parts):
            raise ConfigError(
                f"config.train.only is {self.train.only!r}; it may name {', '.join(parts)}, with "
                "commas between and no spaces"
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
          ValueError: the text is no JSON.
        """
        tree = json.loads(text)
        if not isinstance(tree, dict):
            raise ConfigError(f"the config is {tree!r:.40}; it must hold fields")
        return override(cls(), fields.flatten(tree))
