"""Batches that are known to have run out of GPU memory: each bounds from below what runs like it need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from runplan.estimate.logs.settings import adapter_of, checkpointing_of, least_gpu, match_model
from runplan.estimate.memory.tried import Tried
from runplan.estimate.workload import Gpu, Interval, Workload
from runplan.facts import Architecture
from runplan.priors.record import PriorRun

ABOVE = 1.05
"""A run that lacked memory was refused one more block: p95 of its need is at least so many times the GPU's memory."""


def batches_that_ran_out(
    priors: Iterable[PriorRun], models: Mapping[str, Architecture], gpus: Mapping[str, Gpu]
) -> tuple[Tried, ...]:
    """Every batch that a log says to have run out: those of earlier attempts, and its own where it ended so."""
    found: list[Tried] = []
    for run in priors:
        attempts = _attempts(run)
        gpu = least_gpu(run.gpu, gpus) if attempts else None
        matched = match_model(run, models) if attempts else None
        if gpu is None or matched is None:
            continue
        effective = (run.batch_size or 1) * (run.gradient_accumulation_steps or 1)
        adapter, usual = adapter_of(run), checkpointing_of(run, matched[0])
        found += [
            Tried(run, matched[0], adapter, gpu, batch, effective > batch, usual if said is None else said)
            for batch, said in attempts
        ]
    return tuple(found)


def _attempts(run: PriorRun) -> list[tuple[int, bool | None]]:
    """Batch, and activation checkpointing as it was (None: not said), of every attempt that ran out.

    Where the last attempt got through with a batch that had run out, something made room: recomputing activations, as
    the last of our own rungs does, or else what no log says; then only larger batches are known to be too large.
    """
    said = run.activation_checkpointing
    own = [(run.batch_size, said)] if run.state == "oom" and run.batch_size else []
    batches = sorted(set(run.oom_batch_sizes))
    if run.batch_size not in batches:
        return [*((batch, said) for batch in batches), *own]
    if said:
        return [*((batch, False) for batch in batches), *own]
    return [*((batch, said) for batch in batches if own or batch > (run.batch_size or 0)), *own]


def least(w: Workload, accumulation: int, known: Iterable[Tried]) -> Tried | None:
    """The smallest batch that ran out with settings that need no more memory than the workload's; None without one."""
    alike = [one for one in known if one.needs_no_more(w, accumulation)]
    return min(alike, key=lambda one: (one.batch, one.run.path), default=None)


def bounded(peak: Interval, batch: int, one: Tried | None) -> Interval:
    """A peak that is known not to fit: at least the GPU's memory, however little the formulas say."""
    if one is None or batch < one.batch:
        return peak
    full = one.gpu.memory_gib
    return Interval(max(peak.p50, full), max(peak.p95, ABOVE * full))


def described(one: Tried, batch: int) -> str:
    """The line of evidence about it."""
    chosen = f"batch {batch} is below that" if batch < one.batch else f"batch {batch} is expected to do so, too"
    return f"{one.run.path}: batch {one.batch} ran out of memory on {one.gpu.name}; {chosen}"
