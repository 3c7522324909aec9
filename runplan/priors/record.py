"""One earlier run, as its log tells it. Unknown is `None`, never a guess."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any


@dataclass(frozen=True)
class MemoryGib:
    """Peak GPU memory by kind, in GiB."""

    allocated: float | None = None
    active: float | None = None
    reserved: float | None = None


@dataclass(frozen=True)
class PriorRun:
    """One log, read. Field names are those of `runplan priors --json`."""

    path: str
    trainer: str | None = None
    """`torchtune`, `trl`, `hf`, `axolotl`, …"""
    trainer_version: str | None = None
    recipe: str | None = None
    model: str | None = None
    """Name as the log has it: `Llama-3.2-1B-Instruct`, or the builder's `llama3_2_1b`."""
    params_b: float | None = None
    lora_rank: int | None = None
    lora_alpha: float | None = None
    lora_targets: tuple[str, ...] | None = None
    batch_size: int | None = None
    gradient_accumulation_steps: int | None = None
    max_seq_len: int | None = None
    packed: bool | None = None
    dtype: str | None = None
    activation_checkpointing: bool | None = None
    compile: bool | None = None
    gpu: str | None = None
    """A key of `conf/resources` where it could be recognised, else the text found."""
    num_gpus: int | None = None
    dataset: str | None = None
    epochs: int | None = None
    steps_done: int | None = None
    steps_total: int | None = None
    it_per_s: float | None = None
    """Steady speed in optimizer steps a second."""
    s_per_step: float | None = None
    tokens_per_s: float | None = None
    """Tokens with padding, a second."""
    startup_s: float | None = None
    """From the start of the job to the first step."""
    first_step_s: float | None = None
    checkpoint_s: tuple[float, ...] = ()
    wall_s: float | None = None
    peak_memory_gib: MemoryGib | None = None
    """Peak of training; None when only the block printed after model init is there."""
    init_memory_gib: MemoryGib | None = None
    state: str = "unknown"
    """completed, oom (GPU), host_oom, timeout, cancelled, node_fail, preempted, failed, running, unknown."""
    reason: str | None = None
    """The line that says why it ended."""
    oom_batch_sizes: tuple[int, ...] = ()
    """Batch sizes with which earlier attempts in the same log ran out of GPU memory; the record is the last one's."""
    process_peak_gib: float | None = None
    """Highest memory in use on one GPU as `nvidia-smi` sampled it beside the run (gpu_metrics.csv)."""
    loading_s: float | None = None
    """From the trainer's logger to the first step: start-up without Python's imports and the job's own start."""
    save_adapter_weights_only: bool | None = None
    quantize_base: bool | None = None
    """Whether the frozen weights were held in 4 bits (QLoRA)."""
    trained_tokens_per_s: float | None = None
    """Tokens a second that count in the loss, on one GPU: no padding, no prompt."""
    max_rss_gib: float | None = None
    """Most host memory of one task, as SLURM accounted it."""
    asked_mem_gib: float | None = None
    """Host memory that its job script asked for."""
    cpus: int | None = None
    """CPU threads of each process: as OpenMP was told, else CPUs of a task as SLURM or the job script has them."""
    padded_tokens: tuple[float, ...] = ()
    """Mean tokens of a training row in batches of 1, 2, 4, 8, 16, 32 and 64 rows, padding included, as its plan counted
    them; empty where no plan did."""
    modified_s: float = field(default=0.0, compare=False)
    """When the log was last written (seconds since the epoch); `newest` means this."""


_DEFAULTS = {item.name: item.default for item in fields(PriorRun) if item.default is not MISSING}


def quick_run(values: Mapping[str, Any]) -> PriorRun:
    """`PriorRun(**values)` at a tenth of the cost: the constructor of a frozen class sets every field by a call."""
    run = object.__new__(PriorRun)
    vars(run).update(_DEFAULTS, **values)
    return run
