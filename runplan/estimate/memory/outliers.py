"""Peaks of GPU memory that cannot be right: more than the GPU has, less than the weights."""

from __future__ import annotations

from runplan.estimate.logs.settings import adapter_of, dtype_of, peak_in_use_gib
from runplan.estimate.memory.weights import weight_bytes
from runplan.estimate.workload import TRL
from runplan.facts import Architecture
from runplan.priors.record import PriorRun
from runplan.units import GIB

LEAST_WEIGHTS, LEAST_RESERVED, MOST_MEMORY = 0.97, 0.99, 1.02
"""Of what must be there at least or at most; digits are rounded."""


def weights_gib(run: PriorRun, model: Architecture) -> float:
    """GiB of weights that every GPU of a logged run held; TRL's hold the whole model each."""
    sharing = 1 if run.trainer == TRL else run.num_gpus or 1
    return weight_bytes(model, adapter_of(run), dtype_of(run)) / sharing / GIB


def odd_memory(run: PriorRun, weights: float, memory_gib: float | None) -> str:
    """Why a log's peak of GPU memory cannot be right; empty where nothing speaks against it.

    Args:
        run: the log.
        weights: GiB of weights that every GPU held (`weights_gib`); 0 where the model is not known for sure.
        memory_gib: of its GPU type; None where that is not known.
    """
    block, held = run.peak_memory_gib, peak_in_use_gib(run)
    if block is None or not held:
        return ""
    if held < LEAST_WEIGHTS * weights:
        return f"{held:.2f} GiB at the peak, less than the {weights:.2f} GiB of the weights alone"
    if block.reserved and block.reserved < LEAST_RESERVED * held:
        return f"{block.reserved:.2f} GiB reserved, less than the {held:.2f} GiB in use"
    if memory_gib and held > MOST_MEMORY * memory_gib:
        return f"{held:.2f} GiB at the peak, more than the {memory_gib:.2f} GiB of a {run.gpu}"
    return ""
