"""How long one evaluation cell takes: start-up, then generating an answer to every sample."""

from __future__ import annotations

import math

from runplan.estimate import intervals
from runplan.estimate.calibrated import Calibration
from runplan.estimate.chips import prior
from runplan.estimate.workload import Gpu, Interval
from runplan.facts import Architecture, Lengths

IMPORT_S = 20.0
"""Inspect AI and transformers on a cluster's file system (13-16 s for 100 samples of a tiny model on a quiet CPU)."""
DECODE_LAYER_S = 1.3e-3
"""One layer of one decoding step in eager transformers, bound by kernel launches."""
ANSWER_PART = 0.5
"""Median of the longest answer of a batch over the longest allowed."""
SAMPLE_S = 0.01
"""Scoring and logging one sample."""


def cell_time(
    architecture: Architecture,
    gpu: Gpu,
    lengths: Lengths,
    max_tokens: int,
    batch_size: int,
    calibration: Calibration,
) -> Interval:
    """Seconds of one evaluation cell, p50 and p95; wide, since answers may stop anywhere.

    A decoding step reads all weights once, however large the batch; small models are bound by launches instead.

    Args:
        architecture: of the evaluated model (adapters merged or not matter little).
        gpu: what it runs on.
        lengths: prompts of the test samples.
        max_tokens: longest answer.
        batch_size: samples generated together.
        calibration: what logs taught; start-up is learnt from it.
    """
    constants = calibration.speed(gpu, lengths).constants(gpu)
    weights_s = 2.0 * architecture.params / (gpu.memory_bandwidth_gb_per_s * 1e9 * math.exp(constants.bandwidth))
    # A host that launches training kernels faster than expected decodes faster, too.
    launch_s = architecture.num_hidden_layers * DECODE_LAYER_S * math.exp(constants.layer_s - prior(gpu).layer_s)
    prompt_flop = 2.0 * architecture.matmul_params * lengths.tokens
    prompts_s = prompt_flop / (gpu.bf16_tflops * 1e12 * 0.3)
    batches = math.ceil(lengths.rows / max(1, batch_size))
    answers_s = batches * max_tokens * ANSWER_PART * max(weights_s, launch_s)
    generation = intervals.from_median(answers_s + prompts_s + lengths.rows * SAMPLE_S, 0.5)
    loading = calibration.overheads(gpu).startup.of(IMPORT_S, 2.0 * architecture.params / 0.6e9)
    return intervals.total([loading, generation])
