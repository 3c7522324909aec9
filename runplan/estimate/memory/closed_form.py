"""What a training step allocates on one GPU, by the closed form of its trainer."""

from __future__ import annotations

from collections.abc import Callable

from runplan.estimate.logs.settings import adapter_of, checkpointing_of, dtype_of
from runplan.estimate.memory import torchtune_step, trl_step, trl_validation
from runplan.estimate.memory.footprint import Footprint
from runplan.estimate.workload import LOSS_CHUNKS, TRL, Workload
from runplan.facts import Architecture
from runplan.priors.record import PriorRun
from runplan.units import GIB


def form_of(trainer: str | None) -> Callable[..., Footprint]:
    """The closed form of a trainer, all with the arguments of torchtune's, which stands for trainers without one."""
    return trl_step.footprint if trainer == TRL else torchtune_step.footprint


def allocated_gib(workload: Workload, batch: int, tokens: int, accumulation: int = 1) -> float:
    """Peak of torch's allocated memory on one GPU, in GiB, from the second optimizer step on.

    Args:
        workload: what is trained; its own batch and accumulation are not looked at.
        batch: sequences the GPU processes at once.
        tokens: length they are padded to.
        accumulation: forward passes an optimizer step (above 1 gradients are alive in the forward pass).

    Source: torchtune 0.6.1 read and simulated; of compiled models the blocks (`compiled_layer_bytes`).
    """
    return sum(allocated_parts_gib(workload, batch, tokens, accumulation))


def footprint_for(w: Workload, accumulation: int = 1) -> Footprint:
    """What one GPU holds of a workload."""
    mode: tuple[bool, ...] = (w.activation_checkpointing, w.packed, accumulation > 1, w.compile)
    if w.trainer != TRL and w.activation_checkpointing:
        mode = (*mode, w.activation_offloading)
    form = form_of(w.trainer)
    return form(w.architecture, w.adapter, w.dtype, mode, w.loss_chunks, w.gpus, w.gpu.name)


def footprint_of_log(run: PriorRun, model: Architecture, gpu: str, *, compiled: bool) -> Footprint:
    """What one GPU of a type held of a logged run; what the log leaves open is as its trainer has it."""
    accumulated = (run.gradient_accumulation_steps or 1) > 1
    mode = (checkpointing_of(run, model), bool(run.packed), accumulated, compiled)
    form = form_of(run.trainer)
    return form(model, adapter_of(run), dtype_of(run), mode, LOSS_CHUNKS, run.num_gpus or 1, gpu)


def validation_footprint_for(w: Workload) -> Footprint | None:
    """What one GPU holds while it validates between two steps; None where that does not happen."""
    if w.validation_lengths is None or not w.validation_lengths.rows:
        return None
    mode = (w.activation_checkpointing, w.packed, False, w.compile)
    form: Callable[..., Footprint] = torchtune_step.validation_footprint
    if w.trainer == TRL:
        form = trl_validation.validation_footprint
    return form(w.architecture, w.adapter, w.dtype, mode, w.loss_chunks, w.gpus, w.gpu.name)


def allocated_parts_gib(w: Workload, batch: int, tokens: int, accumulation: int = 1) -> tuple[float, float]:
    """The two parts of `allocated_gib`: what stays from step to step, and what every step allocates and frees."""
    parts = footprint_for(w, accumulation)
    return parts.fixed / GIB, (parts.peak_bytes(batch, tokens) - parts.fixed) / GIB
