"""Bytes of number formats, adapters and weights; which layers adapters sit on, and which QLoRA holds in 4 bits."""

from __future__ import annotations

from dataclasses import replace

from runplan.estimate.memory import nf4
from runplan.estimate.workload import Adapter
from runplan.facts import Architecture

ELEMENT_BYTES = {"bf16": 2, "fp16": 2, "fp32": 4}
"""Bytes of one number of a number format."""
ATTENTION = ("q_proj", "k_proj", "v_proj", "output_proj")


def norms_heads(architecture: Architecture) -> bool:
    """Whether the query and the key of every head are normed, as Qwen3's are."""
    return architecture.family == "qwen3"


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


def adapted_params(architecture: Architecture, adapter: Adapter) -> int:
    """Parameters of the layers that adapters sit on, which merging changes."""
    a = architecture
    per_layer = sum(inner * outer for inner, outer in adapted_shapes(a, adapter))
    return a.num_hidden_layers * per_layer + (a.hidden_size * a.vocab_size if adapter.apply_to_output else 0)


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


def weight_bytes(architecture: Architecture, adapter: Adapter, dtype: str = "bf16") -> float:
    """Bytes of base weights and adapters on the GPU, RoPE tables not included."""
    e, shapes = ELEMENT_BYTES[dtype], quantised_shapes(architecture, adapter)
    saved = architecture.num_hidden_layers * (e * nf4.elements(shapes) - nf4.stored_bytes(shapes, e))
    return e * (architecture.params + adapter_params(architecture, adapter)) - saved
