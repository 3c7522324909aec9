"""Bytes of weights that FSDP shares out over GPUs, gathers, and reduces: torchtune 0.6.1's distributed recipes.

Every parameter is cut along its first dimension into equal parts, rounded up (`_get_dim0_padded_size`): an adapter of
rank 4 on 8 GPUs is gathered as one of rank 8. Blocks are gathered one by one; embedding, output and final norm are
what is left to the root (`training.shard_model`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from runplan.estimate.memory import nf4
from runplan.estimate.memory.weights import ELEMENT_BYTES, adapted_shapes, quantised_shapes
from runplan.estimate.workload import Adapter
from runplan.facts import Architecture


@dataclass(frozen=True)
class Sharded:
    """Bytes of what is shared out, all GPUs together, padding included; nothing is gathered on one GPU."""

    root: float = 0.0
    block: float = 0.0
    block_trained: float = 0.0
    """Those of a block's adapters."""
    root_trained: float = 0.0
    """Those of the output's adapter."""


def sharded(a: Architecture, adapter: Adapter, dtype: str, gpus: int) -> Sharded:
    """What FSDP gathers of the root and of one block; all 0 on one GPU."""
    if gpus == 1:
        return Sharded()
    e, shapes = ELEMENT_BYTES[dtype], quantised_shapes(a, adapter)
    own = e * _padded(_adapters(adapted_shapes(a, adapter), adapter), gpus)
    block = e * (_padded(_block(a), gpus) - nf4.elements(shapes)) + nf4.stored_bytes(shapes, e) + own
    head = e * _padded(_adapters([(a.hidden_size, a.vocab_size)] * adapter.apply_to_output, adapter), gpus)
    matrices = [(a.vocab_size, a.hidden_size)] * (1 if a.tie_word_embeddings else 2)
    root = e * _padded([*matrices, (a.hidden_size, 1)], gpus) + head
    return Sharded(float(root), float(block), float(own), float(head))


def _block(a: Architecture) -> list[tuple[int, int]]:
    """(rows, columns) of the parameters of one block; of those with one dimension a column."""
    d, q, kv, f = a.hidden_size, a.query_size, a.key_value_size, a.intermediate_size
    biases = [(q, 1), (kv, 1), (kv, 1)] if a.attention_bias else []
    return [(q, d), (kv, d), (kv, d), (d, q), (f, d), (f, d), (d, f), (d, 1), (d, 1), *biases]


def _adapters(shapes: Iterable[tuple[int, int]], adapter: Adapter) -> list[tuple[int, int]]:
    r = adapter.rank
    return [
        parameter
        for inner, outer in shapes
        for parameter in ((r, inner), (outer, r), *([(outer, 1)] if adapter.use_dora else []))
    ]


def _padded(parameters: Iterable[tuple[int, int]], gpus: int) -> int:
    """Numbers of parameters when each has as many rows on every GPU."""
    return sum(-(-rows // gpus) * gpus * columns for rows, columns in parameters)
