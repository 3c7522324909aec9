"""One batch that an earlier run tried, comparable with what is planned: does it need less memory, or more?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from runplan.estimate.logs.settings import adapter_of, checkpointing_of, find_gpu, match_model, same_dataset
from runplan.estimate.memory import closed_form, torchtune_step
from runplan.estimate.memory.footprint import Footprint
from runplan.estimate.memory.weights import ELEMENT_BYTES
from runplan.estimate.workload import LOSS_CHUNKS, Adapter, Gpu, Workload
from runplan.facts import Architecture
from runplan.priors.record import PriorRun
from runplan.units import GIB

SAME_MEMORY = 0.98
"""GPUs of one size differ by less than the rest of this in what drivers leave of it (A100 79.15, H100 79.10 GiB)."""


class Tried(NamedTuple):
    """One batch with which a run trained, or ran out of GPU memory."""

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
        parts = self.footprint() if run.packed and not run.compile else None
        if parts is None or not run.max_seq_len:
            return None
        return parts.fixed / GIB, (parts.peak_bytes(self.batch, run.max_seq_len) - parts.fixed) / GIB

    def footprint(self) -> Footprint | None:
        """Memory of its steps by the formulas of its trainer; None of a number format that no formula knows."""
        run, dtype = self.run, self.run.dtype or "bf16"
        if dtype not in ELEMENT_BYTES:
            return None
        mode = (self.checkpointing, bool(run.packed), self.accumulated, bool(run.compile))
        form = closed_form.form_of(run.trainer)
        return form(self.architecture, self.adapter, dtype, mode, LOSS_CHUNKS, run.num_gpus or 1, self.gpu.name)

    def needs_no_more(self, w: Workload, accumulation: int) -> bool:
        """Whether its settings, the batch apart, need no more memory than a workload's."""
        run, adapter = self.run, self.adapter
        return (
            self._as_planned(w)
            and is_no_larger(self.architecture, w.architecture)
            and is_no_smaller(self.gpu, w.gpu)
            and (run.num_gpus or 1) >= w.gpus
            and self.checkpointing >= w.activation_checkpointing
            and not w.activation_offloading
            and _holds_no_more(adapter.quantize_base, w)
            and adapter.rank <= w.adapter.rank
            and set(adapter.attn_modules) <= set(w.adapter.attn_modules)
            and adapter.apply_to_mlp <= w.adapter.apply_to_mlp
            and (accumulation > 1 or not self.accumulated)
            and _no_longer(run, w)
        )

    def needs_no_less(self, w: Workload, accumulation: int) -> bool:
        """Whether its settings, the batch apart, need at least as much memory as a workload's."""
        run, adapter = self.run, self.adapter
        return (
            self._as_planned(w)
            and self.architecture == w.architecture
            and self.gpu.name == w.gpu.name
            and (run.num_gpus or 1) == w.gpus
            and self.checkpointing <= w.activation_checkpointing
            and adapter.quantize_base == w.adapter.quantize_base
            and adapter.rank >= w.adapter.rank
            and set(adapter.attn_modules) >= set(w.adapter.attn_modules)
            and adapter.apply_to_mlp >= w.adapter.apply_to_mlp
            and not (w.adapter.use_dora or w.adapter.apply_to_output or w.adapter.dropout)
            and (accumulation == 1 or self.accumulated)
            and _no_shorter(run, w)
        )

    def _as_planned(self, w: Workload) -> bool:
        run = self.run
        return (
            (run.trainer or "torchtune") == w.trainer
            and (run.dtype or "bf16") == w.dtype
            and bool(run.compile) == w.compile
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


def _no_shorter(run: PriorRun, w: Workload) -> bool:
    """Whether a log certainly saw sequences as long as the workload's longest: packs, or every row of the same file."""
    if bool(run.packed) != w.packed or not run.max_seq_len:
        return False
    if w.packed:
        return run.max_seq_len >= w.max_seq_len
    rows = (run.steps_done or 0) * (run.batch_size or 1) * (run.gradient_accumulation_steps or 1) * (run.num_gpus or 1)
    whole = 0 < w.lengths.rows <= rows
    return whole and same_dataset(run, w.dataset) and run.max_seq_len >= min(w.max_seq_len, w.lengths.longest)


def is_no_smaller(gpu: Gpu, other: Gpu) -> bool:
    """Whether what does not fit a GPU does not fit the other either: it has no more memory, and needs no more."""
    masked, other_masked = (one.name.startswith(torchtune_step.NO_FLEX_ATTENTION) for one in (gpu, other))
    return gpu.memory_gib >= SAME_MEMORY * other.memory_gib and masked <= other_masked


def is_no_larger(a: Architecture, other: Architecture) -> bool:
    """Whether a model is the other, or of its family and smaller in all that its memory grows with."""
    return a == other or (
        a.family == other.family and all(mine <= theirs for mine, theirs in zip(_sizes(a), _sizes(other), strict=True))
    )


def _sizes(a: Architecture) -> tuple[float, ...]:
    return a.params, a.num_hidden_layers, a.hidden_size, a.intermediate_size, a.query_size, a.vocab_size


def tried_of(run: PriorRun, models: Mapping[str, Architecture], gpus: Mapping[str, Gpu]) -> Tried | None:
    """The run's last batch; None of a GPU or model that is not known for sure."""
    gpu, matched = find_gpu(run.gpu, gpus), match_model(run, models)
    if gpu is None or gpu.name == "cpu" or matched is None or not matched[1] or not run.batch_size:
        return None
    accumulated = (run.gradient_accumulation_steps or 1) > 1
    return Tried(run, matched[0], adapter_of(run), gpu, run.batch_size, accumulated, checkpointing_of(run, matched[0]))
