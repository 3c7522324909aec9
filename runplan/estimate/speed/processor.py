"""How long a processor computes one batch of a step: for tiny models, tests and machines without a GPU.

A processor does its own launching, so that everything adds up: large products, the narrow ones of adapters, attention,
elementwise kernels, and the Python and dispatch of every layer. Rates are one core's. Those of attention and of bf16's
products are of their kernels timed alone (torch 2.13, AVX-512 and AMX); all others are from torchtune's recipe on one
core and on two: 138 runs with steps of 5 ms to 1.5 s, widths of 64 to 512, both number formats (mean error 4 %;
two runs of one setting differ by 5 %).
"""

from __future__ import annotations

import math

from runplan.estimate.memory.weights import ELEMENT_BYTES, adapted_shapes, adapter_params
from runplan.estimate.speed.gpu_constants import Constants, peak_flops, prior
from runplan.estimate.speed.step import Step
from runplan.estimate.speed.work import Work
from runplan.estimate.workload import Gpu

CORES_PRODUCTS, CORES_ATTENTION, CORES_TRAFFIC, CORES_LAUNCHES = 0.79, 0.78, 0.69, 1.03
"""Powers of the number of cores by which products, attention and elementwise kernels get faster, and by which launching
gets slower, since every kernel wakes them; the latter two as far as tensors are large (`GRAIN`)."""
GRADIENT, UPDATE = 3.0, 12.0
"""Times that every number of the adapters is read or written: its gradient, which is added to what accumulated; and by
AdamW, whose kernels on processors (a loop over tensors) take 22 accesses, half of them to caches."""
GRAIN = 32768
"""Elements below which torch computes a tensor on one core (at::internal::GRAIN_SIZE)."""
NARROW, NARROW_ADAPTER, FEW = 52.0, 26.0, {"fp32": 50.0, "bf16": 21.0}
"""Widths of a layer, ranks, and tokens at which products reach half their speed."""
CACHE_BYTES, CACHED = 7.7e5, 0.54
"""Bytes of a tensor of the residual stream, for every core, of which half stays in caches; and the part of the time
that elementwise kernels take there."""
CACHE_WEIGHTS = 8e6
"""Bytes of the weights of all layers, for every core, of which caches hold half until the next batch reads them.
Products in bf16 pack all weights anew in every call."""
LAUNCHES_BF16, ELEMENTWISE_BF16 = 1.98, 1.12
"""Python and dispatch under bf16 over fp32, for more casts; and elementwise kernels for a byte, which they convert."""
NEW_PRODUCT_S = 2.15e-3
"""Compiling a product for another length under bf16 (oneDNN; the same for all layers)."""
SCORE_S = {"fp32": (0.5e-9, 0.085e-9), "bf16": (2.1e-9, 0.011e-9)}
"""Seconds of attention, forward and backward, for a score, and for every channel of its head."""
ROW_S = {"fp32": 0.114e-6, "bf16": 1.4e-6}
"""The same for a row of scores: bf16's backward pass gathers every row anew."""
SHORT, ROW_SHORT_S = 192, 1.15e-6
"""Tokens below which bf16's kernels take blocks of half as many rows, and what that adds to a row."""
MASK_BYTES = 8.0
"""Bytes of a dense mask that every head reads for a score: one number of fp32 forward, and one backward."""
FORWARD = {"fp32": 0.3, "bf16": 0.1}
"""The forward pass's part of that."""
BLOCK = 512
"""Scores beyond the causal diagonal are computed in blocks of so many keys."""


def batch_s(step: Step, done: Work, constants: Constants, *, forward_only: bool = False) -> float:
    """Seconds of the forward and backward pass of one batch, or of the forward pass alone, loading not included."""
    computing = _products(step, done) / peak_flops(step.gpu, step.dtype) / math.exp(constants.flops)
    computing /= math.pow(cores(step.gpu), CORES_PRODUCTS)
    attention = attention_s(step, forward_only=forward_only) * math.exp(prior(step.gpu).flops - constants.flops)
    attention /= math.pow(cores(step.gpu), CORES_ATTENTION)
    launching = _launching_s(step, done, constants) + _compiling_s(step, constants) * (0.5 if forward_only else 1.0)
    gradients = 0.0 if forward_only else GRADIENT * _adapters_s(step, constants)
    return computing + attention + _elementwise_s(step, done, constants) + gradients + launching


def update_s(step: Step, constants: Constants) -> float:
    """Seconds in which the optimizer reads and writes all that is trained, once a step."""
    return UPDATE * _adapters_s(step, constants)


def _adapters_s(step: Step, constants: Constants) -> float:
    """Seconds to read or write every number of the adapters once."""
    held = adapter_params(step.architecture, step.adapter) * ELEMENT_BYTES[step.dtype]
    return held / _rate(step, constants) / math.pow(cores(step.gpu), CORES_TRAFFIC)


def _rate(step: Step, constants: Constants) -> float:
    """Bytes a second that one core reads and writes."""
    return step.gpu.memory_bandwidth_gb_per_s * 1e9 * math.exp(constants.bandwidth)


def _products(step: Step, done: Work) -> float:
    """FLOP of all products but attention's, and what the small ones lose, in FLOP of large ones."""
    few = FEW[_dtype(step)] / (step.batch * step.tokens)
    layers = done.flop - done.adapter_flop - done.attention_flop
    wide = layers * (1 + few + NARROW / step.architecture.hidden_size)
    return wide + done.adapter_flop * (1 + few + NARROW_ADAPTER / step.adapter.rank)


def _dtype(step: Step) -> str:
    return "fp32" if step.dtype == "fp32" else "bf16"


def cores(gpu: Gpu) -> int:
    """Cores that compute; one where nothing says how many."""
    return max(1, gpu.cores)


def attention_s(step: Step, *, forward_only: bool = False) -> float:
    """Seconds that one core takes for the attention of one batch.

    A mask is dense: what packed rows, or padding, do not see is computed, too.
    """
    a = step.architecture
    dtype = _dtype(step)
    keys = max(step.tokens, step.span) if _is_masked(step) else (step.tokens + min(step.tokens, BLOCK)) / 2
    score, channel = SCORE_S[dtype]
    rows = step.batch * step.tokens * a.num_attention_heads * a.num_hidden_layers
    row = ROW_S[dtype] + ROW_SHORT_S * (dtype == "bf16" and step.tokens < SHORT)
    both = rows * (row + keys * (score + channel * a.query_size / a.num_attention_heads))
    return both * (FORWARD[dtype] if forward_only else 1 + FORWARD[dtype] * step.checkpointing)


def _elementwise_s(step: Step, done: Work, constants: Constants) -> float:
    held = _elements(step) * ELEMENT_BYTES[step.dtype]
    passing = held / (held + CACHE_BYTES * cores(step.gpu))
    rate = _rate(step, constants)
    moved = (done.bytes - done.weight_bytes) * (CACHED + (1 - CACHED) * passing) + _mask_bytes(step)
    moved *= 1.0 if step.dtype == "fp32" else ELEMENTWISE_BF16
    return moved / rate / _woken(step, CORES_TRAFFIC) + _weights_s(step, done, rate)


def _weights_s(step: Step, done: Work, rate: float) -> float:
    """Seconds in which products read weights: those that caches do not hold until the next batch, or pack all."""
    a = step.architecture
    held = a.num_hidden_layers * a.layer_params * ELEMENT_BYTES[step.dtype]
    passing = held / (held + CACHE_WEIGHTS * cores(step.gpu)) if step.dtype == "fp32" else 1.0
    return done.weight_bytes * passing / rate / math.pow(cores(step.gpu), CORES_TRAFFIC)


def _mask_bytes(step: Step) -> float:
    a = step.architecture
    scores = step.batch * step.tokens * max(step.tokens, step.span) * a.num_attention_heads * a.num_hidden_layers
    return MASK_BYTES * scores if _is_masked(step) else 0.0


def _is_masked(step: Step) -> bool:
    return step.packed or step.span >= step.tokens


def _launching_s(step: Step, done: Work, constants: Constants) -> float:
    casting = 1.0 if step.dtype == "fp32" else LAUNCHES_BF16
    return (
        (casting * (done.launches - done.hooks) + done.hooks)
        * math.exp(constants.layer_s)
        * _woken(step, CORES_LAUNCHES)
    )


def _compiling_s(step: Step, constants: Constants) -> float:
    if step.dtype == "fp32" or not step.varied:
        return 0.0
    each = NEW_PRODUCT_S * math.exp(constants.layer_s - prior(step.gpu).layer_s)
    return step.varied * each * _distinct_products(step)


def _distinct_products(step: Step) -> int:
    """Products of different shapes, forward and backward; those of adapters have a gradient of their weights, too."""
    a, rank = step.architecture, step.adapter.rank
    inner = {(a.hidden_size, a.query_size), (a.hidden_size, a.key_value_size), (a.query_size, a.hidden_size)}
    inner |= {(a.hidden_size, a.intermediate_size), (a.intermediate_size, a.hidden_size)}
    inner.add((a.hidden_size, a.vocab_size))
    adapted = adapted_shapes(a, step.adapter)
    narrow = {(width, rank) for width, _ in adapted} | {(rank, width) for _, width in adapted}
    return 2 * len(inner) + 3 * len(narrow)


def _elements(step: Step) -> float:
    """Elements of a tensor of the residual stream."""
    return step.batch * step.tokens * step.architecture.hidden_size


def _woken(step: Step, power: float) -> float:
    """The number of cores to a power, as far as the step's tensors are large enough for more than one."""
    elements = _elements(step)
    return math.exp(math.log(cores(step.gpu)) * power * elements / (elements + GRAIN))
