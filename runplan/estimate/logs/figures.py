"""Figures of logs that do not count: those that measure nothing (not finite, not positive, too long), and odd ones."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

from runplan.priors.record import MemoryGib, PriorRun

LONGEST_S = 90 * 86400.0
"""No job of a cluster lasts longer."""
LONGEST_STEP_S = 86400.0
"""An optimizer step of a day is a clock that jumped, or a job that slept."""
_TIMES = ("startup_s", "first_step_s", "wall_s", "loading_s")
_AMOUNTS = (
    "params_b",
    "it_per_s",
    "tokens_per_s",
    "trained_tokens_per_s",
    "process_peak_gib",
    "max_rss_gib",
    "asked_mem_gib",
)
_COUNTS = (
    "batch_size",
    "gradient_accumulation_steps",
    "max_seq_len",
    "lora_rank",
    "steps_done",
    "steps_total",
    "epochs",
)
_BLOCKS = ("peak_memory_gib", "init_memory_gib")


def cleaned(run: PriorRun) -> PriorRun:
    """The same log without figures that measure nothing; the very same one where all do."""
    changed: dict[str, object] = {}
    limits = dict.fromkeys(_TIMES, LONGEST_S) | dict.fromkeys((*_AMOUNTS, *_COUNTS), math.inf)
    for name, most in (limits | {"s_per_step": LONGEST_STEP_S}).items():
        value = getattr(run, name)
        if value is not None and not _measures(value, most):
            changed[name] = None
    for name in _BLOCKS:
        block: MemoryGib | None = getattr(run, name)
        if block is not None and (finite := _block(block)) != block:
            changed[name] = finite
    saves = tuple(value for value in run.checkpoint_s if _measures(value, LONGEST_S))
    batches = tuple(batch for batch in run.oom_batch_sizes if batch > 0)
    if len(saves) < len(run.checkpoint_s):
        changed["checkpoint_s"] = saves
    if len(batches) < len(run.oom_batch_sizes):
        changed["oom_batch_sizes"] = batches
    return dataclasses.replace(run, **changed) if changed else run  # type: ignore[arg-type] # names of its fields


def _measures(value: float, most: float) -> bool:
    return 0 < value < most


def _block(block: MemoryGib) -> MemoryGib:
    kinds = (block.allocated, block.active, block.reserved)
    return MemoryGib(*(value if value is not None and _measures(value, math.inf) else None for value in kinds))


class Odd(NamedTuple):
    """A figure that does not count, and why."""

    path: str
    what: str
    """memory, start-up, first step, checkpoint."""
    why: str
