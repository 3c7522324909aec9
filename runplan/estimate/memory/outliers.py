"""Peaks of GPU memory that cannot be right: more than the GPU has, less than the weights."""

from __future__ import annotations

from runplan.priors.record import PriorRun

LEAST_WEIGHTS, LEAST_RESERVED, MOST_MEMORY = 0.97, 0.99, 1.02
"""Of what must be there at least or at most; digits are rounded."""


def odd_memory(run: PriorRun, weights_gib: float, memory_gib: float | None) -> str:
    """Why a log's peak of GPU memory cannot be right; empty where nothing speaks against it.

    Args:
        run: the log.
        weights_gib: base weights that every GPU holds.
        memory_gib: of its GPU type, where that is known.
    """
    block = run.peak_memory_gib
    held = (block.allocated or block.active) if block else None
    if block is None or not held:
        return ""
    if held < LEAST_WEIGHTS * weights_gib:
        return f"{held:.2f} GiB at the peak, less than the {weights_gib:.2f} GiB of the weights alone"
    if block.reserved and block.reserved < LEAST_RESERVED * held:
        return f"{block.reserved:.2f} GiB reserved, less than the {held:.2f} GiB in use"
    if memory_gib and held > MOST_MEMORY * memory_gib:
        return f"{held:.2f} GiB at the peak, more than the {memory_gib:.2f} GiB of a {run.gpu}"
    return ""
