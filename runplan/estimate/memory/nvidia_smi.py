"""What nvidia-smi saw of a run: the highest memory in use on one of its GPUs, beside what formulas say it held.

Torch's allocator gives no segment back while memory lasts, so a sample taken at any time after the longest batch shows
its peak: samples miss only what is asked for after the last of them. Still, such a peak is at least what was held.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from runplan.estimate import intervals, steps
from runplan.estimate.factors import scatter
from runplan.estimate.logs.figures import Odd
from runplan.estimate.logs.settings import same_dataset
from runplan.estimate.memory import activations, allocator, outside_torch
from runplan.estimate.memory.footprint import Footprint
from runplan.estimate.memory.outliers import LEAST_WEIGHTS, MOST_MEMORY, weights_gib
from runplan.estimate.memory.tried import Tried, tried_of
from runplan.estimate.workload import LOSS_CHUNKS, TRL, Gpu
from runplan.facts import Architecture, Lengths
from runplan.priors.record import PriorRun
from runplan.units import GIB

FULL = 0.95
"""With so much of a GPU in use its allocator may have given back what it held in vain."""
LENGTH_SIGMA = 0.1
"""Relative error of the longest batch of an unpacked log whose dataset is known."""
FORMULA_SIGMA, SHARDED_SIGMA = 0.02, 0.05
"""Relative errors of what is allocated by the formulas: on one GPU, on several."""
UNSEEN = 0.9
"""Of what packed steps allocate by the formulas, samples that come often enough show at least so much."""
MOST_HELD = 3.0
"""Standard deviations above the usual beyond which something else must have been on the GPU."""
SCATTERED = 4.0
"""Standard deviations from the median of several runs alike beyond which one of them stands apart."""
APART = 1.25
"""Nor does one of several runs alike stand apart from the others that differs by less than this factor."""


class Rows(NamedTuple):
    """The rows of what is planned: logs of the same dataset have them, too."""

    lengths: Lengths
    dataset: str


class Sample(NamedTuple):
    """The highest memory that nvidia-smi saw, and what of it formulas or torch itself account for; GiB of one GPU."""

    tried: Tried
    seen: float
    reserved: float | None
    """By torch's own block, of the first GPU."""
    base: float
    """What was allocated."""
    vain: float
    """What the allocator usually holds beside that."""
    outside: float
    """What usually lies outside the allocator."""
    unsure: float
    """Standard deviation of `base` and `outside`."""

    @property
    def full(self) -> bool:
        """Whether the GPU was full: what was held in vain may have been given back."""
        return self.seen >= FULL * self.tried.gpu.memory_gib

    @property
    def held_log(self) -> float:
        """Logarithm of what was held in vain, over the usual; to first order where that was less.

        So little is left there between two large figures that its logarithm would be one of errors.
        """
        ratio = (self.seen - self.base - self.outside) / self.vain
        return math.log(ratio) if ratio > 1 else max(-1.0, ratio - 1)

    @property
    def held_noise(self) -> float:
        """Standard deviation of `held_log`: of a small run nearly nothing is left to be seen."""
        return math.hypot(allocator.NOISE, self.unsure / self.vain)


def samples(
    priors: Iterable[PriorRun], models: Mapping[str, Architecture], gpus: Mapping[str, Gpu], rows: Rows
) -> tuple[list[Sample], list[Odd]]:
    """Every log's sample that formulas can be held to, and those that cannot be right.

    Args:
        priors: the logs.
        models: architectures by the names logs use.
        gpus: GPU types by name.
        rows: of what is planned.
    """
    found: list[Sample] = []
    odd: list[Odd] = []
    for run in priors:
        # Of a run that tried more than one batch the peak may be that of a batch that did not fit.
        told = run.process_peak_gib and run.state != "oom" and not run.oom_batch_sizes
        tried = tried_of(run, models, gpus) if told else None
        if tried is None:
            continue
        sample = _sample(tried, rows)
        if why := _impossible(tried) or (_implausible(sample) if sample else ""):
            odd.append(Odd(run.path, "memory", why))
        elif sample is not None:
            found.append(sample)
    left, apart = _apart(found)
    return left, [*odd, *apart]


def _sample(tried: Tried, rows: Rows) -> Sample | None:
    """The sample with what formulas say; None where the log does not tell how long its sequences were."""
    run, block = tried.run, tried.run.peak_memory_gib
    known, footprint = _longest(run, rows), tried.footprint()
    if known is None or footprint is None:
        return None
    tokens, uneven = known
    stays, freed = footprint.fixed / GIB, (footprint.peak_bytes(tried.batch, tokens) - footprint.fixed) / GIB
    allocated = block.allocated if block else None
    measured = (allocated - stays) / freed if allocated and allocated > stays else 1.0
    vain = measured * _usually_held(tried, footprint, tokens, uneven)
    gpus = run.num_gpus or 1
    buffers = outside_torch.buffers_gib(tried.gpu.name, gpus)
    wide = (outside_torch.CONTEXT_ABOVE_GIB / intervals.Z95, (buffers.p95 - buffers.p50) / intervals.Z95)
    formula = (SHARDED_SIGMA if gpus > 1 else FORMULA_SIGMA) * (stays + freed)
    length = 0.0 if run.packed or allocated else LENGTH_SIGMA
    return Sample(
        tried,
        run.process_peak_gib or 0.0,
        block.reserved if block else None,
        stays * (1 + allocator.ROUNDED_UP) + measured * freed,
        vain,
        outside_torch.usual_gib(tried.gpu.name, gpus),
        math.hypot(*wide, formula, length * (freed + vain)),
    )


def _usually_held(tried: Tried, footprint: Footprint, tokens: int, uneven: float) -> float:
    """GiB that the allocator usually holds in vain."""
    run, gpus = tried.run, tried.run.num_gpus or 1
    logits = None
    if run.trainer != TRL:
        per_token = activations.head_bytes(tried.architecture, run.dtype or "bf16", LOSS_CHUNKS, bool(run.compile))[0]
        freed = footprint.peak_bytes(tried.batch, tokens) - footprint.fixed
        loss = footprint.loss_bytes(tried.batch, tokens) if footprint.root else freed
        logits = per_token * tried.batch * tokens / loss
    part = allocator.held_part(tried.checkpointing, gpus, uneven, logits)
    return footprint.held_bytes(tried.batch, tokens, part) / GIB


def _longest(run: PriorRun, rows: Rows) -> tuple[int, float] | None:
    """Tokens of the longest batch and how uneven steps were (`allocator.unevenness`); None where the log is silent.

    Of an unpacked log of the same dataset: the longest of as many rows as it has seen.
    """
    if run.packed:
        return (run.max_seq_len, 0.0) if run.max_seq_len else None
    if not rows.lengths.rows or not same_dataset(run, rows.dataset):
        return None
    lengths = rows.lengths.cut(run.max_seq_len) if run.max_seq_len else rows.lengths
    batch, gpus = run.batch_size or 1, run.num_gpus or 1
    seen = (run.steps_done or lengths.rows) * batch * gpus * (run.gradient_accumulation_steps or 1)
    longest = lengths.longest if seen >= lengths.rows else round(steps.padded_length(lengths, max(1, seen)))
    return max(1, longest), allocator.unevenness(lengths.cut(max(1, longest)), batch, packed=False)


def _impossible(tried: Tried) -> str:
    """Why nvidia-smi cannot have shown this run on its GPU; empty where nothing speaks against it."""
    run = tried.run
    seen, weights = run.process_peak_gib or 0.0, weights_gib(run, tried.architecture)
    if seen < LEAST_WEIGHTS * weights:
        return f"nvidia-smi saw {seen:.2f} GiB at most, less than the {weights:.2f} GiB of the weights alone"
    if seen > MOST_MEMORY * tried.gpu.memory_gib + _DRIVERS_GIB:
        return f"nvidia-smi saw {seen:.2f} GiB, more than the {tried.gpu.memory_gib:.2f} GiB of a {run.gpu}"
    return ""


_DRIVERS_GIB = 0.7
"""What ECC and the driver keep counts as used with old drivers, but not among what torch may have."""


def _implausible(sample: Sample) -> str:
    """Why a sample cannot be of this run alone; empty where it can."""
    seen, least = sample.seen, sample.base + sample.outside
    if sample.reserved:
        least, most = sample.reserved, sample.reserved + sample.outside + MOST_HELD * sample.unsure
        if (sample.tried.run.num_gpus or 1) > 1:
            most += sample.vain * math.exp(MOST_HELD * allocator.NOISE)
        why = f"torch held {least:.2f}"
    else:
        most = least + sample.vain * math.exp(MOST_HELD * allocator.SPREAD) + MOST_HELD * sample.unsure
        why = f"{least:.2f} to {most:.2f} are usual"
    if seen > most and not sample.full:
        return f"nvidia-smi saw {seen:.2f} GiB where {why}: something else was on the GPU, or other settings"
    if sample.tried.run.packed and seen < UNSEEN * sample.base:
        return f"nvidia-smi saw {seen:.2f} GiB at most of {sample.base:.2f} that steps take: looked too seldom"
    return ""


def _apart(found: Iterable[Sample]) -> tuple[list[Sample], list[Odd]]:
    """Samples without those that stand apart from two or more others of the very same setting."""
    groups: dict[object, list[Sample]] = {}
    for one in found:
        run = one.tried.run
        setting = (*one.tried[1:], run.packed, run.max_seq_len, run.num_gpus, run.dataset, run.compile, run.trainer)
        groups.setdefault(setting, []).append(one)
    left: list[Sample] = []
    odd: list[Odd] = []
    for members in groups.values():
        logs = [math.log(one.seen) for one in members]
        middle = statistics.median(logs)
        most = max(SCATTERED * scatter(logs, middle), math.log(APART))
        for one, log in zip(members, logs, strict=True):
            if len(members) > 2 and abs(log - middle) > most:
                factor = math.exp(log - middle)
                why = f"nvidia-smi saw {factor:.2g} times what {len(members) - 1} logs of the same setting show"
                odd.append(Odd(one.tried.run.path, "memory", why))
            else:
                left.append(one)
    return left, odd
