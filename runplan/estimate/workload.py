"""What is to be estimated, and what an estimate is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from runplan.facts import Architecture, Lengths

TRL = "trl"
"""The trainer whose steps, memory and kernels are other than torchtune's."""

LOSS_CHUNKS = 8
"""Pieces in which the loss of a planned run takes the logits: `CEWithChunkedOutputLoss`, which finetune.yaml names, as
torchtune ships it. Logs are taken to have the same, none says it."""


class Interval(NamedTuple):
    """A quantity by its median and by the value that 95 of 100 runs stay below."""

    p50: float
    p95: float


@dataclass(frozen=True)
class Gpu:
    """One GPU (or MIG slice) by its public specification."""

    name: str
    memory_gib: float
    memory_bandwidth_gb_per_s: float
    bf16_tflops: float
    fp32_tflops: float
    supports_bf16: bool = True
    cores: int = 0
    """Of a processor in a GPU's place (what else is said of it is for one core); 0: unknown, or a GPU."""


@dataclass(frozen=True)
class Adapter:
    """Low-rank adapters: rank and what they sit on."""

    rank: int
    attn_modules: tuple[str, ...]
    apply_to_mlp: bool
    apply_to_output: bool = False
    use_dora: bool = False
    dropout: float = 0.0
    """Above 0 every adapted layer keeps its dropped input and the mask for backward."""
    quantize_base: bool = False
    """QLoRA: the frozen linear layers are stored in NF4, 4 bits and a share of their scales a weight."""


@dataclass(frozen=True)
class Workload:
    """One training run as far as it decides memory and time.

    `batch_size` and `gradient_accumulation_steps` are None where the estimator shall choose. Lengths are those of
    the training rows, already cut to `max_seq_len`.
    """

    trainer: str
    trainer_version: str
    architecture: Architecture
    adapter: Adapter
    gpu: Gpu
    gpus: int
    lengths: Lengths
    max_seq_len: int
    packed: bool
    dtype: str
    activation_checkpointing: bool
    compile: bool
    epochs: int
    effective_batch_size: int
    batch_size: int | None = None
    gradient_accumulation_steps: int | None = None
    activation_offloading: bool = False
    loss_chunks: int = LOSS_CHUNKS
    """Pieces in which the loss takes the logits; 0 = all at once, as recipes did that runplan did not write."""
    max_steps_per_epoch: int | None = None
    validation_lengths: Lengths | None = None
    """None when there is no validation during training."""
    run_val_every_n_steps: int | None = None
    """None: about ten times an epoch."""
    save_adapter_weights_only: bool = False
    utilization: float = 1.0
    """Part of the GPU's memory that may be filled."""
    model_name: str = ""
    """Short name of the model, for evidence and for the hand rules."""
    dataset: str = ""
    """Path or name of the dataset; unpacked logs of the same one are taken to have its lengths."""
    threads: int = 4
    """Of the processor, for each GPU."""


@dataclass(frozen=True)
class Sizing:
    """Batch, memory, speed and time of one run, with the evidence.

    `source` is `priors` (logs count), `physics` (none do), `rules` or `user` (the user set what matters).
    """

    batch_size: int
    gradient_accumulation_steps: int
    largest_batch_size: int
    """Largest batch whose p95 fits; 0 when not even one sequence fits."""
    steps_per_epoch: int
    steps_total: int
    allocated_gib: float
    peak_memory_gib: Interval
    """Peak of the process, as nvidia-smi sees it."""
    needed_memory_gib: Interval
    """The smallest GPU memory with which the longest batch gets through: what has to fit."""
    it_per_s: float
    """Optimizer steps a second."""
    tokens_per_s: float
    """Tokens with padding, all GPUs."""
    time_s: Interval
    """Training, start-up and checkpoints included."""
    source: str
    n_priors: int = 0
    extrapolated: bool = False
    evidence: tuple[str, ...] = ()
    parts_s: Mapping[str, float] = field(default_factory=dict)
    """What the median time consists of: startup, first_step, steps, validation, checkpoints."""
