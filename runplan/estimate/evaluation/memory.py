"""GPU memory of an evaluation: weights spread over GPUs, and what a batch of answers takes beside them.

transformers' `device_map="auto"` gives each GPU whole blocks; the embedding lies on the first, the output head on the
last. One GPU works at a time, so that more of them hold more but are not faster.
"""

from __future__ import annotations

import math

from runplan.estimate.memory.outside_torch import context_gib
from runplan.estimate.workload import Gpu
from runplan.facts import Architecture
from runplan.units import GIB

BYTES_EACH = 2
"""Of a weight in the 16 bits that evaluation loads, and of a number that is computed."""
_FP32 = 4
MOST_GPUS = 64
"""Nobody evaluates on more; where the search for a number ends."""


def weights_gib(architecture: Architecture, gpus: int = 1) -> float:
    """Weights on the fullest of so many GPUs, in GiB."""
    a = architecture
    if gpus == 1:
        return a.params * BYTES_EACH / GIB
    return BYTES_EACH * (math.ceil(a.num_hidden_layers / gpus) * a.layer_params + a.embedding_params) / GIB


def answers_gib(architecture: Architecture, prompt_tokens: int, answer_tokens: int, batch: int, gpus: int = 1) -> float:
    """What a batch of answers takes on one of so many GPUs beside the weights, in GiB.

    Keys and values of every token for the GPU's own blocks, and the larger of two moments: three products of the MLP
    while prompts are read (`LlamaMLP.forward`: activation, product of the gate, their product, beside the residual
    stream and its norm), or the last token's logits in fp32 with what sampling makes of them. Prompts are padded to the
    longest.
    """
    a = architecture
    blocks = math.ceil(a.num_hidden_layers / gpus)
    cache = 2 * BYTES_EACH * a.key_value_size * blocks * batch * (prompt_tokens + answer_tokens)
    reading = BYTES_EACH * batch * prompt_tokens * (3 * a.intermediate_size + 2 * a.hidden_size)
    choosing = 2 * _FP32 * batch * a.vocab_size
    return (cache + max(reading, choosing)) / GIB


def room_gib(architecture: Architecture, gpu: Gpu, gpus: int) -> float:
    """What is left for answers on the fullest of so many GPUs, in GiB; below 0 where the weights alone do not fit."""
    return gpu.memory_gib - context_gib(gpu.name) - weights_gib(architecture, gpus)


def largest_batch(architecture: Architecture, gpu: Gpu, gpus: int, prompt_tokens: int, answer_tokens: int) -> int:
    """The largest power of two of samples that can be answered together; 0 where there is no room for one."""
    room, batch = room_gib(architecture, gpu, gpus), 1
    if answers_gib(architecture, prompt_tokens, answer_tokens, 1, gpus) > room:
        return 0
    while batch < 1 << 20 and answers_gib(architecture, prompt_tokens, answer_tokens, 2 * batch, gpus) <= room:
        batch *= 2
    return batch


def fewest_gpus(architecture: Architecture, gpu: Gpu, prompt_tokens: int, answer_tokens: int, batch: int = 1) -> int:
    """The fewest GPUs on which a batch of samples can be answered; `MOST_GPUS` where no number is enough."""
    counts = range(1, min(MOST_GPUS, architecture.num_hidden_layers) + 1)
    return next(
        (
            count
            for count in counts
            if answers_gib(architecture, prompt_tokens, answer_tokens, batch, count)
            <= room_gib(architecture, gpu, count)
        ),
        MOST_GPUS,
    )
