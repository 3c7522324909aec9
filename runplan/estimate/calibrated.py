"""Batch, memory, speed and time of a run from physics, calibrated by the user's own logs (`estimator=calibrated`)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from runplan.estimate import evidence, intervals, overheads, process, steps
from runplan.estimate.chips import Constants
from runplan.estimate.crowded import Crowded, crowded, described, least
from runplan.estimate.host_logs import HostSeen, formula_gib, host_seen, most_host_memory
from runplan.estimate.observation import Observation, heard_by, observe, same_dataset
from runplan.estimate.posterior import Posterior, fit
from runplan.estimate.repeats import newest_alike, repeats_left_out
from runplan.estimate.sound import all_sound
from runplan.estimate.speed import TRL, Task, micro_batch_s, step_s
from runplan.estimate.tasks import make_task, mean_tokens
from runplan.estimate.variants import placed
from runplan.estimate.workload import Gpu, Interval, Sizing, Workload
from runplan.facts import Architecture, Lengths
from runplan.priors.record import PriorRun


@dataclass(frozen=True)
class Calibration:
    """What the logs taught, ready to be asked."""

    priors: tuple[PriorRun, ...]
    gpus: Mapping[str, Gpu]
    models: Mapping[str, Architecture]
    repeated: int = 0
    """Logs that repeat newer ones and are not looked at."""
    _fits: dict[object, Posterior] = field(default_factory=dict, repr=False, compare=False)
    _overheads: dict[tuple[bool, bool], overheads.Overheads] = field(default_factory=dict, repr=False, compare=False)

    def overheads(self, gpu: Gpu, trainer: str = "torchtune") -> overheads.Overheads:
        """Start-up, first step, checkpoints and allocator, from the logs of GPUs, or from those of processors.

        Those of TRL count for TRL alone, and no others do.
        """
        key = (_is_gpu(gpu), trainer == TRL)
        found = self._overheads.get(key)
        if found is None:
            alike = [run for run in self.priors if (run.trainer == TRL) == key[1]]
            runs = [run for run in alike if (run.gpu or "").startswith("cpu") != key[0]]
            seen = [item for item in self._seen if (item.run.trainer == TRL, _is_gpu(item.task.gpu)) == key[::-1]]
            crowds = [one for one in self._crowded if (one.run.trainer == TRL) == key[1]] if key[0] else ()
            found = self._overheads[key] = overheads.learn_overheads(runs, seen, self.models, self.gpus, crowds)
        return found

    def speed(
        self, gpu: Gpu, lengths: Lengths, dataset: str = "", trainer: str = "torchtune", version: str = ""
    ) -> Posterior:
        """What the logs say about step times on a GPU type; logs of other trainers say less.

        Logs that do not tell how long their batches are, are taken to have `lengths`: those of `dataset` nearly for
        sure, others perhaps.
        """
        key = (gpu, (lengths, dataset) if self._guesses else None, trainer, version)
        found = self._fits.get(key)
        if found is None:
            alike = [item for item in self._seen if not item.gpu_known or _is_gpu(item.task.gpu) == _is_gpu(gpu)]
            alike = [heard_by(item, trainer, version) for item in alike]
            seen = [self._with_lengths(item, gpu, lengths, dataset) for item in alike]
            found = self._fits[key] = fit([item for item in seen if item is not None], gpu)
        return found

    def ran_out(self, w: Workload, accumulation: int) -> Crowded | None:
        """The smallest batch that a log says to have run out of memory where the workload needs as much or more."""
        return least(w, accumulation, self._crowded) if self._crowded else None

    def host_memory_gib(self, w: Workload) -> tuple[float, str]:
        """Host memory a training job needs (`--mem`), in GiB; and which log says that it is more than reckoned."""
        formula = formula_gib(w)
        seen = most_host_memory(w, self._host_seen)
        return (formula, "") if seen is None or seen.needed_gib <= formula else (seen.needed_gib, seen.described())

    @cached_property
    def _host_seen(self) -> tuple[HostSeen, ...]:
        return host_seen(self.priors, self.models)

    @cached_property
    def _crowded(self) -> tuple[Crowded, ...]:
        return crowded(self.priors, self.models, self.gpus)

    @cached_property
    def _guesses(self) -> bool:
        """Whether any log leaves its rows' lengths open, or tells them but roughly."""
        return any(not item.tokens_known or item.tokens_sigma for item in self._seen)

    @cached_property
    def _seen(self) -> tuple[Observation, ...]:
        """All logs that measure speed; the GPU of those that name none is still open."""
        return tuple(item for item in self._observed if isinstance(item, Observation))

    @cached_property
    def silent(self) -> Counter[str]:
        """Why logs say nothing about speed, and how many."""
        return Counter(item for item in self._observed if isinstance(item, str))

    @cached_property
    def _observed(self) -> tuple[Observation | str, ...]:
        return tuple(observe(run, self.models, self.gpus, _NO_GPU) for run in self.priors)

    def _with_lengths(self, seen: Observation, gpu: Gpu, lengths: Lengths, dataset: str) -> Observation | None:
        if not seen.gpu_known:
            seen = placed(seen, gpu, self.gpus)
        certain = seen.tokens_known and not seen.tokens_sigma
        named = same_dataset(seen.run, dataset)
        if certain or (seen.tokens_known and not (named and lengths.rows)):
            return seen
        if not lengths.rows:
            return None
        cut = lengths.cut(seen.run.max_seq_len) if seen.run.max_seq_len else lengths
        tokens = steps.padded_length(cut, seen.task.batch * (1 if seen.task.trainer == TRL else seen.task.gpus))
        return evidence.confirmed(seen, tokens) if seen.tokens_known else evidence.guessed(seen, tokens, dataset)


def _is_gpu(gpu: Gpu) -> bool:
    """Whether it is a GPU at all: what a processor needs for a step says nothing about one, nor the other way round."""
    return gpu.name != "cpu"


_NO_GPU = Gpu("unknown", 80.0, 2000.0, 300.0, 20.0)


def calibrate(priors: Sequence[PriorRun], gpus: Mapping[str, Gpu], models: Mapping[str, Architecture]) -> Calibration:
    """What the logs teach; cheap, the work is done when a GPU type is first asked about.

    Args:
        priors: earlier runs; those of unknown models or without a speed teach nothing and are left out.
        gpus: GPU types by the names logs use.
        models: architectures by the names logs use.
    """
    kept = newest_alike(priors)
    return Calibration(all_sound(kept), dict(gpus), dict(models), len(priors) - len(kept))


def size(workload: Workload, calibration: Calibration) -> Sizing:
    """Batch, memory, speed and time of a run. Always answers: batch 1 even where it does not fit.

    The batch is the largest power of two, at most the effective batch, whose p95 of the memory needed for the longest
    batch fits; accumulation fills the effective batch exactly. A user's batch alone means accumulation 1.
    """
    w = workload
    largest = largest_batch(w, calibration)
    batch, accumulation, notes = choose_batch(w, largest)
    rows = steps.sequences(w.lengths, w.max_seq_len, w.packed, w.trainer)
    counted = steps.optimizer_steps(rows, batch, w.gpus, accumulation, w.max_steps_per_epoch, w.trainer)
    posterior = calibration.speed(w.gpu, w.lengths, w.dataset, w.trainer, w.trainer_version)
    task = make_task(w, batch, accumulation)
    log_step, spread = posterior.log_step_s(task)
    step = math.exp(log_step)
    times = _times(w, calibration, counted, task, Interval(step, step * math.exp(intervals.Z95 * spread)), posterior)
    longest = steps.longest_sequence(w.lengths, w.max_seq_len, w.packed)
    learnt = calibration.overheads(w.gpu, w.trainer)
    said = evidence.of(w, task, posterior, learnt.odd, calibration.silent, learnt.startup.n)
    least = needed(w, calibration, batch, accumulation)
    held = peak(w, calibration, batch, accumulation, least)
    notes = (*process.held_in_vain(held, least), *_of_logs(w, calibration, batch, accumulation), *notes)
    return Sizing(
        batch_size=batch,
        gradient_accumulation_steps=accumulation,
        largest_batch_size=largest,
        steps_per_epoch=counted.per_epoch,
        steps_total=counted.total(w.epochs),
        allocated_gib=allocated_gib(w, calibration, batch, longest, accumulation),
        peak_memory_gib=held,
        needed_memory_gib=least,
        it_per_s=1 / step,
        tokens_per_s=batch * accumulation * w.gpus * mean_tokens(w, task) / step,
        time_s=intervals.total(list(times.values())),
        source="priors" if posterior.used else "physics",
        n_priors=posterior.n_logs,
        extrapolated=said.extrapolated,
        evidence=(*said.lines, *notes),
        parts_s={name: part.p50 for name, part in times.items()},
    )


def _of_logs(w: Workload, calibration: Calibration, batch: int, accumulation: int) -> list[str]:
    """What logs say beside speed: batches that ran out, host memory; and how many were not looked at."""
    out, host = calibration.ran_out(w, accumulation), calibration.host_memory_gib(w)[1]
    said = [described(out, batch)] if out is not None else []
    said += [host] if host else []
    return said + ([repeats_left_out(calibration.repeated)] if calibration.repeated else [])


def allocated_gib(w: Workload, calibration: Calibration, batch: int, tokens: int, accumulation: int) -> float:
    """Peak of torch's allocated memory on one GPU, in GiB: the closed form, corrected by what logs measured."""
    return sum(process.allocated_parts_gib(w, calibration.overheads(w.gpu, w.trainer), (batch, tokens, accumulation)))


def peak(
    w: Workload, calibration: Calibration, batch: int, accumulation: int, least: Interval | None = None
) -> Interval:
    """Peak of the process's GPU memory as nvidia-smi sees it, in GiB; `least` is what `needed` says, where known."""
    learnt, out = calibration.overheads(w.gpu, w.trainer), calibration.ran_out(w, accumulation)
    return process.peak(w, learnt, (batch, accumulation), out, least)


def needed(w: Workload, calibration: Calibration, batch: int, accumulation: int) -> Interval:
    """The smallest GPU memory with which the longest batch gets through, in GiB."""
    learnt, out = calibration.overheads(w.gpu, w.trainer), calibration.ran_out(w, accumulation)
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
    reached = batch * accumulation * w.gpus
    if reached == w.effective_batch_size:
        return ()
    return (f"effective batch is {reached} ({batch} x {accumulation} x {w.gpus} GPUs), not {w.effective_batch_size}",)


def _times(
    w: Workload, calibration: Calibration, counted: steps.Steps, task: Task, step: Interval, posterior: Posterior
) -> dict[str, Interval]:
    """Where the time goes, each part with its own error."""
    learnt = calibration.overheads(w.gpu, w.trainer)
    constants = posterior.constants(w.gpu)
    ratio = step.p50 / step_s(task, constants)
    left_over = counted.batches_per_epoch - counted.per_epoch * task.accumulation
    batches_s = left_over * micro_batch_s(task, constants) * ratio
    training = w.epochs * (counted.per_epoch * step.p50 + batches_s)
    validation = w.epochs * _validation_s(w, task, constants, counted.per_epoch) * ratio
    wide = step.p95 / step.p50
    rows = w.lengths.rows if w.packed or w.trainer == TRL else 0
    kind = overheads.first_step_kind(w.packed, w.compile, w.gpu.name)
    save = overheads.checkpoint_parts_s(w.architecture, w.adapter, w.dtype, w.save_adapter_weights_only)
    return {
        "startup": learnt.startup.of(*overheads.startup_parts_s(w.architecture, w.dtype, w.gpu.name, rows, w.trainer)),
        "first_step": learnt.first_step[kind].of(overheads.FIRST_STEP_S[kind]),
        "steps": Interval(training, training * wide),
        "validation": Interval(validation, validation * wide),
        "checkpoints": intervals.times(learnt.checkpoint.of(*save), w.epochs),
    }


def _validation_s(w: Workload, task: Task, constants: Constants, per_epoch: int) -> float:
    """Seconds of validation in one epoch: forward passes over all validation rows, every so many steps."""
    if w.validation_lengths is None or not w.validation_lengths.rows or not per_epoch:
        return 0.0
    every = w.run_val_every_n_steps or steps.validation_interval(per_epoch)
    batches = math.ceil(w.validation_lengths.rows / w.gpus / task.batch)
    rows = task.batch * (1 if w.trainer == TRL else w.gpus)
    tokens = steps.padded_length(w.validation_lengths.cut(w.max_seq_len), rows)
    looked = replace(task, packed=False, tokens=tokens, span=tokens / 2)
    return per_epoch // every * batches * micro_batch_s(looked, constants, forward_only=True)
