"""Batches that are known to have got through, and what nvidia-smi saw of them: bounds of what runs like them need."""

from __future__ import annotations

import math
from collections.abc import Iterable

from runplan.estimate import intervals
from runplan.estimate.logs.settings import s_per_step
from runplan.estimate.memory import allocator
from runplan.estimate.memory.nvidia_smi import Sample
from runplan.estimate.workload import Interval, Workload

EVEN_NOISE = 0.1
"""Standard deviation of the logarithm of what is held in vain, from one run to the next with steps of one size: they
ask for the same blocks in the same order."""
LEAST_ABOVE = 0.01
"""What the next run like one that was seen may take more in any case: other nodes, other drivers."""
LEAST_STEPS, LEAST_S = 20, 120.0
"""Steps, and their seconds: a run of fewer has not settled, nor have samples, 30 s apart at worst, met its peak."""


def was_seen(w: Workload, samples: Iterable[Sample], shape: tuple[int, int], peak: Interval) -> Interval:
    """A peak of memory within what was seen of runs that need no less and of runs that need no more.

    Args:
        w: what is planned.
        samples: what nvidia-smi saw.
        shape: (batch, accumulation).
        peak: as computed.
    """
    batch, accumulation = shape
    samples = list(samples)
    most = _most(w, samples, shape)
    if most is not None:
        peak = Interval(min(peak.p50, most.p50), min(peak.p95, most.p95))
    same = [one for one in samples if one.tried.gpu.name == w.gpu.name]  # on larger ones more is held in vain
    below = [one.seen for one in same if one.tried.batch <= batch and one.tried.needs_no_more(w, accumulation)]
    least = max(below, default=0.0)
    return Interval(max(peak.p50, least) if w.packed else peak.p50, max(peak.p95, least))


def got_through(w: Workload, samples: Iterable[Sample], shape: tuple[int, int], least: Interval) -> Interval:
    """The memory that is needed, at most what was seen of runs that need no less: they got through with that."""
    most = _most(w, samples, shape)
    return least if most is None else Interval(min(least.p50, most.p50), min(least.p95, most.p95))


def described(w: Workload, samples: Iterable[Sample], shape: tuple[int, int]) -> tuple[str, ...]:
    """The line of evidence about runs that needed no less and got through; none where there are none."""
    batch, accumulation = shape
    alike = [one for one in samples if one.tried.batch >= batch and _settled(one)]
    alike = [one for one in alike if one.tried.needs_no_less(w, accumulation)]
    if not alike:
        return ()
    one = min(alike, key=lambda one: (one.tried.batch, -one.seen, one.tried.run.path))
    return (f"{one.tried.run.path}: batch {one.tried.batch} got through with {one.seen:.1f} GiB as nvidia-smi saw it",)


def _most(w: Workload, samples: Iterable[Sample], shape: tuple[int, int]) -> Interval | None:
    """What a run like those that need no less will take at most; None where none is known.

    Of several logs of one batch the one that took most counts.
    """
    batch, accumulation = shape
    by_batch: dict[int, list[Interval]] = {}
    for one in samples:
        if one.tried.batch >= batch and _settled(one) and one.tried.needs_no_less(w, accumulation):
            by_batch.setdefault(one.tried.batch, []).append(_again(one))
    bounds = [Interval(*map(max, zip(*some, strict=True))) for some in by_batch.values()]
    return Interval(*map(min, zip(*bounds, strict=True))) if bounds else None


def _settled(one: Sample) -> bool:
    """Whether the log says all that counts, and samples had the time to see the whole peak."""
    run = one.tried.run
    certain = run.activation_checkpointing is not None and run.lora_rank and run.lora_targets is not None
    steps = run.steps_done or 0
    long = steps >= LEAST_STEPS and steps * (s_per_step(run) or 0.0) >= LEAST_S
    return bool(certain) and long and one.seen >= one.base + one.outside / 2


def _again(one: Sample) -> Interval:
    """The next run of the same setting."""
    noise = EVEN_NOISE if one.tried.run.packed else allocator.NOISE
    vain = max(0.0, one.seen - one.base - one.outside)
    above = math.hypot(vain * math.expm1(intervals.Z95 * noise), LEAST_ABOVE * one.seen)
    return Interval(one.seen, one.seen + above)
