"""GPU memory of one LoRA step of TRL 1.16.0's SFTTrainer in closed form: transformers 5.23, PEFT 0.21.2, eager.

Held against a simulation of the real model, adapters and loss on fake tensors, within 1 % (tests/test_estimate_trl.py).
Base weights are in the number format, adapters, their gradients and AdamW's moments always in fp32 (PEFT's
`autocast_adapter_dtype`); under bf16 every adapted layer keeps its own bf16 copy of its input. The loss multiplies with
the output head in tiles of 4,096 tokens by 32,768 of the vocabulary and never holds all logits.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from runplan.estimate.memory.activations import first_gradient_bytes, gradient_bytes
from runplan.estimate.memory.footprint import Footprint
from runplan.estimate.memory.torchtune_step import workspace_bytes
from runplan.estimate.memory.weights import ELEMENT_BYTES, adapted_shapes, adapter_params, norms_heads
from runplan.estimate.workload import Adapter
from runplan.facts import Architecture

_FP32 = 4
TILE_TOKENS, TILE_VOCABULARY = 4096, 32768
"""`TOKEN_CHUNK_SIZE` and `_CHUNKED_LOGPROB_CHUNK_SIZE` of the fused output head."""
LOSS_BYTES = 60
"""A token's own numbers in the loss: ids, labels, running maximum and sums, entropy, log-probability."""
IDS = 24
"""A token's id, label and mask or place, integers of 8."""


class Moment(NamedTuple):
    """Bytes at one possible peak, beside what is always there."""

    extra: float
    per_token: float
    masked: float
    """More bytes a token where rows of different length need a mask: keys and values are repeated for every head."""
    masks: float
    """Masks in the number format that are alive."""
    tile: bool = False
    """Whether a tile of logits is."""


@dataclass(frozen=True)
class TrlFootprint(Footprint):
    """Bytes of a training step; rows of different length need a mask, which a batch of one row does not."""

    peaks: tuple[Moment, ...] = ()
    element: int = 2
    packed: bool = False
    """Rows of all packs of a batch become one sequence, with one mask."""
    window: int | None = None
    """Tokens that each attends to: from sequences as long on, there is a mask, whatever the batch."""
    held_masks: int = 0
    """Masks of one byte an element that live until backward: recomputed blocks are given it again."""

    def peak_bytes(self, batch: int, tokens: int) -> float:
        """Allocated bytes at the peak with `batch` sequences padded to `tokens`."""
        n = batch * tokens
        masked = batch > 1 or self.packed or (self.window is not None and tokens >= self.window)
        pairs = masked * (n * n if self.packed else batch * tokens * tokens)
        positions = n if self.packed else tokens
        predicting = n - 1 if self.packed else batch * (tokens - 1)
        tile = self.element * TILE_VOCABULARY * min(predicting, TILE_TOKENS)
        most = max(
            one.extra + n * (one.per_token + masked * one.masked) + self.element * one.masks * pairs + one.tile * tile
            for one in self.peaks
        )
        return self.fixed + most + self.per_position * positions + self.held_masks * pairs


def layer_bytes(architecture: Architecture, adapter: Adapter, dtype: str) -> float:
    """Bytes a token that one block keeps for its backward pass without checkpointing and without a mask.

    Inputs of both norms in fp32 with their 1/std; q, k and v (not repeated: flash attention shares them between heads),
    attention's output and log-sum-exp; gate, its SiLU and up; inputs of the adapters' A and of their B.
    """
    a, e = architecture, ELEMENT_BYTES[dtype]
    norms = 2 * (_FP32 * a.hidden_size + 4) + _head_norm_bytes(a, ("q_proj", "k_proj"))
    attention = 2 * e * a.query_size + 2 * e * a.key_value_size + 4 * a.num_attention_heads
    return norms + attention + 3 * e * a.intermediate_size + _adapted_layer_bytes(a, adapter, dtype)


def _head_norm_bytes(a: Architecture, of: Iterable[str]) -> int:
    """Bytes a token that norms of heads keep, where there are any: what they were given in fp32, and their 1/std."""
    heads = {"q_proj": a.num_attention_heads, "k_proj": a.num_key_value_heads}
    return norms_heads(a) * sum(_FP32 * heads[name] * (a.head_dim + 1) for name in of if name in heads)


def _adapted_layer_bytes(a: Architecture, adapter: Adapter, dtype: str) -> float:
    """What adapters keep: in fp32 the input that layers share, in bf16 (or after dropout) a copy of each their own."""
    e = ELEMENT_BYTES[dtype]
    shapes = adapted_shapes(a, adapter)
    kept = float(e * adapter.rank * len(shapes))
    inputs = sum(inner for inner, _ in shapes)
    if adapter.dropout > 0:
        return kept + (e + 1) * inputs
    if dtype != "fp32":
        return kept + e * inputs
    qkv = bool(set(adapter.attn_modules) & {"q_proj", "k_proj", "v_proj"})
    return kept + e * (a.hidden_size * (qkv + adapter.apply_to_mlp) + a.intermediate_size * adapter.apply_to_mlp)


def repeated_bytes(a: Architecture, e: int) -> float:
    """Bytes a token that keys and values take more once they are repeated for every head; one head is only viewed."""
    if a.num_key_value_heads == 1:
        return 0.0
    return 2.0 * e * (a.query_size - a.key_value_size)


def _first_layer_bytes(a: Architecture, adapter: Adapter, e: int) -> tuple[float, float]:
    """Bytes a token (and more of them where there is a mask) that the first block need not keep.

    Nothing before its first adapter is trained; what that one's dropout dropped is forgotten, too.
    """
    norm, dropped = _FP32 * a.hidden_size + 4, adapter.dropout > 0
    norm += _head_norm_bytes(a, {"q_proj", "k_proj"} - set(adapter.attn_modules))
    if inputs := set(adapter.attn_modules) & {"q_proj", "k_proj", "v_proj"}:
        return float(norm + dropped * len(inputs) * a.hidden_size), 0.0
    attention = 2 * e * a.query_size + 2 * e * a.key_value_size + 4 * a.num_attention_heads
    if adapter.attn_modules:
        return float(norm + attention + dropped * a.query_size), repeated_bytes(a, e)
    norm += _FP32 * a.hidden_size + 4
    return float(norm + attention + dropped * 2 * a.hidden_size), repeated_bytes(a, e)


def _block_backward_bytes(a: Architecture, adapter: Adapter, dtype: str) -> float:
    """Bytes a token of gradients inside the block whose backward runs, beside what it keeps.

    In fp32 those of the MLP's product and of its factors, when the last layer's input (and what dropout knew of it) is
    gone. In bf16 the larger of two moments. At the MLP's last layer: two gradients of its output, and that of its input
    becomes one in fp32, twice with dropout. At the norm behind it, when the MLP is through: five gradients in fp32.
    """
    d, f, e, dropped = a.hidden_size, a.intermediate_size, ELEMENT_BYTES[dtype], adapter.dropout > 0
    if dtype == "fp32":
        return 4 * d + (8 - dropped if adapter.apply_to_mlp else 12) * f
    mlp = 4 * d + (4 + 2 * dropped) * f if adapter.apply_to_mlp else 2 * d + 6 * f
    through = 3 * e * f + (e + dropped) * (2 * d + f) * adapter.apply_to_mlp
    return max(mlp, 5 * _FP32 * d + e * d - through)


def _block_recomputed_bytes(a: Architecture, adapter: Adapter, dtype: str) -> float:
    """Bytes a token at the end of recomputing a block, beside what it keeps: when its last layer's A has its input.

    Two gradients, the frozen layer's output, the block's middle and its norm, the product that is the input, PEFT's
    fp32 copy of it and dropout's result. fp32 makes no copies; it keeps the middle and what A gets.
    """
    d, f, e, dropped = a.hidden_size, a.intermediate_size, ELEMENT_BYTES[dtype], adapter.dropout > 0
    if not adapter.apply_to_mlp:
        return 0.0
    if dtype == "fp32":
        return float(e * (3 * d + dropped * (d + f)))
    return float(5 * e * d + (e + _FP32 * (1 + dropped)) * f)


def _last_layer_bytes(a: Architecture, adapter: Adapter, dtype: str) -> float:
    """Bytes a token in forward of the last adapted layer, beside what is kept: PEFT takes its input to fp32.

    The product that is its input; embeddings, block's input, middle and norm; the layer's, B's and the scaled output.
    Of these fp32 keeps all that is normed, and without dropout what A gets. Before there are the last two, dropout's
    result is there in fp32.
    """
    d, f, e, dropped = a.hidden_size, a.intermediate_size, ELEMENT_BYTES[dtype], adapter.dropout > 0
    if not adapter.apply_to_mlp:
        return 0.0
    if dtype == "fp32":
        return float(e * (4 * d + dropped * (d + f)))
    return float(max((_FP32 + e) * f + 7 * e * d, dropped * ((2 * _FP32 + e) * f + 5 * e * d)))


@lru_cache(maxsize=4096)
def footprint(
    architecture: Architecture,
    adapter: Adapter,
    dtype: str,
    mode: tuple[bool, bool, bool, bool],
    _loss_chunks: int,
    gpus: int,
    gpu: str,
) -> TrlFootprint:
    """What one GPU holds; `mode` is (activation checkpointing, packed, gradients accumulated, compiled).

    Every GPU holds the whole model (DDP), and beside its gradients a bucket for those that are exchanged.
    """
    checkpointing, packed, accumulated, _ = mode
    a, e, n_adapter = architecture, ELEMENT_BYTES[dtype], adapter_params(architecture, adapter)
    fixed = e * a.params + _FP32 * n_adapter * (3 + accumulated + (gpus > 1)) + workspace_bytes(gpu)
    # bf16 copies of the adapters, as long as a block's backward may need them; gradients, all there in the end
    copies = float(e * n_adapter if dtype != "fp32" else 0)
    others, gradients = (0.0, 0.0) if accumulated else gradient_bytes(a, adapter, _FP32)
    first = 0.0 if accumulated else first_gradient_bytes(a, adapter, _FP32)
    late = copies / a.num_hidden_layers + others - first, copies / a.num_hidden_layers + others
    peaks = (_recomputed_peaks if checkpointing else _kept_peaks)(a, adapter, dtype, copies, late)
    peaks = (*peaks, Moment(gradients, 0.0, 0.0, 0.0))
    per_token = tuple((one.extra, one.per_token) for one in peaks)
    per_position = 2.0 * e * a.head_dim + 8
    return TrlFootprint(
        fixed, per_token, per_position, 0.0, peaks=peaks, element=e, packed=packed,
        window=a.sliding_window, held_masks=int(checkpointing),
    )  # fmt: skip


def _loss_bytes(a: Architecture, e: int) -> float:
    """Bytes a token that the final norm keeps, and the loss: hidden states of its own and their gradient in fp32."""
    return (2 * _FP32 + (e if e == _FP32 else 2 * e)) * a.hidden_size + 4 + LOSS_BYTES


def _recomputed_peaks(
    a: Architecture, adapter: Adapter, dtype: str, copies: float, late: tuple[float, float]
) -> tuple[Moment, ...]:
    """In the loss, forward and backward; in the last block, recomputed and in backward; in the first one.

    Autocast holds its copies of the adapters until forward ends. At the first block the others' gradients are there,
    in its backward the last layer's, too (`late`).
    """
    e, layers = ELEMENT_BYTES[dtype], a.num_hidden_layers
    blocks, repeated = float(layers * e * a.hidden_size), repeated_bytes(a, e)
    kept = layer_bytes(a, adapter, dtype) + IDS
    if dtype == "fp32":
        kept -= _FP32 * a.hidden_size  # the kept input of the block is the very one that its norm keeps
    again, inside = _block_recomputed_bytes(a, adapter, dtype), _block_backward_bytes(a, adapter, dtype)
    own = e * a.hidden_size
    return (
        Moment(copies, blocks + (_FP32 + 2 * e) * a.hidden_size + 4 + LOSS_BYTES, 0.0, 0.0, tile=True),
        Moment(0.0, blocks + _loss_bytes(a, e), 0.0, 0.0, tile=True),
        Moment(copies / layers, blocks + kept + max(again, inside), repeated, 1.0),
        Moment(late[0], own + kept + again, repeated, 1.0),
        Moment(late[1], own + kept + inside, repeated, 1.0),
    )


def _kept_peaks(
    a: Architecture, adapter: Adapter, dtype: str, copies: float, late: tuple[float, float]
) -> tuple[Moment, ...]:
    """In the loss; in backward of the final norm, of the last block; forward there; the first block's backward.

    In forward the mask is there once more, as truth values; in the first block's backward all others' gradients are.
    """
    e, layers = ELEMENT_BYTES[dtype], a.num_hidden_layers
    kept, repeated = layer_bytes(a, adapter, dtype), repeated_bytes(a, e)
    first, first_repeated = _first_layer_bytes(a, adapter, e)
    blocks, gradients = layers * kept - first, _block_backward_bytes(a, adapter, dtype)
    masked, masks = layers * repeated - first_repeated, layers - (first_repeated > 0)
    return (
        Moment(copies, blocks + _loss_bytes(a, e), masked, masks, tile=True),
        Moment(copies, blocks + 6 * _FP32 * a.hidden_size + IDS, masked, masks),
        Moment(copies, blocks + gradients + IDS, masked, masks),
        Moment(copies, blocks + _last_layer_bytes(a, adapter, dtype) + IDS, masked, masks + 1 / e),
        Moment(late[1], kept + gradients - first + IDS, repeated, 1.0),
    )
