"""Batches that are known to have run out of GPU memory: each bounds from below what runs like it need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from runplan.estimate import memory
from runplan.estimate.observation import adapter_of, default_checkpointing, match_model, same_dataset
from runplan.estimate.speed import TRL
from runplan.estimate.variants import is_no_larger, is_no_smaller, least_gpu
from runplan.estimate.workload import Adapter, Gpu, Interval, Workload
from runplan.facts import Architecture
from runplan.priors.record import PriorRun
from runplan.units import GIB

ABOVE = 1.05
"""A run that lacked memory was refused one more block: p95 of its need is at least so many times the GPU's memory."""


class Crowded(NamedTuple):
    """One batch with which a run ran out of GPU memory."""

    run: PriorRun
    architecture: Architecture
    adapter: Adapter
    gpu: Gpu
    batch: int
    accumulated: bool
    """Whether gradients were kept from one batch to the next."""
    checkpointing: bool

    def parts_gib(self) -> tuple[float, float] | None:
        """What stays and what comes and goes at the peak by the formulas, GiB; None where the log leaves it open."""
        run = self.run
        dtype = run.dtype or "bf16"
        if not run.packed or not run.max_seq_len or run.compile or dtype not in memory.ELEMENT_BYTES:
            return None
        mode = (self.checkpointing, True, self.accumulated, False)
        form = memory.footprint_of(run.trainer)
        parts = form(self.architecture, self.adapter, dtype, mode, 8, run.num_gpus or 1, self.gpu.name)
        return parts.fixed / GIB, (parts.peak_bytes(self.batch, run.max_seq_len) - parts.fixed) / GIB


def crowded(
    priors: Iterable[PriorRun], models: Mapping[str, Architecture], gpus: Mapping[str, Gpu]
) -> tuple[Crowded, ...]:
    """Every batch that a log says to have run out: those of earlier attempts, and its own where it ended so."""
    found: list[Crowded] = []
    for run in priors:
        attempts = _attempts(run)
        gpu = least_gpu(run.gpu, gpus) if attempts else None
        matched = match_model(run, models) if attempts else None
        if gpu is None or matched is None:
            continue
        effective = (run.batch_size or 1) * (run.gradient_accumulation_steps or 1)
        adapter, usual = adapter_of(run), run.trainer == TRL or default_checkpointing(matched[0], run.num_gpus or 1)
        found += [
            Crowded(run, matched[0], adapter, gpu, batch, effective > batch, usual if said is None else said)
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


def least(w: Workload, accumulation: int, known: Iterable[Crowded]) -> Crowded | None:
    """The smallest batch that ran out with settings that need no more memory than the workload's; None without one."""
    alike = [one for one in known if _needs_no_more(one, w, accumulation)]
    return min(alike, key=lambda one: (one.batch, one.run.path), default=None)


def _needs_no_more(one: Crowded, w: Workload, accumulation: int) -> bool:
    run, adapter = one.run, one.adapter
    return (
        is_no_larger(one.architecture, w.architecture)
        and (run.trainer or "torchtune") == w.trainer
        and is_no_smaller(one.gpu, w.gpu)
        and (run.num_gpus or 1) >= w.gpus
        and (run.dtype or "bf16") == w.dtype
        and bool(run.compile) == w.compile
        and one.checkpointing >= w.activation_checkpointing
        and not w.activation_offloading
        and _holds_no_more(adapter.quantize_base, w)
        and adapter.rank <= w.adapter.rank
        and set(adapter.attn_modules) <= set(w.adapter.attn_modules)
        and adapter.apply_to_mlp <= w.adapter.apply_to_mlp
        and (accumulation > 1 or not one.accumulated)
        and _no_longer(run, w)
    )


def _holds_no_more(quantised: bool, w: Workload) -> bool:
    """Whether a log's weights took no more room: 4 bits are less, but compiled layers keep them unpacked."""
    return quantised == w.adapter.quantize_base or (quantised and not w.compile)


def _no_longer(run: PriorRun, w: Workload) -> bool:
    """Whether the longest sequence of a log was no longer than the workload's can be."""
    if bool(run.packed) != w.packed:
        return False
    if not w.packed and w.dataset and run.dataset and not same_dataset(run, w.dataset):
        return False
    longest = w.max_seq_len if w.packed else min(w.max_seq_len, w.lengths.longest or w.max_seq_len)
    if not w.packed and same_dataset(run, w.dataset):
        return run.max_seq_len is None or run.max_seq_len <= w.max_seq_len or longest < w.max_seq_len
    return run.max_seq_len is not None and run.max_seq_len <= w.max_seq_len


def bounded(peak: Interval, batch: int, one: Crowded | None) -> Interval:
    """A peak that is known not to fit: at least the GPU's memory, however little the formulas say."""
    if one is None or batch < one.batch:
        return peak
    full = one.gpu.memory_gib
    return Interval(max(peak.p50, full), max(peak.p95, ABOVE * full))


def described(one: Crowded, batch: int) -> str:
    """The line of evidence about it."""
    chosen = f"batch {batch} is below that" if batch < one.batch else f"batch {batch} is expected to do so, too"
    return f"{one.run.path}: batch {one.batch} ran out of memory on {one.gpu.name}; {chosen}"
