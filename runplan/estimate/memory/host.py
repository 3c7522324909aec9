"""Host memory of a training job."""

from __future__ import annotations

from dataclasses import replace

from runplan.estimate.memory.weights import weight_bytes
from runplan.estimate.workload import TRL, Adapter
from runplan.facts import Architecture
from runplan.units import GIB

COPIES_MERGED, COPIES_ADAPTERS = 2.2, 1.2
"""Copies of the weights on the host where merged ones are saved, and where adapters alone are; a fifth to spare."""
PYTHON_GIB, CUDA_GIB = 6.0, 4.0
"""Python with torch, once a job; the CUDA libraries that a process loads, once a GPU (with room: a guess)."""


def host_memory_gib(
    architecture: Architecture,
    adapter: Adapter,
    dtype: str,
    save_adapter_only: bool,
    gpus: int = 1,
    trainer: str = "torchtune",
) -> float:
    """Host memory a training job needs (`--mem`), in GiB.

    Loading holds the checkpoint beside the model; saving merged weights copies the model to the host and builds the
    merged state dict beside it (`save_checkpoint`), so two copies of the weights; adapters alone need one for loading.
    Weights in 4 bits are whole here. The rest is Python with torch and its loaded CUDA libraries, once a GPU. Every
    process of TRL loads the whole model.
    """
    weights = weight_bytes(architecture, replace(adapter, quantize_base=False), dtype) / GIB
    weights *= gpus if trainer == TRL else 1
    copies = COPIES_ADAPTERS if save_adapter_only else COPIES_MERGED
    return copies * weights + PYTHON_GIB + CUDA_GIB * gpus
