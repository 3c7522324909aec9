"""What logs teach about memory beyond the formulas: the allocator, what lies outside it, what is allocated."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from runplan.estimate.factors import Learnt, learn, learn_weighed
from runplan.estimate.logs.figures import Odd
from runplan.estimate.logs.settings import (
    checkpointing_of,
    dtype_of,
    find_gpu,
    match_model,
    peak_in_use_gib,
    same_dataset,
)
from runplan.estimate.memory import activations, allocator, closed_form, nvidia_smi, outside_torch
from runplan.estimate.memory.footprint import KEPT, Footprint
from runplan.estimate.memory.nvidia_smi import Rows, Sample
from runplan.estimate.memory.outliers import odd_memory, weights_gib
from runplan.estimate.memory.tried import Tried, tried_of
from runplan.estimate.speed.observation import Observation
from runplan.estimate.workload import LOSS_CHUNKS, TRL, Gpu
from runplan.facts import Architecture
from runplan.priors.record import PriorRun
from runplan.units import GIB

OUTSIDE_SPREAD, OUTSIDE_NOISE = 0.36, 0.15
"""Standard deviations of the logarithm of what lies outside the allocator: drivers and libraries; run to run."""
ALLOCATED_SPREAD, ALLOCATED_NOISE = 0.012, 0.02
"""The same of allocated memory over what the closed forms give: what versions of torch change; run to run."""
LEAST_FILLED = 0.5
"""A run that lacked memory with less of the GPU's in use by the formulas ran beside something else."""
LEAST_FREED_GIB = 0.3
"""Of less, reserved memory says nothing: it comes in blocks of 2 to 20 MiB."""
MOST_RESERVED = 2.5
"""Reserved memory that is so many times what is in use says nothing about the step: something else held it."""
LEAST_OF_LOSS = 1.1
"""Of less than so many times what FSDP gathers before the first block, the peak is not surely that of the loss."""
MOST_UNLIKE = 1.1
"""What is allocated differs from the formulas by less than this factor, where a log tells its settings."""
_OTHER = "other settings than it tells"


@dataclass(frozen=True)
class MemoryLearnt:
    """What logs say about memory."""

    held: Mapping[bool, Learnt]
    """What the allocator holds in vain, over what is usual; by packed."""
    needed: Learnt
    """What of it is needed, over what is usual."""
    allocated: Learnt
    """Measured over computed allocated memory."""
    outside: Learnt
    """What lies outside the allocator, over what is usual."""
    samples: tuple[Sample, ...] = ()
    """What nvidia-smi saw of runs."""
    odd: tuple[Odd, ...] = ()
    """What logs say of it that does not count, and why."""


def learn_memory(
    runs: Iterable[PriorRun],
    observations: Iterable[Observation],
    models: Mapping[str, Architecture],
    gpus: Mapping[str, Gpu],
    ran_out: Iterable[Tried],
    rows: Rows,
) -> MemoryLearnt:
    """What logs say about memory.

    Args:
        runs: the logs.
        observations: those of them that measure speed.
        models: architectures by the names logs use.
        gpus: GPU types by name.
        ran_out: batches that ran out of memory.
        rows: of what is planned; unpacked logs of the same dataset tell something through them.
    """
    runs = list(runs)
    held, odd_held = _held(runs, models, gpus)
    needed, odd_needed = _needed(ran_out)
    samples, odd_samples = nvidia_smi.samples(runs, models, gpus, rows)
    ratios = _allocated_ratios(observations)
    unlike = [_unlike(path, ratio) for path, ratio in ratios if not _is_alike(ratio)]
    odd = _named_once([*odd_held, *odd_needed], unlike, odd_samples)
    named = {one.path for one in odd}
    samples = [one for one in samples if one.tried.run.path not in named]
    by_packed = {
        packed: _learn_held(some, [one for one in samples if bool(one.tried.run.packed) == packed])
        for packed, some in held.items()
    }
    return MemoryLearnt(
        held=by_packed,
        needed=needed,
        allocated=learn(filter(_is_alike, (ratio for _, ratio in ratios)), ALLOCATED_SPREAD, ALLOCATED_NOISE),
        outside=learn(_outside_ratios(samples), OUTSIDE_SPREAD, OUTSIDE_NOISE),
        samples=tuple(samples),
        odd=tuple(_named_once(odd, _above_longest(runs, models, gpus, rows))),
    )


def _named_once(*reasons: Iterable[Odd]) -> list[Odd]:
    """All of them, without those of logs that an earlier kind of reason names already."""
    found: list[Odd] = []
    for some in reasons:
        named = {one.path for one in found}
        found += [one for one in some if one.path not in named]
    return found


def _learn_held(ratios: Iterable[float], seen: Iterable[Sample]) -> Learnt:
    """What torch's own blocks say about the allocator, and nvidia-smi where there is no such block.

    A sample weighs as much as it can tell: little, where what is held in vain is less than what is unsure about the
    rest. Of a full GPU it is a bound from below, as of a batch that ran out.
    """
    measured = [(math.log(ratio), allocator.NOISE) for ratio in ratios]
    alone = [one for one in seen if one.reserved is None]
    measured += [(one.held_log, one.held_noise) for one in alone if not one.full]
    before = learn_weighed(measured, allocator.SPREAD, allocator.NOISE)
    measured += [(one.held_log, one.held_noise) for one in alone if one.full and one.held_log > before.log_factor]
    return learn_weighed(measured, allocator.SPREAD, allocator.NOISE)


def _outside_ratios(seen: Iterable[Sample]) -> list[float]:
    """What nvidia-smi saw beyond torch's own segments, over the usual: on one GPU, or where all hold the same."""
    alike = [one for one in seen if one.reserved and ((one.tried.run.num_gpus or 1) == 1 or one.tried.run.packed)]
    return [(one.seen - one.reserved) / one.outside for one in alike if one.reserved and one.seen > one.reserved]


def _held(
    runs: Iterable[PriorRun], models: Mapping[str, Architecture], gpus: Mapping[str, Gpu]
) -> tuple[dict[bool, list[float]], list[Odd]]:
    """What the allocator held in vain over what is usual, by packed; and memory that cannot be."""
    ratios: dict[bool, list[float]] = {True: [], False: []}
    odd: list[Odd] = []
    for run in runs:
        matched = match_model(run, models)
        if matched is None:
            continue
        model, by_name = matched
        gpu = find_gpu(run.gpu, gpus)
        weights = weights_gib(run, model) if by_name else 0.0
        if why := odd_memory(run, weights, gpu.memory_gib if gpu and gpu.name != "cpu" else None):
            odd.append(Odd(run.path, "memory", why))
        elif held := _held_part(run, model):
            ratios[bool(run.packed)].append(held / _usual_part(run, model))
    return ratios, odd


def _needed(ran_out: Iterable[Tried]) -> tuple[Learnt, list[Odd]]:
    """What packed runs that lacked memory say about what the allocator needs: at least so much; and odd ones.

    Such a bound counts where it lies above what the other logs say (a censored value, taken at its bound).
    """
    ratios: list[float] = []
    odd: list[Odd] = []
    for one in ran_out:
        parts = one.parts_gib()
        if parts is None:
            continue
        stays, freed = parts
        if stays + freed < LEAST_FILLED * one.gpu.memory_gib:
            why = f"batch {one.batch} ran out with {stays + freed:.3g} of {one.gpu.memory_gib:.3g} GiB by the formulas"
            odd.append(Odd(one.run.path, "memory", f"{why}: something else was on the GPU, or other settings"))
            continue
        beside = outside_torch.usual_gib(one.gpu.name, one.run.num_gpus or 1)
        lacked = one.gpu.memory_gib - beside - stays * (1 + allocator.ROUNDED_UP) - freed
        ratio = lacked / freed / allocator.needed_part(one.checkpointing, uneven=0.0)
        if ratio > math.exp(_learn_needed(ratios).log_factor):
            ratios.append(ratio)
    return _learn_needed(ratios), odd


def _learn_needed(ratios: Iterable[float]) -> Learnt:
    return learn(ratios, allocator.NEEDED_SPREAD, allocator.NEEDED_NOISE)


def _footprint(run: PriorRun, model: Architecture) -> Footprint:
    """Memory of a logged run's steps by the formulas of its trainer; compiled runs as if eager."""
    return closed_form.footprint_of_log(run, model, run.gpu or "", compiled=False)


def _logits_part(run: PriorRun, model: Architecture) -> float | None:
    """Logits as a part of what a step allocates and frees; None where the loss keeps none."""
    if run.trainer == TRL:
        return None
    per_token = activations.head_bytes(model, dtype_of(run), LOSS_CHUNKS, compiled=False)[0]
    return per_token / max(per for _, per in _footprint(run, model).moments)


def _held_part(run: PriorRun, model: Architecture) -> float:
    """The part of the memory that came and went which the allocator held in vain; 0 when the log does not tell."""
    block, held = run.peak_memory_gib, peak_in_use_gib(run)
    if block is None or not block.reserved or not held or not 1.0 <= block.reserved / held < MOST_RESERVED:
        return 0.0
    parts = _footprint(run, model)
    stays = parts.fixed / GIB
    if held - stays < max(LEAST_FREED_GIB, LEAST_OF_LOSS * 2 * (parts.root + parts.block) / GIB):
        return 0.0
    return max(0.01, (block.reserved - held - allocator.ROUNDED_UP * stays) / (held - stays))


def _usual_part(run: PriorRun, model: Architecture) -> float:
    """The part that is usual (`Footprint.held_bytes`), where the peak is that of the loss; of the first GPU."""
    parts = _footprint(run, model)
    uneven = 0.0 if run.packed else 1.0
    part = allocator.held_part(checkpointing_of(run, model), 1, uneven, _logits_part(run, model))
    freed = (peak_in_use_gib(run) or 0.0) - parts.fixed / GIB
    return part + ((1 + KEPT) * parts.root + parts.block) / GIB / freed if parts.root else part


def _allocated_ratios(observations: Iterable[Observation]) -> list[tuple[str, float]]:
    """Path, and measured over computed memory, of the logs that leave nothing to guess: packed rows, eager."""
    found = []
    for seen in observations:
        run, step = seen.run, seen.step
        peak = run.peak_memory_gib.allocated if run.peak_memory_gib else None
        if not (peak and step.packed and run.max_seq_len and not step.compile) or run.activation_checkpointing is None:
            continue
        mode = (step.checkpointing, True, step.accumulation > 1, False)
        form, chunks = closed_form.form_of(step.trainer), LOSS_CHUNKS
        parts = form(step.architecture, step.adapter, step.dtype, mode, chunks, step.gpus, step.gpu.name)
        found.append((run.path, peak * GIB / parts.peak_bytes(step.batch, run.max_seq_len)))
    return found


def _is_alike(ratio: float) -> bool:
    """Whether what was allocated is about what the formulas give."""
    return 2 - MOST_UNLIKE < ratio < MOST_UNLIKE


def _above_longest(
    runs: Iterable[PriorRun], models: Mapping[str, Architecture], gpus: Mapping[str, Gpu], rows: Rows
) -> list[Odd]:
    """Unpacked logs of the planned dataset that took more than batches of its longest row would."""
    odd: list[Odd] = []
    for run in runs if rows.lengths.rows else ():
        allocated = run.peak_memory_gib.allocated if run.peak_memory_gib else None
        certain = run.activation_checkpointing is not None and run.lora_rank and not run.packed and not run.compile
        tried = tried_of(run, models, gpus) if allocated and certain else None
        footprint = tried.footprint() if tried and same_dataset(run, rows.dataset) else None
        if footprint is None or not allocated:
            continue
        longest = min(rows.lengths.longest, run.max_seq_len or rows.lengths.longest)
        ratio = allocated * GIB / footprint.peak_bytes(run.batch_size or 1, longest)
        if ratio > MOST_UNLIKE:
            row = f"its dataset's longest row ({longest} tokens)"
            odd.append(Odd(run.path, "memory", f"{ratio:.2g} times what is allocated for {row}: {_OTHER}"))
    return odd


def _unlike(path: str, ratio: float) -> Odd:
    why = f"{ratio:.2g} times the allocated memory that the formulas give: {_OTHER}"
    return Odd(path, "memory", why)
