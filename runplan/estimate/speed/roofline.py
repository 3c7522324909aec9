"""How long one optimizer step takes: a roofline with few constants a GPU type.

Eager kernels run one after the other, so matrix work and memory traffic add up; launching them from Python runs
beside that, so the slower of both counts. Short batches are bound by launches (layers), long ones by the GPU.
"""

from __future__ import annotations

import math
from dataclasses import replace

from runplan.estimate.memory.weights import ELEMENT_BYTES, weight_bytes
from runplan.estimate.speed import processor, trl_kernels
from runplan.estimate.speed.gpu_constants import (
    A100_TFLOPS,
    Constants,
    cache_bytes,
    is_amd,
    link_bytes_per_s,
    peak_flops,
    prior,
)
from runplan.estimate.speed.step import Step
from runplan.estimate.speed.work import Work, work
from runplan.estimate.workload import TRL

COMPILED_TRAFFIC, COMPILED_ADAPTERS, COMPILED_UNPACKING = 0.07, 0.7, 0.2
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
SHARDED_UPDATE = 0.03
"""Python of scaling one sharded gradient and of its part in the optimizer's step, in units of launching a layer: 40 us
of torch's DTensor (5 us where nothing is sharded) on a processor on which that takes 1.05 ms, CUDA's part aside. Two
GPUs with 224 such tensors take 22 ms a step longer than one (ODISSEI's 1B on H100, which chose nothing)."""
WALKING = 2 * 130 * 4.0
"""Bytes of rows of logits that softmax walks along at the same time, over the vocabulary: two blocks of 1024 threads on
each of about 130 multiprocessors, in fp32."""
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
COMPILED_LAUNCHES = 0.4
"""Part of a layer's launching that is left when its kernels are fused (a guess)."""
LAUNCHES_A_LAYER = 180
"""Kernels of an eager layer, forward and backward: the unit of launching."""


def step_s(step: Step, constants: Constants) -> float:
    """Seconds of one optimizer step, without validation and checkpoints."""
    n_tensors = (
        2 * step.architecture.num_hidden_layers * (len(step.adapter.attn_modules) + 3 * step.adapter.apply_to_mlp)
    )
    batches = step.accumulation * micro_batch_s(step, constants)
    # Two launches a trained tensor: scaling its gradient, its share of the fused step.
    update = 2 * n_tensors * math.exp(constants.layer_s) / LAUNCHES_A_LAYER
    if step.gpus > 1 and step.trainer != TRL:
        update += SHARDED_UPDATE * n_tensors * math.exp(constants.layer_s)
    update += processor.update_s(step, constants) if step.gpu.name == "cpu" else 0.0
    return batches + update + math.exp(constants.host_s) * (trl_kernels.HOST if step.trainer == TRL else 1.0)


def compiled_part(step: Step) -> float:
    """The part of a step, before any log, in which a processor compiles products of new lengths."""
    constants = prior(step.gpu)
    return 1 - step_s(replace(step, varied=0.0), constants) / step_s(step, constants)


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
    # The trainer makes a batch itself, while the GPU still works on the one before; once a step the GPU has to wait.
    loading = _loading_s(step) * math.exp(constants.layer_s - prior(step.gpu).layer_s)
    if step.gpu.name == "cpu":
        return processor.batch_s(step, done, constants, forward_only=forward_only) + loading
    on_gpu = gpu_s(step, done, constants)
    launching = loading + done.launches * math.exp(constants.layer_s) * (COMPILED_LAUNCHES if step.compile else 1.0)
    if not forward_only:
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
    walks = WALKING * step.architecture.vocab_size > cache_bytes(step.gpu) and not step.compile
    walked = done.walked_bytes if walks else 0.0  # compiled it is read once
    moved = weights + unpacking + walked + passing * (beside + elementwise + done.written_bytes)
    return products + moved / (step.gpu.memory_bandwidth_gb_per_s * 1e9 * math.exp(constants.bandwidth))


def gathering_s(step: Step, *, forward_only: bool = False) -> float:
    """Seconds in which FSDP gathers all weights of the model once forward and once backward."""
    weights = weight_bytes(step.architecture, step.adapter, step.dtype) * (1 - 1 / step.gpus)
    return weights * (1 if forward_only else 2) / link_bytes_per_s(step.gpu)


def _larger(a: float, b: float, power: float) -> float:
    """A smooth maximum: near the crossing both hinder each other, the more the lower the power."""
    top = max(a, b)
    low = min(a, b) / top
    return float(top * (1 + low**power) ** (1 / power))
