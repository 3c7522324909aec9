"""GPU memory of one LoRA training step of torchtune in closed form.

The formulas follow torchtune 0.6.1's recipes line by line (eager mode) and hold within 0.1 % of a simulation of the
real model, loss and optimizer on fake tensors (tests/test_estimate_memory_simulation.py). Widths are multiplied with
bytes, so `2 * d` reads "d numbers of 2 bytes for every token".
"""

from __future__ import annotations

from functools import lru_cache

from runplan.estimate.memory import activations, nf4
from runplan.estimate.memory.footprint import Footprint
from runplan.estimate.memory.weights import (
    ELEMENT_BYTES,
    adapted_shapes,
    adapter_params,
    quantised_shapes,
    weight_bytes,
)
from runplan.estimate.workload import Adapter
from runplan.facts import Architecture

WORKSPACE_MIB = {"h100": 32.0, "h200": 32.0, "gh200": 32.0, "b200": 32.0, "mi300x": 152.0, "mi355x": 152.0}
"""cuBLAS workspace that counts as allocated: `parseChosenWorkspaceSize` in ATen/cuda/CublasHandlePool.cpp has 32 MiB
for compute capability 9.0 and 8.125 else (b200 here is a guess); on AMD hipBLASLt has 76 MiB, taken for hipBLAS too."""
WORKSPACE_DEFAULT_MIB = 8.125
_SHARED_ROPE = ("llama3_1", "llama3_2", "llama3_3")
NO_FLEX_ATTENTION = ("cpu", "v100", "p100", "gtx")
"""GPUs below compute capability 7.5: packed rows need a dense mask there (`_SUPPORTS_FLEX_ATTENTION`)."""
_FP32 = 4
_IDS = 24
"""Bytes of a token and its label, integers of 8, and of the labels' shifted copy."""


def rope_bytes(architecture: Architecture) -> int:
    """Bytes of the RoPE tables: one for all layers in Llama 3.1 and later, one a layer elsewhere.

    torchtune's LoRA builders of Llama 2, Llama 3, Mistral and Qwen2 make a table in every layer; Qwen's holds cos and
    sin twice over (modules `models/*/_component_builders.py`, `models/qwen2/_positional_embeddings.py`).
    """
    a = architecture
    width = 2 * a.head_dim if a.family.startswith("qwen") else a.head_dim
    tables = 1 if a.family.startswith(_SHARED_ROPE) else a.num_hidden_layers
    return _FP32 * a.max_position_embeddings * width * tables


def head_bytes(a: Architecture, dtype: str, chunks: int, compiled: bool) -> tuple[float, float]:
    """Bytes a token of logits at the forward peak (in the loss) and at the start of backward.

    A compiled loss of chunks keeps the logits alone, and makes the gradient of one chunk at a time.
    """
    v = a.vocab_size
    logits = ELEMENT_BYTES[dtype]
    if chunks > 0 and compiled:
        return float(logits * v), (logits + logits / chunks) * v
    if chunks > 0:
        upcast = 0 if dtype == "fp32" else _FP32 / chunks
        return (logits + _FP32 + upcast) * v, (_FP32 + 2 * _FP32 / chunks) * v
    return 2 * _FP32 * v, 3 * _FP32 * v


@lru_cache(maxsize=4096)
def footprint(
    architecture: Architecture,
    adapter: Adapter,
    dtype: str,
    mode: tuple[bool, bool, bool, bool],
    loss_chunks: int,
    gpus: int,
    gpu: str,
) -> Footprint:
    """What one GPU holds; `mode` is (activation checkpointing, packed, gradients accumulated, compiled)."""
    checkpointing, packed, accumulated, compiled = mode
    a, e = architecture, ELEMENT_BYTES[dtype]
    trained = e * adapter_params(a, adapter)
    fixed = (
        (weight_bytes(a, adapter, dtype) + (2 + accumulated) * trained) / gpus + rope_bytes(a) + workspace_bytes(gpu)
    )
    root, block = gathered_bytes(a, adapter, dtype, gpus)
    moments = _moments(a, adapter, (dtype, loss_chunks, gpus), mode, (root, block))
    places = _position_bytes(a, dtype, checkpointing, packed, gpu)
    pieces = loss_chunks, _in_chunk(a, dtype, loss_chunks, compiled)
    return Footprint(fixed, moments, *places, *pieces, root=root, block=block)


def _moments(
    a: Architecture,
    adapter: Adapter,
    setting: tuple[str, int, int],
    mode: tuple[bool, bool, bool, bool],
    shared: tuple[float, float],
) -> tuple[tuple[float, float], ...]:
    """Bytes and bytes a token at every moment that may be the peak; `shared` is what FSDP gathers."""
    (dtype, chunks, gpus), (checkpointing, packed, accumulated, compiled) = setting, mode
    e, d = ELEMENT_BYTES[dtype], a.hidden_size
    kept = (activations.compiled_layer_bytes if compiled else activations.layer_bytes)(a, adapter, dtype, packed)
    first = 0.0 if compiled else activations.first_layer_bytes(a, adapter, e, packed)
    held, inside, in_head = _held_bytes(a, adapter, dtype, checkpointing, (kept, first))
    root, block = shared
    gathered = root + 2 * block  # blocks in use and prefetched
    others, late = (0.0, 0.0) if accumulated else gradient_bytes(a, adapter, e, gpus)
    shapes = quantised_shapes(a, adapter)
    unpacked, through = nf4.kept_bytes(e * nf4.elements(shapes), a.num_hidden_layers, checkpointing, compiled)
    identity, identity_of_head = activations.identity_bytes(a, adapter, e)
    gradients = activations.block_backward_bytes(a, adapter, e)
    forward, backward = head_bytes(a, dtype, chunks, compiled)
    found = (
        (through, in_head + forward),
        (gathered + through, in_head + backward),
        (identity + through, held + e * d * (1 + 3 * checkpointing)),
        (identity_of_head + through, in_head + e * a.vocab_size),
        (
            2 * activations.output_gradient_bytes(a, adapter, e) + through,
            in_head + (0 if compiled else _FP32 * a.vocab_size),
        ),
        (gathered + unpacked, held + gradients),
        (gathered + unpacked / a.num_hidden_layers + others, inside + gradients),
        (identity + others, inside + e * d if checkpointing else 0.0),
        (late, 0.0),
        # What is gathered arrives in one piece and is copied to its parameters.
        (2 * (root + block), e * d),
        *nf4.moments(
            a, adapter, e, (shapes, adapted_shapes(a, adapter)), (held, inside), (e * adapter_params(a, adapter), *mode)
        ),
    )
    return tuple((extra, per_token + _IDS) for extra, per_token in found)


def _position_bytes(a: Architecture, dtype: str, checkpointing: bool, packed: bool, gpu: str) -> tuple[float, float]:
    """Bytes for every position (Qwen's RoPE tables in the number format), and for every pair (a dense mask)."""
    e, times = ELEMENT_BYTES[dtype], 1 if checkpointing else a.num_hidden_layers
    qwen = a.family.startswith("qwen") and not packed and dtype != "fp32" and not checkpointing
    dense = packed and gpu.startswith(NO_FLEX_ATTENTION)
    return (4.0 * e * a.head_dim * times if qwen else 0.0), (1.0 + e * times if dense else 0.0)


def gradient_bytes(a: Architecture, adapter: Adapter, e: int, gpus: int) -> tuple[float, float]:
    """Bytes of gradients when backward has come to the MLP of the first block, and when it is through."""
    trained = e * adapter_params(a, adapter) / gpus
    last = e * adapter.rank * (a.hidden_size + a.intermediate_size) / gpus if adapter.apply_to_mlp else 0.0
    return trained * (1 - 1 / a.num_hidden_layers) + last, trained


def _held_bytes(
    a: Architecture, adapter: Adapter, dtype: str, checkpointing: bool, block: tuple[float, float]
) -> tuple[float, float, float]:
    """Bytes a token held in backward of the last block, of the first block, and in the head.

    `block` is what a block keeps, and what the first one need not. In fp32 the stored input of a recomputed block is
    the very one that its norm keeps. The head has the final norm's input, too.
    """
    kept, first = block
    stored = ELEMENT_BYTES[dtype] * a.hidden_size if checkpointing else 0.0
    shared = stored if dtype == "fp32" else 0.0
    through = a.num_hidden_layers * (stored if checkpointing else kept)
    held = through + kept - shared if checkpointing else through - first
    head = (through if checkpointing else held) + _FP32 * a.hidden_size + 4
    return held, stored - shared + kept - first, head + activations.output_bytes(a, adapter, ELEMENT_BYTES[dtype])


def _in_chunk(a: Architecture, dtype: str, chunks: int, compiled: bool) -> tuple[float, float]:
    """What of `head_bytes` a token of the one piece takes that the loss is at."""
    if chunks == 0:
        return 0.0, 0.0
    if compiled:
        return 0.0, float(ELEMENT_BYTES[dtype] * a.vocab_size)
    return (0.0 if dtype == "fp32" else float(_FP32 * a.vocab_size)), 2.0 * _FP32 * a.vocab_size


def gathered_bytes(a: Architecture, adapter: Adapter, dtype: str, gpus: int) -> tuple[float, float]:
    """Bytes that FSDP gathers of embedding and output (its root), and of one block; 0 on one GPU."""
    if gpus == 1:
        return 0.0, 0.0
    e, shapes = ELEMENT_BYTES[dtype], quantised_shapes(a, adapter)
    root = e * a.embedding_params * (1 if a.tie_word_embeddings else 2)
    adapters = adapter_params(a, adapter) / a.num_hidden_layers
    block = e * (a.layer_params + adapters - nf4.elements(shapes)) + nf4.stored_bytes(shapes, e)
    return float(root), float(block)


def workspace_bytes(gpu: str) -> float:
    """Bytes of cuBLAS's workspace on a GPU type."""
    return WORKSPACE_MIB.get(gpu.split("-", 1)[0], WORKSPACE_DEFAULT_MIB) * 2**20
