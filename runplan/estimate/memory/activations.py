"""Bytes a token that one transformer block of torchtune 0.6.1 takes: kept for backward, and while that runs."""

from __future__ import annotations

from runplan.estimate.memory.weights import ELEMENT_BYTES, adapted_shapes, adapter_params
from runplan.estimate.workload import Adapter
from runplan.facts import Architecture

_FP32 = 4


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
    attention = 2 * e * q + 2 * e * _expanded_size(a) + 4 * a.num_attention_heads
    return norms + attention + 3 * e * f + _packed_rope_bytes(a, e, packed) + _adapted_layer_bytes(a, adapter, e)


def _expanded_size(a: Architecture) -> int:
    """Width of keys as attention gets them: repeated for every head, but for a single one, which a view repeats."""
    return a.key_value_size if a.num_key_value_heads == 1 else a.query_size


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


def first_layer_bytes(a: Architecture, adapter: Adapter, e: int, packed: bool) -> float:
    """Bytes a token that the first block need not keep: nothing before its first adapter is trained."""
    norm, dropped = _FP32 * a.hidden_size + 4, adapter.dropout > 0
    if inputs := set(adapter.attn_modules) & {"q_proj", "k_proj", "v_proj"}:
        trained = len(inputs & {"q_proj", "k_proj"})
        masks = dropped * len(inputs) * a.hidden_size
        return norm + masks + (1 - trained / 2) * _packed_rope_bytes(a, e, packed)
    output = (e + 1) * a.query_size if dropped else 0  # the mask, and what else the adapter keeps itself
    attention = e * (a.query_size + 2 * _expanded_size(a)) + 4 * a.num_attention_heads + output
    return norm + attention + _packed_rope_bytes(a, e, packed)


def identity_bytes(a: Architecture, adapter: Adapter, e: int) -> tuple[float, float]:
    """Bytes of what DoRA sends through the largest adapter of a block, and through that of the output head.

    An identity, what A makes of it, the weight that comes out of B, that scaled, and added to the frozen one
    (`DoRALinear.forward`).
    """
    if not adapter.use_dora:
        return 0.0, 0.0
    head = [(a.hidden_size, a.vocab_size)] if adapter.apply_to_output else []
    in_block, in_head = (
        max((float(e * inner * (inner + adapter.rank + 3 * outer)) for inner, outer in shapes), default=0.0)
        for shapes in (adapted_shapes(a, adapter), head)
    )
    return in_block, in_head


def block_backward_bytes(a: Architecture, adapter: Adapter, e: int) -> float:
    """Bytes a token of gradients inside the block whose backward runs (matters only under checkpointing).

    The larger of two moments: gradients of the MLP's gate and product, and those of attention once the MLP's are gone,
    fitted to simulated blocks of many shapes.
    """
    d, q, f = a.hidden_size, a.query_size, a.intermediate_size
    half = e / 2
    freed = 6 * f + (2 * f + 2 * d if adapter.apply_to_mlp else 0)
    mlp = 4 * f + 2 * d if adapter.apply_to_mlp else 6 * f + 2 * d
    attention = 14 * d + 8 * q - freed
    dropped = f if adapter.apply_to_mlp and adapter.dropout > 0 else 0  # the mask of the last layer is gone by then
    return max(half * mlp - dropped, half * attention, 0)


def block_recomputed_bytes(a: Architecture, adapter: Adapter, e: int) -> tuple[float, float]:
    """Bytes a token at the end of recomputing a block, and at the MLP's third layer, beside what it keeps.

    And beside the gradient that came in. At the end: attention's output, the block's middle, the last frozen layer's
    output; with dropout its input and the norm's output, too, of which adapters keep copies. At the third layer the
    adapter's product twice, where the last layer's input is not there yet.
    """
    d, f = a.hidden_size, a.intermediate_size
    if not adapter.apply_to_mlp:
        return 3.0 * e * d, 0.0
    if adapter.dropout > 0:
        return float(e * (4 * d + f)), 0.0
    return 3.0 * e * d, float(e * (2 * d + f - adapter.rank))


def first_gradient_bytes(a: Architecture, adapter: Adapter, e: int) -> float:
    """Bytes of the first gradients of a block: those of the MLP's last layer."""
    return float(e * adapter.rank * (a.hidden_size + a.intermediate_size)) if adapter.apply_to_mlp else 0.0


def gradient_bytes(a: Architecture, adapter: Adapter, e: int) -> tuple[float, float]:
    """Bytes of gradients when backward has come to the MLP of the first block, and when it is through."""
    trained = float(e * adapter_params(a, adapter))
    return trained * (1 - 1 / a.num_hidden_layers) + first_gradient_bytes(a, adapter, e), trained


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


def validated_piece_bytes(a: Architecture, dtype: str, chunks: int, compiled: bool) -> float:
    """Bytes a token of the piece of logits that the loss is at, without gradients: its log-softmax, and it in fp32."""
    if chunks == 0 or compiled:
        return 0.0
    return (1 if dtype == "fp32" else 2) * _FP32 * a.vocab_size / chunks


def validated_block_bytes(a: Architecture, adapter: Adapter, e: int) -> float:
    """Bytes a token inside a block without gradients, beside its input and a norm: at the MLP's third layer, or before.

    Attention's output and the block's middle are there with the MLP's products.
    """
    d, q, f = a.hidden_size, a.query_size, a.intermediate_size
    mlp = 4 * f if adapter.apply_to_mlp else 3 * f
    return float(e * (2 * d + max(mlp, 4 * q)))


def output_bytes(a: Architecture, adapter: Adapter, e: int) -> float:
    """Bytes a token that adapters of the output head keep: inputs of A and B, dropout's, and DoRA's two outputs."""
    if not adapter.apply_to_output:
        return 0.0
    dropped = (e + 1) * a.hidden_size if adapter.dropout > 0 else e * a.hidden_size
    return float(dropped + e * adapter.rank + 2 * e * a.vocab_size * adapter.use_dora)


def output_gradient_bytes(a: Architecture, adapter: Adapter, e: int) -> float:
    """Bytes of the gradients of the output head's adapter, of which every piece of the loss adds its own."""
    return float(e * adapter.rank * (a.hidden_size + a.vocab_size)) if adapter.apply_to_output else 0.0
