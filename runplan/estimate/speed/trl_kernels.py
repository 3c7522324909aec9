"""What TRL's step does otherwise than torchtune's, for `roofline.py`: the layers of transformers and PEFT.

Kernels and their traffic are counted from simulated steps (torch 2.13, transformers 5.23, PEFT 0.21.2): the difference
that one more layer makes, forward and backward. The seconds are measured on a processor beside torchtune's.
"""

from __future__ import annotations

from runplan.estimate.memory.weights import ELEMENT_BYTES, adapted_shapes, norms_heads
from runplan.estimate.workload import Adapter
from runplan.facts import Architecture

HOST = 4.0
"""Python of an optimizer step beside its batches over torchtune's: metrics gathered and read after every batch, a line
logged, callbacks (tiny model, rank 64, batch 4 on a quiet processor: 46 ms a step of TRL, 18 ms of torchtune)."""
LAUNCH = 1.14
"""Python and dispatch of a layer with adapters on q, v, output and the MLP over that of torchtune's (widths of 16: 1.36
against 1.19 ms in bf16, 1.28 against 1.14 in fp32; recomputed 2.99 against 2.91)."""
LOAD_ROW_S, LOAD_TOKEN_S = 1e-4, 2e-7
"""Python of making a batch of rows that are tokenised already: reading them from Arrow, lists that become tensors."""
KEPT_BY_DDP, LAUNCHES_OF_DDP = 0.97, 1.1
"""What several GPUs keep of one's speed, and what their hooks add: a guess, no published run of adapters says."""


def layer_traffic(a: Architecture, adapter: Adapter, dtype: str) -> tuple[float, float]:
    """Bytes a token that one layer's elementwise kernels move, forward and backward.

    Of the residual stream (norms in fp32, sums), of q and k (RoPE, and in Qwen3 norms of their own), of the MLP's width
    (SiLU and products), and of every adapted layer, whose input is cast from format to format under bf16: exact for
    simulated layers of Llama and Qwen3.
    """
    roped = a.query_size + a.key_value_size
    shapes = adapted_shapes(a, adapter)
    adapted = (sum(x for x, _ in shapes), sum(x for _, x in shapes))
    widths = (a.hidden_size, roped, a.intermediate_size, *adapted, roped * norms_heads(a))
    forward, backward = _PASSES["fp32" if dtype == "fp32" else "bf16"]
    return _dot(forward, widths), _dot(backward, widths)


_PASSES = {
    "bf16": ((84, 20, 10, 12, 10, 36), (208, 24, 18, 18, 4, 90)),
    "fp32": ((80, 40, 20, 0, 20, 28), (225, 48, 36, 12, 8, 82)),
}
"""Bytes a token forward and backward for every number of: residual stream, q and k, MLP, adapters' inputs and outputs,
and of q and k once more where their heads are normed."""


def _dot(bytes_each: tuple[int, ...], widths: tuple[int, ...]) -> float:
    return float(sum(each * width for each, width in zip(bytes_each, widths, strict=True)))


def head_traffic(a: Architecture, dtype: str) -> tuple[float, float]:
    """Bytes a token that the loss moves: a kernel reads every tile of logits, and makes its gradient in its place."""
    e = ELEMENT_BYTES[dtype]
    return float(e * a.vocab_size), 2.0 * e * a.vocab_size


def layer_launches(a: Architecture, adapter: Adapter, dtype: str) -> tuple[float, float]:
    """Kernels of one layer forward and backward, in the units of `roofline._layer_launches`.

    Under bf16 86 and 116 with six adapted layers, 54 and 76 with two, of which some cast; 58 and 88 in fp32. Qwen3's
    norms of q and k are 16 and 28 more, 12 and 24 in fp32.
    """
    adapted = len(adapter.attn_modules) + 3 * adapter.apply_to_mlp
    base, each, whole = ((38, 56), (8, 10), (86, 116)) if dtype != "fp32" else ((34, 52), (4, 6), (58, 88))
    norms = (0, 0) if not norms_heads(a) else (16, 28) if dtype != "fp32" else (12, 24)
    unit = LAUNCH / (1.4 * whole[0] + whole[1])
    forward, backward = (base[i] + each[i] * adapted + norms[i] for i in (0, 1))
    return unit * 1.4 * forward, unit * backward
