"""GPU memory of one LoRA step of TRL 1.16.0's SFTTrainer in closed form: transformers 5.23, PEFT 0.21.2, eager.

Held against a simulation of the real model, adapters and loss on fake tensors, within 1 % (tests/test_estimate_trl.py).
Base weights are in the number format, adapters, their gradients and AdamW's moments always in fp32 (PEFT's
`autocast_adapter_dtype`); under bf16 every adapted layer keeps its own bf16 copy of its input. The loss multiplies with
the output head in tiles of 4,096 tokens by 32,768 of the vocabulary and never holds all logits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from runplan.estimate.memory.activations import gradient_bytes
from runplan.estimate.memory.footprint import Footprint
from runplan.estimate.memory.torchtune_step import workspace_bytes
from runplan.estimate.memory.weights import ELEMENT_BYTES, adapted_shapes, adapter_params
from runplan.estimate.workload import Adapter
from runplan.facts import Architecture

_FP32 = 4
TILE_TOKENS, TILE_VOCABULARY = 4096, 32768
"""`TOKEN_CHUNK_SIZE` and `_CHUNKED_LOGPROB_CHUNK_SIZE` of the fused output head."""
_LOSS_BYTES = 60
"""A token's own numbers in the loss: ids, labels, running maximum and sums, entropy, log-probability."""


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
    held_masks: int = 0
    """Masks of one byte an element that live until backward: recomputed blocks are given it again."""

    def peak_bytes(self, batch: int, tokens: int) -> float:
        """Allocated bytes at the peak with `batch` sequences padded to `tokens`."""
        n = batch * tokens
        masked = batch > 1 or self.packed
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
    norms = 2 * (_FP32 * a.hidden_size + 4)
    attention = 2 * e * a.query_size + 2 * e * a.key_value_size + 4 * a.num_attention_heads
    return norms + attention + 3 * e * a.intermediate_size + _adapted_layer_bytes(a, adapter, dtype)


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


def _repeated_bytes(a: Architecture, e: int) -> float:
    """Bytes a token that keys and values take more once they are repeated for every head; one head is only viewed."""
    if a.num_key_value_heads == 1:
        return 0.0
    return 2.0 * e * (a.query_size - a.key_value_size)


def _first_layer_bytes(a: Architecture, adapter: Adapter, e: int) -> tuple[float, float]:
    """Bytes a token (and more of them where there is a mask) that the first block need not keep.

    Nothing before its first adapter is trained.
    """
    norm = _FP32 * a.hidden_size + 4
    if set(adapter.attn_modules) & {"q_proj", "k_proj", "v_proj"}:
        return float(norm), 0.0
    attention = 2 * e * a.query_size + 2 * e * a.key_value_size + 4 * a.num_attention_heads
    return float((1 if adapter.attn_modules else 2) * norm + attention), _repeated_bytes(a, e)


def _block_backward_bytes(a: Architecture, adapter: Adapter, dtype: str, checkpointing: bool) -> float:
    """Bytes a token of gradients inside the block whose backward runs, at its MLP; read from simulated blocks."""
    d, f = a.hidden_size, a.intermediate_size
    if dtype == "fp32":
        return 4 * d + (8 if adapter.apply_to_mlp else 12) * f
    if adapter.apply_to_mlp:
        return (10 if checkpointing else 14) * d + 6 * f
    return 2 * d + 6 * f


def _last_layer_bytes(a: Architecture, adapter: Adapter, dtype: str) -> float:
    """Bytes a token in forward of the last adapted layer, beside what is kept: PEFT takes its input to fp32.

    The product that is its input; embeddings, block's input, middle and norm; the layer's, B's and the scaled output.
    """
    if dtype == "fp32" or not adapter.apply_to_mlp:
        return 0.0
    e = ELEMENT_BYTES[dtype]
    return (_FP32 + e) * a.intermediate_size + 7 * e * a.hidden_size


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
    late = copies / a.num_hidden_layers + others
    peaks = (_recomputed_peaks if checkpointing else _kept_peaks)(a, adapter, dtype, copies, late)
    peaks = (*peaks, Moment(gradients, 0.0, 0.0, 0.0))
    per_token = tuple((one.extra, one.per_token) for one in peaks)
    per_position = 2.0 * e * a.head_dim + 8
    return TrlFootprint(
        fixed, per_token, per_position, 0.0, peaks=peaks, element=e, packed=packed, held_masks=int(checkpointing)
    )


def _loss_bytes(a: Architecture, e: int) -> float:
    """Bytes a token that the final norm keeps, and the loss: hidden states of its own and their gradient in fp32."""
    return (2 * _FP32 + (e if e == _FP32 else 2 * e)) * a.hidden_size + 4 + _LOSS_BYTES


def _recomputed_peaks(a: Architecture, adapter: Adapter, dtype: str, copies: float, late: float) -> tuple[Moment, ...]:
    """In the loss, forward and backward; in the last block's backward; in the first one's, with all others' gradients.

    Autocast holds its copies of the adapters until forward ends.
    """
    e, layers = ELEMENT_BYTES[dtype], a.num_hidden_layers
    blocks, repeated = float(layers * e * a.hidden_size), _repeated_bytes(a, e)
    inside = layer_bytes(a, adapter, dtype) + _block_backward_bytes(a, adapter, dtype, checkpointing=True)
    if dtype == "fp32":
        inside -= _FP32 * a.hidden_size  # the kept input of the block is the very one that its norm keeps
    return (
        Moment(copies, blocks + (_FP32 + 2 * e) * a.hidden_size + 4 + _LOSS_BYTES, 0.0, 0.0, tile=True),
        Moment(0.0, blocks + _loss_bytes(a, e), 0.0, 0.0, tile=True),
        Moment(copies / layers, blocks + inside + 24, repeated, 1.0),
        Moment(late, inside + e * a.hidden_size + 24, repeated, 1.0),
    )


def _kept_peaks(a: Architecture, adapter: Adapter, dtype: str, copies: float, late: float) -> tuple[Moment, ...]:
    """In the loss; in backward of the final norm, of the last block; forward there; the first block's backward.

    In forward the mask is there once more, as truth values; in the first block's backward all others' gradients are.
    """
    e, layers = ELEMENT_BYTES[dtype], a.num_hidden_layers
    kept, repeated = layer_bytes(a, adapter, dtype), _repeated_bytes(a, e)
    first, first_repeated = _first_layer_bytes(a, adapter, e)
    blocks, gradients = layers * kept - first, _block_backward_bytes(a, adapter, dtype, checkpointing=False)
    masked, masks = layers * repeated - first_repeated, layers - (first_repeated > 0)
    return (
        Moment(copies, blocks + _loss_bytes(a, e), masked, masks, tile=True),
        Moment(copies, blocks + 24 * a.hidden_size + 24, masked, masks),
        Moment(copies, blocks + gradients + 24, masked, masks),
        Moment(copies, blocks + _last_layer_bytes(a, adapter, dtype) + 24, masked, masks + 1 / e),
        Moment(late, kept + gradients - first + 24, repeated, 1.0),
    )
