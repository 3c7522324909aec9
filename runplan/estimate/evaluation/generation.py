"""What generating answers takes by physics: Inspect's own waiting, prompts, and one decoding step after another."""

from __future__ import annotations

import math
from typing import NamedTuple

from runplan.estimate.speed.gpu_constants import Constants, prior
from runplan.estimate.workload import Gpu
from runplan.facts import Architecture

DECODE_LAYER_S = 1.3e-3
"""One layer of one decoding step in eager transformers, bound by kernel launches."""
SAMPLE_S = 0.01
"""Scoring and logging one sample."""
POLL_S = 1.05
"""A batch's samples ask once a second whether their answers are there (inspect_ai 0.3's Hugging Face provider), so a
batch takes about half of that longer than its answers, and never less: 22 batches take 24 s with 32 tokens as with
200 (a tiny model, recorded on a CPU)."""
DRAIN_S = 2.0
"""A batch that is not full waits so long for more samples (same provider)."""
PROMPT_SHARE = 0.3
"""Part of the peak FLOP/s that reading prompts reaches."""


class Asked(NamedTuple):
    """How much is generated."""

    samples: int
    prompt_tokens: float
    """Of all samples."""
    batch_size: int


class Parts(NamedTuple):
    """Seconds of an evaluation after start-up."""

    waiting: float
    """Of Inspect itself: the same on every machine."""
    prompts: float
    answers: float

    @property
    def model(self) -> float:
        """What the model takes."""
        return self.prompts + self.answers

    @property
    def total(self) -> float:
        """All together."""
        return self.waiting + self.model


def generation_s(
    architecture: Architecture, gpu: Gpu, asked: Asked, answer_tokens: float, constants: Constants
) -> Parts:
    """Usual seconds of generating answers, and of what Inspect does beside.

    A decoding step reads all weights once, however large the batch; small models are bound by launches instead, and
    processors by arithmetic.

    Args:
        architecture: of the evaluated model (adapters merged or not matter little).
        gpu: what it runs on.
        asked: samples, their tokens, and how many are generated together.
        answer_tokens: mean length of a batch's longest answer.
        constants: what is known of the GPU.
    """
    batch = max(1, asked.batch_size)
    batches = math.ceil(asked.samples / batch)
    weights_s = 2.0 * architecture.params / (gpu.memory_bandwidth_gb_per_s * 1e9 * math.exp(constants.bandwidth))
    # A host that launches training kernels faster than expected decodes faster, too.
    launch_s = architecture.num_hidden_layers * DECODE_LAYER_S * math.exp(constants.layer_s - prior(gpu).layer_s)
    peak = gpu.bf16_tflops * 1e12
    flop_s = 2.0 * architecture.matmul_params * min(batch, asked.samples) / (peak * math.exp(constants.flops))
    answers_s = batches * answer_tokens * max(weights_s, launch_s, flop_s)
    prompts_s = 2.0 * architecture.matmul_params * asked.prompt_tokens / (peak * PROMPT_SHARE)
    each = (answers_s + prompts_s) / max(1, batches)
    waits_s = batches * POLL_S * (1 + math.exp(-each / POLL_S)) / 2
    drain_s = DRAIN_S if asked.samples % batch else 0.0
    return Parts(waits_s + drain_s + asked.samples * SAMPLE_S, prompts_s, answers_s)
