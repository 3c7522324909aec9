"""From a composed run and the facts to what the estimators take in, and back: filling the keys runplan works out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

from runplan.config import Config, Dtype
from runplan.estimate.steps import choose_packed, validation_interval
from runplan.estimate.workload import TRL, Adapter, Gpu, Sizing, Workload
from runplan.facts import Architecture, Lengths
from runplan.jobs.requests import CPU, cpus_of, threads_of

if TYPE_CHECKING:
    from runplan.config import Resources

Part = TypeVar("Part")

EFFECTIVE_BATCH_SIZE = 16
"""Of every run when nothing is set: models and ranks are compared at equal rows a step."""
WARMUP_PART = 0.1
WARMUP_MOST = 100  # torchtune's own default for fine-tuning (recipes/configs/llama3_2/1B_lora_single_device.yaml)


@dataclass(frozen=True)
class Sized:
    """A run's complete config with the workload and size that belong to it."""

    config: Config
    workload: Workload
    sizing: Sizing
    packed_reason: str = ""
    rows: Lengths | None = None
    """How long the training rows are before `max_seq_len` cuts them."""


def gpu_of(resources: Resources) -> Gpu:
    """The GPU of a run by its specification, or the processor with the cores that its job asks for."""
    return Gpu(
        resources.gpu,
        resources.gpu_memory_gib,
        resources.memory_bandwidth_gb_per_s,
        resources.bf16_tflops,
        resources.fp32_tflops,
        resources.supports_bf16,
        cpus_of(resources) if resources.gpu == CPU else 0,
    )


def make_workload(
    config: Config, architecture: Architecture, train: Lengths, validation: Lengths | None, dataset: str
) -> Workload:
    """The workload of a config whose trainer defaults are filled in; `packed=auto` counts as not packed."""
    effective, accumulation = _batches(config)
    gpus = config.resources.gpus
    return Workload(
        trainer=config.trainer.name,
        trainer_version=config.trainer.version,
        architecture=architecture,
        adapter=Adapter(
            config.lora.rank,
            tuple(config.lora.attn_modules),
            config.lora.apply_to_mlp,
            config.lora.apply_to_output,
            config.lora.use_dora,
            config.lora.dropout,
            config.lora.quantize_base,
        ),
        gpu=gpu_of(config.resources),
        gpus=gpus,
        lengths=first_rows(train, config.dataset.train_rows).cut(config.max_seq_len),
        max_seq_len=config.max_seq_len,
        packed=config.packed is True,
        dtype=(config.dtype or Dtype.bf16).value,
        activation_checkpointing=bool(config.activation_checkpointing),
        compile=bool(config.compile),
        epochs=config.epochs,
        effective_batch_size=effective,
        batch_size=config.batch_size,
        gradient_accumulation_steps=accumulation,
        activation_offloading=config.trainer.activation_offloading,
        max_steps_per_epoch=config.trainer.max_steps_per_epoch,
        validation_lengths=validation.cut(config.max_seq_len) if validation and config.validation else None,
        run_val_every_n_steps=config.trainer.run_val_every_n_steps,
        save_adapter_weights_only=config.trainer.save_adapter_weights_only,
        utilization=config.estimator.utilization,
        model_name=config.model.name,
        dataset=dataset,
        threads=threads_of(cpus_of(config.resources), gpus),
    )


def _batches(config: Config) -> tuple[int, int | None]:
    """(effective batch, accumulation): what the user set decides; a batch set alone means accumulation 1."""
    batch, gpus = config.batch_size, config.resources.gpus
    effective, accumulation = config.effective_batch_size, config.gradient_accumulation_steps
    if batch is None:
        return effective or EFFECTIVE_BATCH_SIZE, accumulation
    if accumulation is None:
        accumulation = max(1, effective // (batch * gpus)) if effective else 1
    return batch * accumulation * gpus, accumulation


@lru_cache(maxsize=256)
def first_rows(lengths: Lengths, rows: int | None) -> Lengths:
    """`lengths.first(rows)`, remembered: a sweep asks the same for every run."""
    return lengths.first(rows)


def decide_packing(config: Config, workload: Workload) -> tuple[Workload, str]:
    """The workload with `packed=auto` decided, and the reason in words."""
    if config.packed != "auto":
        return workload, f"{'on' if workload.packed else 'off'}: set by the user"
    if workload.trainer == TRL:
        return workload, "off: TRL packs without padding, which costs more than it saves without FlashAttention"
    packed, reason = choose_packed(
        workload.lengths,
        workload.max_seq_len,
        workload.effective_batch_size,
        workload.epochs,
        config.estimator.minimum_steps,
        workload.gpus,
    )
    return replace(workload, packed=packed), reason


def copy_config(config: Config) -> Config:
    """A copy whose groups can be filled in without touching the original."""
    made = _copied(config)
    for name in ("model", "lora", "optimizer", "dataset", "resources", "trainer", "evaluation"):
        setattr(made, name, _copied(getattr(config, name)))
    return made


def _copied(part: Part) -> Part:
    """A copy of one object of a config; `copy.copy` goes through its `__dict__`, which makes both twice as large."""
    made = object.__new__(type(part))
    for name in vars(type(part))["__match_args__"]:
        setattr(made, name, getattr(part, name))
    return made


def fill_sizes(config: Config, workload: Workload, sizing: Sizing) -> Config:
    """A copy of the config in which every training key that runplan works out has its value."""
    made = copy_config(config)
    made.batch_size = sizing.batch_size
    made.gradient_accumulation_steps = sizing.gradient_accumulation_steps
    made.effective_batch_size = sizing.batch_size * sizing.gradient_accumulation_steps * workload.gpus
    made.packed = workload.packed
    if config.lora.alpha is None:
        made.lora.alpha = 2 * config.lora.rank
    if config.optimizer.num_warmup_steps is None:
        made.optimizer.num_warmup_steps = min(WARMUP_MOST, round(WARMUP_PART * sizing.steps_total))
    if config.trainer.run_val_every_n_steps is None:
        made.trainer.run_val_every_n_steps = validation_interval(sizing.steps_per_epoch)
    return made
