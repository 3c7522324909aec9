"""What logs teach about memory beyond the formulas: the allocator, what lies outside it, what is allocated."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from runplan.estimate.factors import Learnt, learn, learn_weighed
from runplan.estimate.logs.figures import Odd
from runplan.estimate.logs.settings import adapter_of, checkpointing_of, dtype_of, find_gpu, match_model, same_dataset
from runplan.estimate.memory import allocator, closed_form, nvidia_smi, outside_torch, torchtune_step
from runplan.estimate.memory.footprint import KEPT, Footprint
from runplan.estimate.memory.nvidia_smi import Rows, Sample
from runplan.estimate.memory.outliers import odd_memory
from runplan.estimate.memory.tried import Tried
from runplan.estimate.memory.weights import weight_bytes
from runplan.estimate.speed.observation import Observation
from runplan.estimate.workload import TRL, Gpu
from runplan.facts import Architecture, Lengths
from runplan.priors.record import PriorRun
from runplan.units import GIB

OUTSIDE_SPREAD, OUTSIDE_NOISE = 0.36, 0.15
"""Standard deviations of the logarithm of what lies outside the allocator: drivers and libraries; run to run."""


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
    gpus: Mapping[str, Gpu] | None = None,
    crowds: Iterable[Tried] = (),
    rows: Rows | None = None,
) -> MemoryLearnt:
    """What logs say about memory.

    Args:
        runs: the logs.
        observations: those of them that measure speed.
        models: architectures by the names logs use.
        gpus: GPU types by name.
        crowds: batches that ran out of memory.
        rows: of what is planned; unpacked logs of the same dataset tell something through them.
    """
    runs, rows = list(runs), rows or Rows(Lengths(()), "")
    known = [(run, *found, dtype_of(run)) for run in runs if (found := match_model(run, models)) is not None]
    held, odd = _held(known, gpus or {})
    needed = _needed(crowds, odd)
    seen, odd_samples = nvidia_smi.samples(runs, models, gpus or {}, rows)
    ratios = _allocated_ratios(observations)
    named = {one.path for one in odd}
    odd += [
        _unlike(path, ratio)
        for path, ratio in ratios
        if not 2 - MOST_UNLIKE < ratio < MOST_UNLIKE and path not in named
    ]
    named = {one.path for one in odd}
    odd += [one for one in odd_samples if one.path not in named]
    named = {one.path for one in odd}
    odd += [one for one in _above_longest(runs, models, gpus or {}, rows) if one.path not in named]
    seen = [one for one in seen if one.tried.run.path not in named]
    return MemoryLearnt(
        {packed: _learn_held(some, [one for one in seen if bool(one.tried.run.packed) == packed])
         for packed, some in held.items()},
        needed,
        learn([ratio for _, ratio in ratios if 2 - MOST_UNLIKE < ratio < MOST_UNLIKE], 0.012, 0.02),
        learn(_outside_ratios(seen), OUTSIDE_SPREAD, OUTSIDE_NOISE),
        tuple(seen),
        tuple(odd),
    )  # fmt: skip


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


Known = tuple[PriorRun, Architecture, bool, str]
"""A log, its model, whether its name said so, and its number format."""


def _held(known: Iterable[Known], gpus: Mapping[str, Gpu]) -> tuple[dict[bool, list[float]], list[Odd]]:
    """What the allocator held in vain over what is usual, by packed; and memory that cannot be."""
    ratios: dict[bool, list[float]] = {True: [], False: []}
    odd: list[Odd] = []
    for run, a, by_name, dtype in known:
        if why := _odd_memory(run, a, dtype, gpus, by_name=by_name):
            odd.append(Odd(run.path, "memory", why))
        elif held := _held_part(run, a, dtype):
            ratios[bool(run.packed)].append(held / _usual_part(run, a, dtype))
    return ratios, odd


def _odd_memory(run: PriorRun, a: Architecture, dtype: str, gpus: Mapping[str, Gpu], *, by_name: bool) -> str:
    """Why a log's peak cannot be right; of a model known by its size alone, the weights say nothing."""
    sharing = 1 if run.trainer == TRL else run.num_gpus or 1
    weights = weight_bytes(a, adapter_of(run), dtype) / sharing / GIB if by_name else 0.0
    gpu = find_gpu(run.gpu, gpus)
    return odd_memory(run, weights, gpu.memory_gib if gpu and gpu.name != "cpu" else None)


LEAST_FILLED = 0.5
"""A run that lacked memory with less of the GPU's in use by the formulas ran beside something else."""


def _needed(crowds: Iterable[Tried], odd: list[Odd]) -> Learnt:
    """What packed runs that lacked memory say about what the allocator needs: at least so much.

    Such a bound counts where it lies above what the other logs say (a censored value, taken at its bound).
    """
    ratios: list[float] = []
    for one in crowds:
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
    return _learn_needed(ratios)


def _learn_needed(ratios: Iterable[float]) -> Learnt:
    return learn(ratios, allocator.NEEDED_SPREAD, allocator.NEEDED_NOISE)


_FREED_GIB = 0.3
"""Of less, reserved memory says nothing: it comes in blocks of 2 to 20 MiB."""


def _footprint(run: PriorRun, a: Architecture, dtype: str) -> Footprint:
    """Memory of a logged run's steps by the formulas of its trainer; compiled runs as if eager."""
    modes = (checkpointing_of(run, a), bool(run.packed), (run.gradient_accumulation_steps or 1) > 1, False)
    form = closed_form.footprint_of(run.trainer)
    return form(a, adapter_of(run), dtype, modes, 8, run.num_gpus or 1, run.gpu or "")


def _logits_part(run: PriorRun, a: Architecture, dtype: str) -> float | None:
    """Logits as a part of what a step allocates and frees; None where the loss keeps none."""
    if run.trainer == TRL:
        return None
    return torchtune_step.head_bytes(a, dtype, 8, compiled=False)[0] / max(
        per for _, per in _footprint(run, a, dtype).moments
    )


def _held_part(run: PriorRun, a: Architecture, dtype: str) -> float:
    """The part of the memory that came and went which the allocator held in vain; 0 when the log does not tell."""
    block = run.peak_memory_gib
    held = (block.allocated or block.active) if block else None
    if block is None or not block.reserved or not held or not 1.0 <= block.reserved / held < 2.5:
        return 0.0
    parts = _footprint(run, a, dtype)
    stays = parts.fixed / GIB
    if held - stays < max(_FREED_GIB, LEAST_OF_LOSS * 2 * (parts.root + parts.block) / GIB):
        return 0.0
    return max(0.01, (block.reserved - held - allocator.ROUNDED_UP * stays) / (held - stays))


LEAST_OF_LOSS = 1.1
"""Of less than so many times what FSDP gathers before the first block, the peak is not surely that of the loss."""


def _usual_part(run: PriorRun, a: Architecture, dtype: str) -> float:
    """The part that is usual (`Footprint.held_bytes`), where the peak is that of the loss; of the first GPU."""
    parts, block = _footprint(run, a, dtype), run.peak_memory_gib
    uneven = 0.0 if run.packed else 1.0
    part = allocator.held_part(checkpointing_of(run, a), 1, uneven, _logits_part(run, a, dtype))
    freed = ((block.allocated or block.active or 0.0) if block else 0.0) - parts.fixed / GIB
    return part + ((1 + KEPT) * parts.root + parts.block) / GIB / freed if parts.root else part


def _allocated_ratios(observations: Iterable[Observation]) -> list[tuple[str, float]]:
    """Path, and measured over computed memory, of the logs that leave nothing to guess: packed rows, eager."""
    found = []
    for seen in observations:
        run, task = seen.run, seen.task
        peak = run.peak_memory_gib.allocated if run.peak_memory_gib else None
        if not (peak and task.packed and run.max_seq_len and not task.compile) or run.activation_checkpointing is None:
            continue
        mode = (task.checkpointing, True, task.accumulation > 1, False)
        form = closed_form.footprint_of(task.trainer)
        parts = form(task.architecture, task.adapter, task.dtype, mode, 8, task.gpus, task.gpu.name)
        found.append((run.path, peak * GIB / parts.peak_bytes(task.batch, run.max_seq_len)))
    return found


MOST_UNLIKE = 1.1
"""What is allocated differs from the formulas by less than this factor, where a log tells its settings."""
_OTHER = "other settings than it tells"


def _above_longest(
    runs: Iterable[PriorRun], models: Mapping[str, Architecture], gpus: Mapping[str, Gpu], rows: Rows
) -> list[Odd]:
    """Unpacked logs of the planned dataset that took more than batches of its longest row would."""
    odd: list[Odd] = []
    for run in runs if rows.lengths.rows else ():
        allocated = run.peak_memory_gib.allocated if run.peak_memory_gib else None
        certain = run.activation_checkpointing is not None and run.lora_rank and not run.packed and not run.compile
        tried = nvidia_smi.tried_of(run, models, gpus) if allocated and certain else None
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
