"""What torch's allocator holds beyond what a run allocates: blocks freed in other sizes than are asked for."""

from __future__ import annotations

from runplan.estimate import memory
from runplan.estimate.observation import adapter_of
from runplan.estimate.workload import Workload
from runplan.facts import Architecture
from runplan.priors.record import PriorRun
from runplan.units import GIB

ROUNDED_UP = 0.01
"""What it holds more of weights and optimizer: 2.37 of 2.35, 6.27 of 6.21, 15.18 of 15.06 GiB after init in logs."""
_EVEN, _EVEN_SHARDED = 0.17, 0.30
"""Of the memory that comes and goes, with shapes that do not change.

One GPU: 0.15 (40 runs of LoRA and QLoRA on T4, fitcheck, whose reserved memory is 1.06 and 1.13 times the allocated
one: the loss follows what is freed, not the whole), 0.20 (torchtune on MI355X), 0.33 (fms-acceleration on A100);
sharded 0.27 and 0.35 to 0.55."""
_UNEVEN, _UNEVEN_SHARDED = 1.4, 2.6
"""In units of the longest batch's logits, where lengths differ: they are the largest blocks, every length asks for
blocks of its own, and none is given back before the GPU is full. milabench's runs of torchtune, before the GPU was
full: 1.0 to 2.0 on one H100, H200 or L40S from batches of 4 on; 2.0 to 3.4 on four and eight of them, 8B and 70B."""
_KEPT_WHEN_FULL = 0.25
"""Of the memory that comes and goes, where lengths differ and no memory is left: torch gives back what lies idle and
tries again; what it cannot give back is a guess (at most 0.26 in 30 steps that filled an L40S)."""
SPREAD, NOISE = 0.45, 0.35
"""Standard deviations of the loss's logarithm: between machines and versions; between shapes on one machine (0.4 on
T4)."""
_FREED_GIB = 0.3
"""Of less, reserved memory says nothing: it comes in blocks of 2 to 20 MiB."""


def lost_of_even(gpus: int) -> float:
    """The part of what comes and goes that is lost where shapes do not change, before any log."""
    return _EVEN if gpus == 1 else _EVEN_SHARDED


def usually_lost_gib(w: Workload, batch: int, tokens: int, freed: float, *, full: bool = False) -> float:
    """What the allocator loses before any log, in GiB: more where lengths differ more.

    Args:
        w: what is trained.
        batch: sequences the GPU processes at once.
        tokens: length of the longest.
        freed: GiB that every step allocates and frees.
        full: on a GPU that has no memory left, so that the allocator keeps only what it must.
    """
    even = lost_of_even(w.gpus) * freed
    if w.packed or not w.lengths.rows:
        return even
    logits = memory.head_bytes(w.architecture, w.dtype, w.loss_chunks, w.compile)[0] * batch * tokens / GIB
    most = _KEPT_WHEN_FULL * freed if full else logits * (_UNEVEN if w.gpus == 1 else _UNEVEN_SHARDED)
    uneven = min(1.0, max(0.0, w.lengths.longest / max(1.0, w.lengths.mean) - 1.0))
    return even + max(0.0, most - even) * uneven


def lost_over_usual(run: PriorRun, a: Architecture, dtype: str) -> float:
    """How many times what is usual the allocator lost in a logged run; 0 when the log does not tell."""
    block = run.peak_memory_gib
    held = (block.allocated or block.active) if block else None
    if block is None or not block.reserved or not held or not 1.0 <= block.reserved / held < 2.5:
        return 0.0
    gpus = run.num_gpus or 1
    modes = (bool(run.activation_checkpointing), bool(run.packed), (run.gradient_accumulation_steps or 1) > 1, False)
    parts = memory.footprint(a, adapter_of(run), dtype, modes, 8, gpus, run.gpu or "")
    stays = parts.fixed / GIB
    freed = held - stays
    if freed < _FREED_GIB:
        return 0.0
    usual = lost_of_even(gpus) * freed
    if not run.packed:
        logits = memory.head_bytes(a, dtype, 8, bool(run.compile))[0] / max(per for _, per in parts.moments)
        usual = max(usual, freed * logits * (_UNEVEN if gpus == 1 else _UNEVEN_SHARDED))
    return max(0.01 * freed, block.reserved - held - ROUNDED_UP * stays) / usual
