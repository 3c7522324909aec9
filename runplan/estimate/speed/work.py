"""What an optimizer step asks of the hardware that computes it: arithmetic, memory traffic, launches of kernels."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from runplan.estimate.memory import nf4
from runplan.estimate.memory.weights import ELEMENT_BYTES, adapted_shapes, adapter_params, norms_heads, quantised_shapes
from runplan.estimate.speed import trl_kernels
from runplan.estimate.speed.step import Step
from runplan.estimate.workload import TRL, Adapter
from runplan.facts import Architecture

CHECKPOINTS = 2.0
"""Python of torch's checkpointing of a layer, in units of its forward pass: hooks on every saved tensor, state of
random numbers. With the second forward pass a layer takes 2.85 times as long on a processor (torchtune's own layers,
widths of 16, rank 4: 2.78 against 0.98 ms); less on a GPU, where launches add to both."""
ATTENTION_BACKWARD = 2.5
"""Arithmetic of attention's backward pass over that of its forward pass: five products for two (FlashAttention-2)."""
FORWARD_WALKS, BACKWARD_WALKS = 2, 1
"""Times that torch's softmax reads a row of logits once more than it must: for the largest, for the sum, then to write;
backward for the sum of gradients (`cunn_SoftMaxForward` and `cunn_SoftMaxBackward` of SoftMax.cu, torch 2.7)."""
_FP32 = 4
UNPACKS = (0.053, 0.064)
"""Unpacking one NF4 weight forward and backward, in units of a layer: 13 kernels and an autograd function in Python
(80 and 110 us more than a linear layer on a processor whose whole layer takes 1.75 ms, and 3 us for CUDA each)."""


class Work(NamedTuple):
    """What one forward and backward pass asks of a GPU."""

    flop: float
    bytes: float
    launches: float
    """In units of one layer with four adapters, forward and backward, no checkpointing."""
    adapter_bytes: float = 0.0
    """Of `bytes`, what the products of adapters read and write."""
    weight_bytes: float = 0.0
    """Of `bytes`, what is read of weights."""
    unpacked_bytes: float = 0.0
    """Of `bytes`, what unpacks weights in 4 bits."""
    adapter_flop: float = 0.0
    """Of `flop`, the products of adapters."""
    attention_flop: float = 0.0
    """Of `flop`, the products of attention."""
    hooks: float = 0.0
    """Of `launches`, the Python of checkpointing."""
    written_bytes: float = 0.0
    """Beside `bytes`, what large products write."""
    walked_bytes: float = 0.0
    """Beside `bytes`, what is read again of rows of logits, where no cache holds them."""


def work(
    architecture: Architecture,
    adapter: Adapter,
    dtype: str,
    mode: tuple[bool, bool, bool],
    tokens: float,
    span: float,
    trainer: str = "torchtune",
) -> Work:
    """FLOP, bytes and launches of one pass over `tokens`; `mode` is (checkpointing, packed, forward only)."""
    per_token = _per_token(architecture, adapter, dtype, mode, trainer)
    attention = per_token.attention_flop * span
    return Work(
        tokens * (per_token.flop + attention),
        tokens * per_token.bytes + per_token.weight_bytes + per_token.unpacked_bytes,
        per_token.launches,
        tokens * per_token.adapter_bytes,
        per_token.weight_bytes,
        per_token.unpacked_bytes,
        tokens * per_token.adapter_flop,
        tokens * attention,
        per_token.hooks,
        tokens * per_token.written_bytes,
        tokens * per_token.walked_bytes,
    )


def unpacked_part(step: Step) -> float:
    """The part of a step's memory traffic that unpacks weights in 4 bits; 0 without them."""
    mode = (step.checkpointing, step.packed, False)
    tokens = step.batch * step.tokens
    plain = replace(step.adapter, quantize_base=False)
    whole, rest = (
        work(step.architecture, adapter, step.dtype, mode, tokens, step.span).bytes for adapter in (step.adapter, plain)
    )
    return 1 - rest / whole


class _PerToken(NamedTuple):
    flop: float
    attention_flop: float
    """For every token of the span."""
    bytes: float
    weight_bytes: float
    launches: float
    adapter_bytes: float
    unpacked_bytes: float
    adapter_flop: float
    hooks: float
    written_bytes: float
    walked_bytes: float


@lru_cache(maxsize=1024)
def _per_token(a: Architecture, adapter: Adapter, dtype: str, mode: tuple[bool, bool, bool], trainer: str) -> _PerToken:
    checkpointing, _packed, forward_only = mode
    blocks = a.num_hidden_layers * a.layer_params
    head = a.embedding_params
    adapters = adapter_params(a, adapter)
    again = 1 if checkpointing and not forward_only else 0
    backward = 0 if forward_only else 1
    # Frozen weights need no weight gradients: backward is as dear as forward, for adapters twice.
    trl = trainer == TRL
    heads = 1 + backward * (2 if trl else 1)  # TRL keeps no logits and multiplies once more
    beside = 2 * adapters * (1 + 2 * backward + again)
    flop = 2 * blocks * (1 + backward) + 2 * head * heads + 2 * blocks * again + beside
    attention = 4 * a.num_hidden_layers * a.query_size * (1 + ATTENTION_BACKWARD * backward + again)
    element = ELEMENT_BYTES[dtype]
    layer = (*trl_kernels.layer_traffic(a, adapter, dtype), 0.0) if trl else _layer_traffic(a, adapter, element)
    logits = trl_kernels.head_traffic(a, dtype) if trl else _head_traffic(a, element)
    moved = a.num_hidden_layers * (layer[0] * (1 + again) + layer[1] * backward) + logits[0] + logits[1] * backward
    # Weights are read once a pass however few the tokens are.
    weights = float(element) * (blocks * (1 + backward + again) + head * heads)
    unpacked = unpacked_bytes(a, adapter, element) * (1 + backward + again)
    units = trl_kernels.layer_launches(a, adapter, dtype) if trl else _layer_launches(adapter)
    launches, hooks = _launches(a, adapter, units, again, backward)
    adapter_bytes = a.num_hidden_layers * layer[2] * (1 + again + backward)
    written = a.num_hidden_layers * _written(a, again, backward) + a.vocab_size + (heads - 1) * a.hidden_size
    walked = 0.0 if trl else _FP32 * a.vocab_size * (FORWARD_WALKS + backward * BACKWARD_WALKS)
    return _PerToken(
        float(flop),
        float(attention),
        moved,
        weights,
        launches,
        adapter_bytes,
        unpacked,
        float(beside),
        hooks,
        float(element * written),
        float(walked),
    )


def _launches(
    a: Architecture, adapter: Adapter, units: tuple[float, float], again: int, backward: int
) -> tuple[float, float]:
    """All launches of a pass, and those of them that are checkpointing's Python."""
    n = len(quantised_shapes(a, adapter))
    forward, back = units[0] + UNPACKS[0] * n, units[1] + UNPACKS[1] * n
    hooks = (a.num_hidden_layers + 0.5) * forward * CHECKPOINTS * again
    return (a.num_hidden_layers + 0.5) * (forward * (1 + again) + back * backward) + hooks, hooks


def _written(a: Architecture, again: int, backward: int) -> int:
    """Numbers a token that one layer's large products write: outputs, and gradients of inputs."""
    d, q, kv, f = a.hidden_size, a.query_size, a.key_value_size, a.intermediate_size
    return (1 + again) * (q + 2 * kv + d + 2 * f + d) + backward * (3 * d + q + 2 * d + f)


def unpacked_bytes(architecture: Architecture, adapter: Adapter, element: int) -> float:
    """Bytes that eager kernels move to unpack every weight of QLoRA once; they are unpacked anew in every pass."""
    shapes = quantised_shapes(architecture, adapter)
    return float(architecture.num_hidden_layers * nf4.elements(shapes) * nf4.traffic(element))


def _layer_traffic(a: Architecture, adapter: Adapter, e: int) -> tuple[float, float, float]:
    """Bytes a token that one layer's elementwise kernels move, forward and backward, and its adapters' part of either.

    Counted from the kernels of simulated steps (within 6 %): an fp32 RMSNorm of the residual stream takes 10 reads or
    writes of 4 bytes, RoPE 12, an adapter 6 of its output and one of its input. Large products are not in here: what
    they read hides behind their arithmetic, what they write is `written_bytes`.
    """
    d, q, kv, f = a.hidden_size, a.query_size, a.key_value_size, a.intermediate_size
    stream = (36 + 2 * e) * (2 * d + norms_heads(a) * (q + kv)) + (44 + 2 * e) * (q + kv) + 4 * e * q + 6 * e * d
    adapters = sum(e * inner + 6 * e * outer for inner, outer in adapted_shapes(a, adapter))
    return float(stream + 5 * e * f + adapters), 2.15 * stream + 9 * e * f + adapters, float(adapters)


def _head_traffic(a: Architecture, e: int) -> tuple[float, float]:
    """Bytes a token that the loss moves, forward and backward: upcast, log-softmax and its gradient."""
    cast = 6 if e < 4 else 0
    return (8.5 + cast) * a.vocab_size, (15.0 + cast) * a.vocab_size


def _layer_launches(adapter: Adapter) -> tuple[float, float]:
    """Kernels of one layer forward and backward, in units of a layer with LoRA on q, v, output and the MLP.

    72 and 111 kernels, counted in simulated steps; one launched from Python takes about 1.4 times one of autograd's.
    """
    adapted = len(adapter.attn_modules) + 3 * adapter.apply_to_mlp
    whole = 1.4 * 72 + 111
    return 1.4 * (48 + 4 * adapted) / whole, (75 + 6 * adapted) / whole
