"""GPU memory of a batch that TRL 1.16.0's SFTTrainer validates between two steps, in closed form.

`SFTTrainer.prediction_step` asks for the loss alone where no metrics are computed, as in runplan's runs: no logits are
made or gathered. Its batch has training's size (`per_device_eval_batch_size`); its rows are not packed, but where
training's are, the collator makes one sequence of them (`padding_free`), and their mask is that of a pack. Held against
a simulation of the real model and loss (tests/test_estimate_memory_validation.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from runplan.estimate.memory import trl_step
from runplan.estimate.memory.trl_step import Moment, TrlFootprint
from runplan.estimate.memory.weights import ELEMENT_BYTES, adapter_params, norms_heads
from runplan.estimate.workload import Adapter
from runplan.facts import Architecture

_FP32 = 4


@lru_cache(maxsize=4096)
def validation_footprint(
    architecture: Architecture,
    adapter: Adapter,
    dtype: str,
    mode: tuple[bool, ...],
    loss_chunks: int,
    gpus: int,
    gpu: str,
) -> TrlFootprint:
    """What one GPU holds while it validates: no gradients, nothing for backward; arguments are `trl_step.footprint`'s.

    Autocast keeps its copies of all adapters until forward ends.
    """
    _, packed, *_ = mode
    a, e = architecture, ELEMENT_BYTES[dtype]
    training = trl_step.footprint(a, adapter, dtype, (False, packed, False, False), loss_chunks, gpus, gpu)
    copies = float(e * adapter_params(a, adapter)) if dtype != "fp32" else 0.0
    peaks = (
        Moment(copies, 2.0 * e * a.hidden_size + trl_step.LOSS_BYTES, 0.0, 0.0, tile=True),
        Moment(copies, _mlp_bytes(a, adapter, dtype), 0.0, 1 / e),
        Moment(copies, max(_attention_bytes(a, adapter, dtype)), 0.0, 1 / e),
        Moment(copies, _product_bytes(a, e), _repeated_bytes(a, e), 1 + 1 / e),
    )
    per_token = tuple((one.extra, one.per_token) for one in peaks)
    return TrlFootprint(
        training.fixed, per_token, training.per_position, 0.0, peaks=peaks, element=e, packed=packed,
        window=a.sliding_window,
    )  # fmt: skip


def _mlp_bytes(a: Architecture, adapter: Adapter, dtype: str) -> float:
    """Bytes a token at the MLP's second layer, or at its product where no adapters are.

    Embeddings, block's input, middle and norm; the gate; the layer's, B's and the scaled output, and PEFT's fp32 copy
    of its input. Without adapters the layer's output and the product.
    """
    d, f, e = a.hidden_size, a.intermediate_size, ELEMENT_BYTES[dtype]
    copied = _FP32 * d if dtype != "fp32" else 0
    return float(4 * e * d + (4 * e * f + copied if adapter.apply_to_mlp else 3 * e * f) + trl_step.IDS)


def _attention_bytes(a: Architecture, adapter: Adapter, dtype: str) -> Iterator[float]:
    """Bytes a token where RoPE turns q, or its heads are normed; at the adapted v; at the adapted output.

    Beside embeddings, block's input and norm. RoPE makes three of q, the norm two in fp32; an adapted layer has its
    own, B's and the scaled output, and its input in fp32.
    """
    d, q, kv, e = a.hidden_size, a.query_size, a.key_value_size, ELEMENT_BYTES[dtype]
    there, copied = 3 * e * d + trl_step.IDS, _FP32 if dtype != "fp32" else 0
    yield there + e * (4 * q + 2 * kv)
    yield there + (e + 2 * _FP32) * q * (norms_heads(a) and dtype != "fp32")
    if "v_proj" in adapter.attn_modules:
        yield there + e * (q + 4 * kv) + copied * d
    if "output_proj" in adapter.attn_modules:
        yield there + e * (2 * q + 2 * kv + 3 * d) + copied * q


def _repeated_bytes(a: Architecture, e: int) -> float:
    """Bytes a token of keys and values that are repeated for every head, beside them as they were."""
    return 2.0 * e * a.query_size if 1 < a.num_key_value_heads < a.num_attention_heads else 0.0


def _product_bytes(a: Architecture, e: int) -> float:
    """Bytes a token in attention itself: q, k and v, its output and log-sum-exp."""
    d, q, kv = a.hidden_size, a.query_size, a.key_value_size
    return 3.0 * e * d + 2 * e * (q + kv) + 4 * a.num_attention_heads + trl_step.IDS
