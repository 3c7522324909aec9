"""GPU memory of one LoRA training step of torchtune in closed form.

The formulas follow torchtune 0.6.1's recipes line by line (eager mode) and hold within 0.1 % of a simulation of the
real model, loss and optimizer on fake tensors (tests/test_estimate_memory_simulation.py). Widths are multiplied with
bytes, so `2 * d` reads "d numbers of 2 bytes for every token".
"""

from __future__ import annotations

from functools import lru_cache

from runplan.estimate.memory import activations, moments, sharding
from runplan.estimate.memory.footprint import Footprint, ValidationFootprint
from runplan.estimate.memory.weights import ELEMENT_BYTES, adapter_params, weight_bytes
from runplan.estimate.workload import Adapter
from runplan.facts import Architecture

WORKSPACE_MIB = {
    **dict.fromkeys(("h100", "h200", "h20", "gh200", "b200", "b300", "gb200", "rtx5090", "rtx6000pro"), 32.0),
    **dict.fromkeys(("mi300x", "mi325x", "mi355x"), 152.0),
    **dict.fromkeys(("mi210", "mi250x"), 108.0),
}
"""cuBLAS workspace that counts as allocated: `parseChosenWorkspaceSize` in ATen/cuda/CublasHandlePool.cpp has 32 MiB
for Hopper and, in late versions, Blackwell, and 8.125 else. On AMD hipBLASLt has 76 MiB; hipBLAS is taken to have as
much on CDNA 3 and 4 (128 MiB in late versions) and has 32 on CDNA 2."""
WORKSPACE_DEFAULT_MIB = 8.125
_SHARED_ROPE = ("llama3_1", "llama3_2", "llama3_3")
NO_FLEX_ATTENTION = ("cpu", "v100", "p100", "gtx")
"""GPUs below compute capability 7.5: packed rows need a dense mask there (`_SUPPORTS_FLEX_ATTENTION`)."""
_FP32 = 4


def rope_bytes(architecture: Architecture) -> int:
    """Bytes of the RoPE tables: one for all layers in Llama 3.1 and later, one a layer elsewhere.

    torchtune's LoRA builders of Llama 2, Llama 3, Mistral and Qwen2 make a table in every layer; Qwen's holds cos and
    sin twice over (modules `models/*/_component_builders.py`, `models/qwen2/_positional_embeddings.py`). Which builder
    makes a Llama its output head and RoPE's scaling decide, whatever its name (`trainers.builders`).
    """
    a, qwen = architecture, architecture.family.startswith("qwen")
    width = 2 * a.head_dim if qwen else a.head_dim
    later = a.family.startswith(_SHARED_ROPE) or a.tie_word_embeddings or a.rope_scaling_factor is not None
    tables = 1 if later and not qwen else a.num_hidden_layers
    return _FP32 * a.max_position_embeddings * width * tables


@lru_cache(maxsize=4096)
def footprint(
    architecture: Architecture,
    adapter: Adapter,
    dtype: str,
    mode: tuple[bool, ...],
    loss_chunks: int,
    gpus: int,
    gpu: str,
) -> Footprint:
    """What one GPU holds.

    `mode` is (activation checkpointing, packed, gradients accumulated, compiled), and whether activations are offloaded
    where that is said.
    """
    checkpointing, packed, accumulated, compiled, *offloaded = mode
    a, e = architecture, ELEMENT_BYTES[dtype]
    shards = sharding.sharded(a, adapter, dtype, gpus)
    weights, trained = weight_bytes(a, adapter, dtype), float(e * adapter_params(a, adapter))
    if gpus > 1:
        weights = (shards.root + a.num_hidden_layers * shards.block) / gpus
        trained = (shards.root_trained + a.num_hidden_layers * shards.block_trained) / gpus
    fixed = weights + (2 + accumulated) * trained + rope_bytes(a) + workspace_bytes(gpu)
    step = moments.Step(
        a, adapter, dtype, loss_chunks, gpus, checkpointing, packed, accumulated, compiled, shards, any(offloaded)
    )
    places = _position_bytes(a, dtype, checkpointing, packed, gpu)
    pieces = loss_chunks, _in_chunk(a, dtype, loss_chunks, compiled)
    return Footprint(fixed, moments.moments(step), *places, *pieces, root=shards.root, block=shards.block)


@lru_cache(maxsize=4096)
def validation_footprint(
    architecture: Architecture,
    adapter: Adapter,
    dtype: str,
    mode: tuple[bool, ...],
    loss_chunks: int,
    gpus: int,
    gpu: str,
) -> Footprint:
    """What one GPU holds while it validates: no gradients, nothing for backward; arguments are those of `footprint`."""
    checkpointing, packed, _, compiled, *_ = mode
    shards = sharding.sharded(architecture, adapter, dtype, gpus)
    fixed = footprint(architecture, adapter, dtype, (checkpointing, packed, False, compiled), loss_chunks, gpus, gpu)
    step = moments.Step(
        architecture, adapter, dtype, loss_chunks, gpus, checkpointing, packed, accumulated=False,
        compiled=compiled, shards=shards,
    )  # fmt: skip
    piece = loss_chunks * activations.validated_piece_bytes(architecture, dtype, loss_chunks, compiled)
    found = moments.validation_moments(step)
    return ValidationFootprint(
        fixed.fixed, found, 0.0, 0.0, loss_chunks, (piece, 0.0), root=shards.root, block=shards.block
    )


def _position_bytes(a: Architecture, dtype: str, checkpointing: bool, packed: bool, gpu: str) -> tuple[float, float]:
    """Bytes for every position (Qwen's RoPE tables in the number format), and for every pair (a dense mask)."""
    e, times = ELEMENT_BYTES[dtype], 1 if checkpointing else a.num_hidden_layers
    qwen = a.family.startswith("qwen") and not packed and dtype != "fp32" and not checkpointing
    dense = packed and gpu.startswith(NO_FLEX_ATTENTION)
    return (4.0 * e * a.head_dim * times if qwen else 0.0), (1.0 + e * times if dense else 0.0)


def _in_chunk(a: Architecture, dtype: str, chunks: int, compiled: bool) -> tuple[float, float]:
    """What of `head_bytes` a token of the one piece takes that the loss is at."""
    if chunks == 0:
        return 0.0, 0.0
    if compiled:
        return 0.0, float(ELEMENT_BYTES[dtype] * a.vocab_size)
    return (0.0 if dtype == "fp32" else float(_FP32 * a.vocab_size)), 2.0 * _FP32 * a.vocab_size


def workspace_bytes(gpu: str) -> float:
    """Bytes of cuBLAS's workspace on a GPU type."""
    return WORKSPACE_MIB.get(gpu.split("-", 1)[0], WORKSPACE_DEFAULT_MIB) * 2**20
