"""GPU memory of the training process: what it needs, and what nvidia-smi will show."""

from __future__ import annotations

import math
from typing import NamedTuple

from runplan.estimate import intervals, steps
from runplan.estimate.memory import activations, allocator, closed_form, got_through, outside_torch
from runplan.estimate.memory.footprint import KEPT
from runplan.estimate.memory.learnt import MemoryLearnt
from runplan.estimate.memory.ran_out import bounded
from runplan.estimate.memory.tried import Tried
from runplan.estimate.workload import TRL, Interval, Workload
from runplan.units import GIB

COMPILED_SIGMA = 0.05
"""What other versions of the compiler may keep more or less."""
SHARDED_SIGMA = 0.05
"""What several GPUs gather and keep more or less."""
MUCH_MORE = 1.15
"""How much more memory is held than needed before a plan says why."""


def needed(w: Workload, learnt: MemoryLearnt, shape: tuple[int, int], out: Tried | None) -> Interval:
    """The smallest GPU memory with which the longest batch gets through, in GiB, CUDA context included.

    Args:
        w: what is trained.
        learnt: what logs say about the allocator.
        shape: (batch, accumulation).
        out: a batch that is known to have run out.
    """
    uneven = allocator.unevenness(w.lengths, shape[0], w.packed)
    lost = learnt.needed.of(allocator.needed_part(w.activation_checkpointing, uneven))
    step = _step(w, learnt, shape)
    kept = KEPT * step.kept / step.freed
    computed = _with_lost(w, learnt, step, Interval(lost.p50 + kept, lost.p95 + kept))
    got = got_through.got_through(w, learnt.samples, shape, computed)
    if validated := validation(w, learnt, shape):
        got = _larger(got, _with_lost(w, learnt, validated, lost))
    return bounded(got, shape[0], out)


def peak(
    w: Workload, learnt: MemoryLearnt, shape: tuple[int, int], out: Tried | None, least: Interval | None = None
) -> Interval:
    """Peak of the process's memory in GiB: allocated, what the allocator holds beside it, CUDA context.

    The allocator holds no more than the GPU has, and where memory lacks it gives back what it holds in vain: above the
    GPU's memory lies only what is needed. Arguments are those of `needed`, and what it says, where that is known.
    """
    part = _held_part(w, learnt, shape)
    lost = learnt.held[w.packed].of(part)
    held = got_through.was_seen(w, learnt.samples, shape, _with_lost(w, learnt, _step(w, learnt, shape), lost))
    least = least or needed(w, learnt, shape, out)
    return Interval(*(max(low, min(high, w.gpu.memory_gib)) for low, high in zip(least, held, strict=True)))


def _larger(one: Interval, other: Interval) -> Interval:
    return Interval(max(one.p50, other.p50), max(one.p95, other.p95))


def set_by_validation(w: Workload, learnt: MemoryLearnt, shape: tuple[int, int]) -> tuple[str, ...]:
    """What to say where validation has longer rows than training: which of the two sets the peak."""
    validated = validation(w, learnt, shape)
    if validated is None or w.validation_lengths is None:
        return ()
    trained, rows = (steps.longest_sequence(w.lengths, w.max_seq_len, w.packed), _validated_tokens(w))
    if rows <= trained:
        return ()
    ours, theirs = (sum(one[:2]) for one in (validated, _step(w, learnt, shape)))
    which = "validation" if ours > theirs else "training"
    lengths = f"longest batch of validation, {rows} tokens a row, {ours:.1f} GiB allocated without gradients"
    return (f"memory: {which} sets the peak: {lengths}; of training, {trained} tokens a row, {theirs:.1f}",)


def held_in_vain(held: Interval, least: Interval) -> tuple[str, ...]:
    """What to say where nvidia-smi will show far more than is needed."""
    if held.p50 < MUCH_MORE * least.p50:
        return ()
    shown = f"the longest batch needs {least.p50:.1f} GiB (p95 {least.p95:.1f}), nvidia-smi will show {held.p50:.1f}"
    why = (
        "where batches differ in length torch's allocator keeps more than it needs, and gives it back when memory lacks"
    )
    return (f"memory: {shown}: {why}",)


def allocated_parts_gib(w: Workload, learnt: MemoryLearnt, shape: tuple[int, int, int]) -> tuple[float, float]:
    """What stays from step to step, and what (batch, tokens, accumulation) allocates and frees, as logs correct it."""
    corrected = math.exp(learnt.allocated.log_factor)
    stays, freed = closed_form.allocated_parts_gib(w, *shape)
    return stays * corrected, freed * corrected


def _held_part(w: Workload, learnt: MemoryLearnt, shape: tuple[int, int]) -> float:
    """What is usually held in vain, as a part of what a step allocates and frees."""
    batch, tokens = shape[0], steps.longest_sequence(w.lengths, w.max_seq_len, w.packed)
    _, freed = allocated_parts_gib(w, learnt, (batch, tokens, shape[1]))
    logits = None
    footprint = closed_form.footprint_for(w, shape[1])
    loss = footprint.loss_bytes(batch, tokens) / GIB if footprint.root else freed
    if w.trainer != TRL:
        logits = (
            activations.head_bytes(w.architecture, w.dtype, w.loss_chunks, w.compile)[0] * batch * tokens / GIB / loss
        )
    uneven = allocator.unevenness(w.lengths, batch, w.packed)
    part = allocator.held_part(w.activation_checkpointing, w.gpus, uneven, logits)
    return footprint.held_bytes(batch, tokens, part) / GIB / freed


class Allocated(NamedTuple):
    """What torch allocates for the longest batch, in GiB."""

    stays: float
    freed: float
    kept: float
    """How much more where FSDP keeps embedding and output gathered through the loss."""


def _step(w: Workload, learnt: MemoryLearnt, shape: tuple[int, int]) -> Allocated:
    tokens = steps.longest_sequence(w.lengths, w.max_seq_len, w.packed)
    kept = closed_form.footprint_for(w, shape[1]).kept_bytes(shape[0], tokens) / GIB
    return Allocated(*allocated_parts_gib(w, learnt, (shape[0], tokens, shape[1])), kept)


def _validated_tokens(w: Workload) -> int:
    """Tokens of the longest validation row, which are never packed."""
    return steps.longest_sequence(w.validation_lengths, w.max_seq_len, packed=False) if w.validation_lengths else 0


def validation(w: Workload, learnt: MemoryLearnt, shape: tuple[int, int]) -> Allocated | None:
    """The same of the longest batch of validation, which has training's size; None where it is not known."""
    footprint, tokens = closed_form.validation_footprint_for(w), _validated_tokens(w)
    if footprint is None:
        return None
    corrected, stays = math.exp(learnt.allocated.log_factor), closed_form.footprint_for(w, shape[1]).fixed
    freed = max(0.0, footprint.peak_bytes(shape[0], tokens) - stays)
    kept = footprint.kept_bytes(shape[0], tokens)
    return Allocated(corrected * stays / GIB, corrected * freed / GIB, kept / GIB)


def _with_lost(w: Workload, learnt: MemoryLearnt, allocated: Allocated, lost: Interval) -> Interval:
    """Memory of the process when the allocator loses a part of what comes and goes."""
    stays, freed, kept = allocated
    usual, buffers = outside_torch.usual_gib(w.gpu.name, w.gpus), outside_torch.buffers_gib(w.gpu.name, w.gpus)
    beside = learnt.outside.of(usual)
    median = stays * (1 + allocator.ROUNDED_UP) + freed * (1 + lost.p50) + beside.p50
    spread = math.hypot(learnt.allocated.sigma, SHARDED_SIGMA if w.gpus > 1 else 0.0)
    compiled = COMPILED_SIGMA if w.compile else 0.0
    above = [part * math.expm1(intervals.Z95 * sigma) for part, sigma in ((stays + freed, spread), (freed, compiled))]
    unknown = 0.0 if learnt.outside.n else outside_torch.CONTEXT_ABOVE_GIB
    above += [freed * (lost.p95 - lost.p50), max(beside.p95 - beside.p50, unknown), kept * (1 - KEPT)]
    above += [] if learnt.outside.n else [buffers.p95 - buffers.p50]
    return Interval(median, median + math.hypot(*above))
