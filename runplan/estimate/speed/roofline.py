"""How long one optimizer step takes: a roofline with few constants a GPU type.

Eager kernels run one after the other, so matrix work and memory traffic add up; launching them from Python runs
beside that, so the slower of both counts. Short batches are bound by launches (layers), long ones by the GPU.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from runplan.estimate.memory import nf4
from runplan.estimate.memory.weights import (
    ELEMENT_BYTES,
    adapted_shapes,
    adapter_params,
    quantised_shapes,
    weight_bytes,
)
from runplan.estimate.speed import trl_kernels
from runplan.estimate.speed.gpu_constants import A100_TFLOPS, Constants, cache_bytes, is_amd, link_bytes_per_s, prior
from runplan.estimate.speed.step import Step
from runplan.estimate.workload import TRL, Adapter, Gpu
from runplan.facts import Architecture


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


COMPILED_TRAFFIC, COMPILED_ADAPTERS, COMPILED_UNPACKING = 0.12, 0.7, 0.2
"""Parts of the traffic that are left when kernels are fused: of elementwise kernels, from 7,075 to 8,998 tokens/s in
full fine-tuning of 3B (torchtune's README v0.6.1, optimization flags); of adapters, whose products read and write what
they did before, so that only sums and scaling are fused; of the 33 bytes a number that eager QLoRA moves to unpack its
weights, 4 and 14 are left in that README's two compiled pairs of rows."""
CACHED = 0.13
"""A tensor of the residual stream of so much of the cache makes half the elementwise traffic stay there: an L40S does
2,417 tokens/s in batches of 4 rows and 2,043 in batches of 24 (milabench); nothing else grows so with the batch."""
FILLED = 150.0
"""Tokens at which products on an A100 reach half their speed (smaller ones leave multiprocessors idle); chips need more
by as much as they are faster. From batches of 4, 8 and 24 rows on an H100 (milabench), and sequences of 256 to 8192
tokens of 7B and 14B on an A100 (Qwen's README, another trainer: the trend alone)."""
LOAD_ROW_S, LOAD_TOKEN_S = 1e-4, 0.8e-6
"""Python of making a batch: reading a row, tokenising and padding it (torchtune's instruct dataset and its collation,
whose lists of tokens become tensors, on a quiet server: 0.16 ms for 90 tokens, 0.9 ms for 1,030)."""
HOOKS, HOOKS_AMD = 1.3, 4.8
"""Python of FSDP's hooks and collectives for a layer, forward and backward, in units of launching one: 2.8 ms on four
H100 (milabench, batches of one row), 6 ms on eight MI325X and MI355X (milabench; a README of torchtune on MI355X)."""
MEETING, MEETING_SHARDED, MEETING_AMD = 4.0, 3.0, 1.0
"""Powers of the smooth maximum of what a GPU and its launches take. Several GPUs wait for each other at every layer, so
that one whose launches are late there makes all of them late: batches of 1 and 8 rows on four H100 and eight H200
(milabench). On AMD's GPUs they add up, which is a power of 1: steps of one MI325X take 1.1 s and 1.29 ms a token from
batches of 1 row to those of 64, of eight 2.8 s and 1.23 ms (milabench): it idles from one kernel to the next."""
CHECKPOINTS = 2.0
"""Python of torch's checkpointing of a layer, in units of its forward pass: hooks on every saved tensor, state of
random numbers. With the second forward pass a layer takes 2.85 times as long on a processor (torchtune's own layers,
widths of 16, rank 4: 2.78 against 0.98 ms); less on a GPU, where launches add to both."""
COMPILED_LAUNCHES = 0.4
"""Part of a layer's launching that is left when its kernels are fused (a guess)."""
LAUNCHES_A_LAYER = 180
"""Kernels of an eager layer, forward and backward: the unit of launching."""
ATTENTION_BACKWARD = 2.5
"""Arithmetic of attention's backward pass over that of its forward pass: five products for two (FlashAttention-2)."""
UNPACKS = (0.053, 0.064)
"""Unpacking one NF4 weight forward and backward, in units of a layer: 13 kernels and an autograd function in Python
(80 and 110 us more than a linear layer on a processor whose whole layer takes 1.75 ms, and 3 us for CUDA each)."""


def step_s(step: Step, constants: Constants) -> float:
    """Seconds of one optimizer step, without validation and checkpoints."""
    n_tensors = (
        2 * step.architecture.num_hidden_layers * (len(step.adapter.attn_modules) + 3 * step.adapter.apply_to_mlp)
    )
    batches = step.accumulation * micro_batch_s(step, constants)
    # Two launches a trained tensor: scaling its gradient, its share of the fused step.
    update = 2 * n_tensors * math.exp(constants.layer_s) / LAUNCHES_A_LAYER
    return batches + update + math.exp(constants.host_s) * (trl_kernels.HOST if step.trainer == TRL else 1.0)


def micro_batch_s(step: Step, constants: Constants, *, forward_only: bool = False) -> float:
    """Seconds of one forward and backward pass (or of the forward pass alone, as in validation)."""
    done = work(
        step.architecture,
        step.adapter,
        step.dtype,
        (step.checkpointing, step.packed, forward_only),
        step.batch * step.tokens,
        step.span,
        step.trainer,
    )
    on_gpu = gpu_s(step, done, constants)
    launching = done.launches * math.exp(constants.layer_s) * (COMPILED_LAUNCHES if step.compile else 1.0)
    # The trainer makes a batch itself, while the GPU still works on the one before; once a step the GPU has to wait.
    loading = _loading_s(step) * math.exp(constants.layer_s - prior(step.gpu).layer_s)
    launching += loading
    if step.gpu.name != "cpu" and not forward_only:
        on_gpu += loading / step.accumulation
    if step.gpus > 1:
        if step.trainer == TRL:
            on_gpu, launching = on_gpu / trl_kernels.KEPT_BY_DDP, launching * trl_kernels.LAUNCHES_OF_DDP
        else:
            gathering, hooks = gathering_s(step, forward_only=forward_only), _hooks_s(step, constants, forward_only)
            if is_amd(step.gpu):
                launching += _larger(gathering, hooks, MEETING)
            else:  # collectives run beside the products
                on_gpu, launching = math.hypot(on_gpu, gathering), launching + hooks
    # A processor does its own launching.
    if step.gpu.name == "cpu":
        return on_gpu + launching
    one = MEETING_AMD if is_amd(step.gpu) else MEETING
    return _larger(on_gpu, launching, min(one, MEETING_SHARDED) if step.gpus > 1 else one)


def _hooks_s(step: Step, constants: Constants, forward_only: bool) -> float:
    """Seconds that FSDP takes in Python for all layers."""
    each = HOOKS_AMD if is_amd(step.gpu) else HOOKS
    return each * step.architecture.num_hidden_layers * math.exp(constants.layer_s) * (0.5 if forward_only else 1.0)


def _loading_s(step: Step) -> float:
    """Seconds the trainer needs to make a batch; packs were tokenised before training."""
    if step.trainer == TRL:
        return step.batch * (trl_kernels.LOAD_ROW_S + trl_kernels.LOAD_TOKEN_S * step.tokens)
    return 0.0 if step.packed else step.batch * (LOAD_ROW_S + LOAD_TOKEN_S * step.tokens)


def gpu_s(step: Step, done: Work, constants: Constants) -> float:
    """Seconds the GPU itself is busy with `done`."""
    peak = peak_flops(step.gpu, step.dtype)
    tokens = step.batch * step.tokens
    # Small products leave multiprocessors idle; faster chips need more tokens to fill.
    filled = tokens / (tokens + FILLED * math.exp(constants.filling) * peak / (1e12 * A100_TFLOPS))
    products = done.flop / (peak * math.exp(constants.flops) * filled)
    weights, beside, unpacking = done.weight_bytes, done.adapter_bytes, done.unpacked_bytes
    elementwise = done.bytes - weights - beside - unpacking
    if step.compile:
        beside, elementwise = COMPILED_ADAPTERS * beside, COMPILED_TRAFFIC * elementwise
        unpacking *= COMPILED_UNPACKING
    # A tensor that the cache still holds is read from there.
    held = tokens * step.architecture.hidden_size * ELEMENT_BYTES[step.dtype]
    passing = 1 / (1 + (CACHED * cache_bytes(step.gpu) / held) ** 2)
    moved = weights + unpacking + passing * (beside + elementwise)
    return products + moved / (step.gpu.memory_bandwidth_gb_per_s * 1e9 * math.exp(constants.bandwidth))


def gathering_s(step: Step, *, forward_only: bool = False) -> float:
    """Seconds in which FSDP gathers all weights of the model once forward and once backward."""
    weights = weight_bytes(step.architecture, step.adapter, step.dtype) * (1 - 1 / step.gpus)
    return weights * (1 if forward_only else 2) / link_bytes_per_s(step.gpu)


def peak_flops(gpu: Gpu, dtype: str) -> float:
    """Peak FLOP/s of dense products in a number format."""
    return 1e12 * (gpu.fp32_tflops if dtype == "fp32" else gpu.bf16_tflops)


def _larger(a: float, b: float, power: float) -> float:
    """A smooth maximum: near the crossing both hinder each other, the more the lower the power."""
    top = max(a, b)
    low = min(a, b) / top
    return float(top * (1 + low**power) ** (1 / power))


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
    flop = (
        2 * blocks * (1 + backward) + 2 * head * heads + 2 * blocks * again + 2 * adapters * (1 + 2 * backward + again)
    )
    attention = 4 * a.num_hidden_layers * a.query_size * (1 + ATTENTION_BACKWARD * backward + again)
    element = ELEMENT_BYTES[dtype]
    layer = (*trl_kernels.layer_traffic(a, adapter, dtype), 0.0) if trl else _layer_traffic(a, adapter, element)
    logits = trl_kernels.head_traffic(a, dtype) if trl else _head_traffic(a, element)
    moved = a.num_hidden_layers * (layer[0] * (1 + again) + layer[1] * backward) + logits[0] + logits[1] * backward
    # Weights are read once a pass however few the tokens are.
    weights = float(element) * (blocks * (1 + backward + again) + head * heads)
    unpacked = unpacked_bytes(a, adapter, element) * (1 + backward + again)
    units = trl_kernels.layer_launches(adapter, dtype) if trl else _layer_launches(adapter)
    n = len(quantised_shapes(a, adapter))
    units = (units[0] + UNPACKS[0] * n, units[1] + UNPACKS[1] * n)
    launches = (a.num_hidden_layers + 0.5) * (units[0] * (1 + (1 + CHECKPOINTS) * again) + units[1] * backward)
    beside = a.num_hidden_layers * layer[2] * (1 + again + backward)
    return _PerToken(float(flop), float(attention), moved, weights, launches, beside, unpacked)


def unpacked_bytes(architecture: Architecture, adapter: Adapter, element: int) -> float:
    """Bytes that eager kernels move to unpack every weight of QLoRA once; they are unpacked anew in every pass."""
    shapes = quantised_shapes(architecture, adapter)
    return float(architecture.num_hidden_layers * nf4.elements(shapes) * nf4.traffic(element))


def _layer_traffic(a: Architecture, adapter: Adapter, e: int) -> tuple[float, float, float]:
    """Bytes a token that one layer's elementwise kernels move, forward and backward, and its adapters' part of either.

    Counted from the kernels of simulated steps (within 6 %): an fp32 RMSNorm of the residual stream takes 10 reads or
    writes of 4 bytes, RoPE 12, an adapter 6 of its output and one of its input. Large products are not in here, their
    traffic hides behind their arithmetic.
    """
    d, q, kv, f = a.hidden_size, a.query_size, a.key_value_size, a.intermediate_size
    stream = 2 * (36 + 2 * e) * d + (44 + 2 * e) * (q + kv) + 4 * e * q + 6 * e * d
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
