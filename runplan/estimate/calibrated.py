"""Batch, memory, speed and time of a run from physics, calibrated by the user's own logs (`estimator=calibrated`)."""

from __future__ import annotations

import math

from runplan.estimate import evidence, intervals, steps
from runplan.estimate.calibration import Calibration
from runplan.estimate.logs.repeats import repeats_left_out
from runplan.estimate.memory import got_through, process
from runplan.estimate.memory.ran_out import described
from runplan.estimate.speed.step import mean_tokens, planned_step
from runplan.estimate.wall_time.parts import time_parts
from runplan.estimate.workload import Interval, Sizing, Workload


def size(workload: Workload, calibration: Calibration) -> Sizing:
    """Batch, memory, speed and time of a run. Always answers: batch 1 even where it does not fit.

    The batch is the largest power of two, at most the effective batch, whose p95 of the memory needed for the longest
    batch fits; accumulation fills the effective batch exactly. A user's batch alone means accumulation 1.
    """
    w = workload
    largest = largest_batch(w, calibration)
    batch, accumulation, inexact = choose_batch(w, largest)
    rows = steps.sequences(w.lengths, w.max_seq_len, w.packed, w.trainer)
    counted = steps.optimizer_steps(rows, batch, w.gpus, accumulation, w.max_steps_per_epoch, w.trainer)
    step = planned_step(w, batch, accumulation)
    posterior = calibration.speed(w.gpu, w.lengths, w.dataset, w.trainer, w.trainer_version)
    log_step_s, sigma = posterior.log_step_s(step)
    step_s = intervals.from_median(math.exp(log_step_s), sigma)
    overheads, memory = calibration.overheads(w.gpu, w.trainer), calibration.memory(w)
    parts = time_parts(w, overheads, counted, step, step_s, posterior.constants(w.gpu))
    longest = steps.longest_sequence(w.lengths, w.max_seq_len, w.packed)
    least = needed(w, calibration, batch, accumulation)
    held = peak(w, calibration, batch, accumulation, least)
    odd, n_started = (*memory.odd, *overheads.odd), overheads.startup.n
    said = evidence.of(w, step, posterior, odd, calibration.silent, n_started)
    bounds = got_through.described(w, memory.samples, (batch, accumulation))
    bounds = (*process.set_by_validation(w, memory, (batch, accumulation)), *bounds)
    notes = (*process.held_in_vain(held, least), *_of_logs(w, calibration, batch, accumulation), *bounds, *inexact)
    return Sizing(
        batch_size=batch,
        gradient_accumulation_steps=accumulation,
        largest_batch_size=largest,
        steps_per_epoch=counted.per_epoch,
        steps_total=counted.total(w.epochs),
        allocated_gib=allocated_gib(w, calibration, batch, longest, accumulation),
        peak_memory_gib=held,
        needed_memory_gib=least,
        it_per_s=1 / step_s.p50,
        tokens_per_s=batch * accumulation * w.gpus * mean_tokens(w, step) / step_s.p50,
        time_s=intervals.total(list(parts.values())),
        source="priors" if posterior.used else "physics",
        n_priors=posterior.n_logs,
        extrapolated=said.extrapolated,
        evidence=(*said.lines, *notes),
        parts_s={name: part.p50 for name, part in parts.items()},
    )


def _of_logs(w: Workload, calibration: Calibration, batch: int, accumulation: int) -> list[str]:
    """What logs say beside speed: batches that ran out, host memory; and how many were not looked at."""
    out, host = calibration.ran_out(w, accumulation), calibration.host_memory_gib(w)[1]
    said = [described(out, batch)] if out is not None else []
    said += [host] if host else []
    return said + ([repeats_left_out(calibration.repeated)] if calibration.repeated else [])


def allocated_gib(w: Workload, calibration: Calibration, batch: int, tokens: int, accumulation: int) -> float:
    """Peak of torch's allocated memory on one GPU, in GiB: the closed form, corrected by what logs measured."""
    return sum(process.allocated_parts_gib(w, calibration.memory(w), (batch, tokens, accumulation)))


def peak(
    w: Workload, calibration: Calibration, batch: int, accumulation: int, least: Interval | None = None
) -> Interval:
    """Peak of the process's GPU memory as nvidia-smi sees it, in GiB; `least` is what `needed` says, where known."""
    learnt, out = calibration.memory(w), calibration.ran_out(w, accumulation)
    return process.peak(w, learnt, (batch, accumulation), out, least)


def needed(w: Workload, calibration: Calibration, batch: int, accumulation: int) -> Interval:
    """The smallest GPU memory with which the longest batch gets through, in GiB."""
    learnt, out = calibration.memory(w), calibration.ran_out(w, accumulation)
    return process.needed(w, learnt, (batch, accumulation), out)


def needed_p95(calibration: Calibration, w: Workload, batch: int, accumulation: int) -> float:
    """The p95 of `needed`, in GiB: what is held against a GPU."""
    return needed(w, calibration, batch, accumulation).p95


def largest_batch(w: Workload, calibration: Calibration) -> int:
    """The largest batch whose p95 of the needed memory fits the GPU; 0 when not even one sequence does.

    Where accumulation is still open, gradients count as accumulated: any smaller batch will need it.
    """
    limit = w.gpu.memory_gib * w.utilization
    open_choice = w.batch_size is None and w.effective_batch_size > w.gpus
    accumulation = w.gradient_accumulation_steps or (2 if open_choice else 1)

    def fits(batch: int) -> bool:
        return needed(w, calibration, batch, accumulation).p95 <= limit

    if not fits(1):
        return 0
    low, high = 1, 2
    while high <= 2**16 and fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def choose_batch(w: Workload, largest: int) -> tuple[int, int, tuple[str, ...]]:
    """(batch, accumulation, what to say about it) from what the user set and the largest batch that fits."""
    per_gpu = max(1, w.effective_batch_size // w.gpus)
    if w.batch_size is not None:
        return w.batch_size, w.gradient_accumulation_steps or 1, ()
    if w.gradient_accumulation_steps is not None:
        batch = max(1, per_gpu // w.gradient_accumulation_steps)
        return batch, w.gradient_accumulation_steps, _inexact(w, batch, w.gradient_accumulation_steps)
    batch = 1
    while 2 * batch <= largest and per_gpu % (2 * batch) == 0:
        batch *= 2
    accumulation = per_gpu // batch
    return batch, accumulation, _inexact(w, batch, accumulation)


def _inexact(w: Workload, batch: int, accumulation: int) -> tuple[str, ...]:
    """What to say where the effective batch is not reached exactly."""
    reached = batch * accumulation * w.gpus
    if reached == w.effective_batch_size:
        return ()
    return (f"effective batch is {reached} ({batch} x {accumulation} x {w.gpus} GPUs), not {w.effective_batch_size}",)
