"""GPU memory of one LoRA training step in closed form, and host memory of the job.

The formulas follow torchtune 0.6.1's recipes line by line (eager mode) and hold within 0.1 % of a simulation of the
real model, loss and optimizer on fake tensors (tests/test_estimate_simulation.py). Widths are multiplied with bytes,
so `2 * d` reads "d numbers of 2 bytes for every token".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

from runplan.estimate import nf4
from runplan.estimate.footprint import Footprint
from runplan.estimate.workload import Adapter, Workload
from runplan.facts import Architecture
from runplan.units import GIB

WORKSPACE_MIB = {"h100": 32.0, "h200": 32.0, "gh200": 32.0, "b200": 32.0, "mi300x": 152.0, "mi355x": 152.0}
"""cuBLAS workspace that counts as allocated: `parseChosenWorkspaceSize` in ATen/cuda/CublasHandlePool.cpp has 32 MiB
for compute capability 9.0 and 8.125 else (b200 here is a guess); on AMD hipBLASLt has 76 MiB, taken for hipBLAS too."""
WORKSPACE_DEFAULT_MIB = 8.125
ELEMENT_BYTES = {"bf16": 2, "fp16": 2, "fp32": 4}
_SHARED_ROPE = ("llama3_1", "llama3_2", "llama3_3")
NO_FLEX_ATTENTION = ("cpu", "v100", "p100", "gtx")
"""GPUs below compute capability 7.5: packed rows need a dense mask there (`_SUPPORTS_FLEX_ATTENTION`)."""
_FP32 = 4
ATTENTION = ("q_proj", "k_proj", "v_proj", "output_proj")


def adapted_shapes(architecture: Architecture, adapter: Adapter) -> tuple[tuple[int, int], ...]:
    """(inputs, outputs) of the adapted linear layers of one block."""
    a = architecture
    d, q, kv, f = a.hidden_size, a.query_size, a.key_value_size, a.intermediate_size
    attention = {"q_proj": (d, q), "k_proj": (d, kv), "v_proj": (d, kv), "output_proj": (q, d)}
    shapes = [shape for name, shape in attention.items() if name in adapter.attn_modules]
    return (*shapes, *(((d, f), (d, f), (f, d)) if adapter.apply_to_mlp else ()))


def adapter_params(architecture: Architecture, adapter: Adapter) -> int:
    """Trainable parameters of the adapters: rank x (in + out) of every adapted layer, and DoRA's magnitudes."""
    a, r = architecture, adapter.rank
    shapes = adapted_shapes(a, adapter)
    per_layer = sum(r * (inner + outer) + (outer if adapter.use_dora else 0) for inner, outer in shapes)
    output = r * (a.hidden_size + a.vocab_size) if adapter.apply_to_output else 0
    return a.num_hidden_layers * per_layer + output


def quantised_shapes(architecture: Architecture, adapter: Adapter) -> tuple[tuple[int, int], ...]:
    """(inputs, outputs) of the linear layers of one block that QLoRA stores in NF4; none without it.

    Every linear layer of the block; in torchtune's Qwen2 builders only those that are adapted (modules
    `models/*/_component_builders.py`). Embeddings, output head, norms and biases stay as they are.
    """
    if not adapter.quantize_base:
        return ()
    if architecture.family.startswith("qwen"):
        return adapted_shapes(architecture, adapter)
    return adapted_shapes(architecture, replace(adapter, attn_modules=ATTENTION, apply_to_mlp=True))


def rope_bytes(architecture: Architecture) -> int:
    """Bytes of the RoPE tables: one for all layers in Llama 3.1 and later, one a layer elsewhere.

    torchtune's LoRA builders of Llama 2, Llama 3, Mistral and Qwen2 make a table in every layer; Qwen's holds cos and
    sin twice over (modules `models/*/_component_builders.py`, `models/qwen2/_positional_embeddings.py`).
    """
    a = architecture
    width = 2 * a.head_dim if a.family.startswith("qwen") else a.head_dim
    tables = 1 if a.family.startswith(_SHARED_ROPE) else a.num_hidden_layers
    return _FP32 * a.max_position_embeddings * width * tables


def weight_bytes(architecture: Architecture, adapter: Adapter, dtype: str = "bf16") -> float:
    """Bytes of base weights and adapters on the GPU, RoPE tables not included."""
    e, shapes = ELEMENT_BYTES[dtype], quantised_shapes(architecture, adapter)
    saved = architecture.num_hidden_layers * (e * nf4.elements(shapes) - nf4.stored_bytes(shapes, e))
    return e * (architecture.params + adapter_params(architecture, adapter)) - saved


def _adapted_layer_bytes(a: Architecture, adapter: Adapter, e: int) -> float:
    """Bytes a token that one block keeps because of its adapters: inputs of A and of B, dropped inputs and masks."""
    d, f = a.hidden_size, a.intermediate_size
    shapes = adapted_shapes(a, adapter)
    total = float(e * adapter.rank * len(shapes))
    if adapter.use_dora:
        total += 2 * e * sum(outer for _, outer in shapes)  # the outputs of the frozen layer and of the adapter
    if adapter.dropout > 0:
        return total + (e + 1) * sum(inner for inner, _ in shapes)
    if set(adapter.attn_modules) & {"q_proj", "k_proj", "v_proj"}:
        total += e * d
    return total + (e * (d + f) if adapter.apply_to_mlp else 0)


def layer_bytes(architecture: Architecture, adapter: Adapter, dtype: str, packed: bool) -> float:
    """Bytes a token that one block keeps for its backward pass without checkpointing.

    Two RMSNorm inputs and their 1/std in fp32 (`x.float()`), q after RoPE, k and v expanded to all heads, the output of
    attention and its log-sum-exp, three MLP products; gathered RoPE tables of q and k when packed.
    """
    a, e = architecture, ELEMENT_BYTES[dtype]
    d, q, f = a.hidden_size, a.query_size, a.intermediate_size
    norms = 2 * (_FP32 * d + 4)
    attention = 4 * e * q + 4 * a.num_attention_heads
    return norms + attention + 3 * e * f + _packed_rope_bytes(a, e, packed) + _adapted_layer_bytes(a, adapter, e)


def compiled_layer_bytes(architecture: Architecture, adapter: Adapter, dtype: str, packed: bool) -> float:
    """Bytes a token that one compiled block keeps for its backward pass without checkpointing.

    What torch's partitioner keeps, read from compiled blocks of torchtune (torch 2.13, exact): of the norms only their
    inputs and 1/std, of the MLP the products before and after SiLU's gate once, RoPE's tables gathered anew. Adapters
    of the MLP keep their inputs, those of attention share the norm's output. Dropout and DoRA are taken as if eager.
    """
    a, e = architecture, ELEMENT_BYTES[dtype]
    if adapter.dropout > 0 or adapter.use_dora:
        return layer_bytes(a, adapter, dtype, packed)
    d, q, f = a.hidden_size, a.query_size, a.intermediate_size
    kept = 3 * e * d + 2 * _FP32 + 4 * e * q + 4 * a.num_attention_heads + 2 * e * f
    kept += e * adapter.rank * len(adapted_shapes(a, adapter))
    return float(kept + (e * (d + f) if adapter.apply_to_mlp else 0))


def _packed_rope_bytes(a: Architecture, e: int, packed: bool) -> float:
    if not packed:
        return 0.0
    return 2.0 * (2 * e if a.family.startswith("qwen") else _FP32) * a.head_dim


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
    a, e, d, layers = architecture, ELEMENT_BYTES[dtype], architecture.hidden_size, architecture.num_hidden_layers
    trained = e * adapter_params(a, adapter)
    kept = (compiled_layer_bytes if compiled else layer_bytes)(a, adapter, dtype, packed)
    fixed = (weight_bytes(a, adapter, dtype) + (2 + accumulated) * trained) / gpus + rope_bytes(a)
    fixed += workspace_bytes(gpu)
    blocks = layers * e * d + _FP32 * d + 4 if checkpointing else layers * kept
    output = e * (d + adapter.rank) + (e + 1) * d * (adapter.dropout > 0) if adapter.apply_to_output else 0.0
    forward, backward = (head + blocks + output for head in head_bytes(a, dtype, loss_chunks, compiled))
    root, block = gathered_bytes(a, adapter, dtype, gpus)
    held = layers * e * d + kept if checkpointing else layers * kept
    inside = held + _block_backward_bytes(a, adapter, e)
    shapes = quantised_shapes(a, adapter)
    unpacked, through = nf4.kept_bytes(e * nf4.elements(shapes), layers, checkpointing, compiled)
    # Tokens and labels are integers of 8 bytes, and the labels are shifted into a copy.
    moments = tuple(
        (extra, per_token + 24)
        for extra, per_token in (
            (_identity_bytes(a, adapter, e) + through, held + e * d * (1 + 3 * checkpointing)),
            (through, forward),
            (root + 2 * block + through, backward),
            (root + 2 * block + unpacked, inside),
            (2 * (root + block), e * d),  # what is gathered arrives in one piece and is copied to its parameters
            *nf4.moments(a, adapter, e, (shapes, adapted_shapes(a, adapter)), (held, kept), (trained, *mode)),
        )
    )
    qwen = a.family.startswith("qwen") and not packed and dtype != "fp32"
    per_position = 4.0 * e * a.head_dim * layers if qwen and not checkpointing else 0.0
    dense = packed and gpu.startswith(NO_FLEX_ATTENTION)
    masks = 1.0 + e * (1 if checkpointing else layers) if dense else 0.0
    return Footprint(fixed, moments, per_position, masks, root=root, block=block)


def footprint_of(trainer: str | None) -> Callable[..., Footprint]:
    """The closed form of a trainer, all with the arguments of `footprint`; torchtune's where there is none."""
    if trainer != "trl":
        return footprint
    from runplan.estimate import memory_trl  # noqa: PLC0415 - which builds on this module

    return memory_trl.footprint


def gathered_bytes(a: Architecture, adapter: Adapter, dtype: str, gpus: int) -> tuple[float, float]:
    """Bytes that FSDP gathers of embedding and output (its root), and of one block; 0 on one GPU."""
    if gpus == 1:
        return 0.0, 0.0
    e, shapes = ELEMENT_BYTES[dtype], quantised_shapes(a, adapter)
    root = e * a.embedding_params * (1 if a.tie_word_embeddings else 2)
    adapters = adapter_params(a, adapter) / a.num_hidden_layers
    block = e * (a.layer_params + adapters - nf4.elements(shapes)) + nf4.stored_bytes(shapes, e)
    return float(root), float(block)


def _identity_bytes(a: Architecture, adapter: Adapter, e: int) -> float:
    """Bytes of the identity that DoRA sends through its adapter, of the weight that comes out, scaled, and added."""
    if not adapter.use_dora:
        return 0.0
    return max((e * inner * (inner + 3 * outer) for inner, outer in adapted_shapes(a, adapter)), default=0.0)


def _block_backward_bytes(a: Architecture, adapter: Adapter, e: int) -> float:
    """Bytes a token of gradients inside the block whose backward runs (matters only under checkpointing).

    The larger of two moments, fitted to simulated blocks of many shapes: gradients of the MLP's products, and those of
    attention once the MLP's are gone.
    """
    d, q, f = a.hidden_size, a.query_size, a.intermediate_size
    half = e / 2
    freed = 6 * f + (2 * f + 2 * d if adapter.apply_to_mlp else 0)
    mlp = 4 * f + 2 * d if adapter.apply_to_mlp else 6 * f + 2 * d
    attention = 14 * d + 8 * q - freed
    return half * max(mlp, attention, 0)


def workspace_bytes(gpu: str) -> float:
    """Bytes of cuBLAS's workspace on a GPU type."""
    return WORKSPACE_MIB.get(gpu.split("-", 1)[0], WORKSPACE_DEFAULT_MIB) * 2**20


def allocated_gib(workload: Workload, batch: int, tokens: int, accumulation: int = 1) -> float:
    """Peak of torch's allocated memory on one GPU, in GiB, from the second optimizer step on.

    Args:
        workload: what is trained; its own batch and accumulation are not looked at.
        batch: sequences the GPU processes at once.
        tokens: length they are padded to.
        accumulation: forward passes an optimizer step (above 1 gradients are alive in the forward pass).

    Source: torchtune 0.6.1 read and simulated; of compiled models the blocks (`compiled_layer_bytes`).
    """
    return sum(allocated_parts_gib(workload, batch, tokens, accumulation))


def footprint_for(w: Workload, accumulation: int = 1) -> Footprint:
    """What one GPU holds of a workload."""
    mode = (w.activation_checkpointing, w.packed, accumulation > 1, w.compile)
    form = footprint_of(w.trainer)
    return form(w.architecture, w.adapter, w.dtype, mode, w.loss_chunks, w.gpus, w.gpu.name)


def allocated_parts_gib(w: Workload, batch: int, tokens: int, accumulation: int = 1) -> tuple[float, float]:
    """The two parts of `allocated_gib`: what stays from step to step, and what every step allocates and frees."""
    parts = footprint_for(w, accumulation)
    freed = parts.peak_bytes(batch, tokens) - parts.fixed
    if w.activation_offloading and w.activation_checkpointing:
        # Block inputs wait in host memory but for the ones in flight (torchtune keeps up to five copies under way).
        waiting = max(0, w.architecture.num_hidden_layers - 5)
        freed -= waiting * ELEMENT_BYTES[w.dtype] * w.architecture.hidden_size * batch * tokens
    return parts.fixed / GIB, freed / GIB
