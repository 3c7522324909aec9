"""GPUs and models beside each other: types that are sold under one name, what is no larger than what.

A log that says `a100` leaves its memory open, but tells of its speed.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping

from runplan.estimate.memory import torchtune_step
from runplan.estimate.speed.observation import UNKNOWN_GPU, Observation, contradiction, find_gpu
from runplan.estimate.workload import Gpu
from runplan.facts import Architecture

VARIANT = 0.15
"""How far cards of one name differ in speed (standard deviation of the logarithm): A100 by their bandwidth, 1555 to
2039 GB/s, H100 by their form."""

SAME_MEMORY = 0.98
"""GPUs of one size differ by less than the rest of this in what drivers leave of it (A100 79.15, H100 79.10 GiB)."""


def variants(name: str | None, gpus: Mapping[str, Gpu]) -> tuple[Gpu, ...]:
    """Whole cards that a name may mean, the one with most memory first; none where it says nothing.

    >>> cards = {"a100-40": Gpu("a100-40", 39.5, 1555, 312, 19.5), "a100-80": Gpu("a100-80", 79.1, 2039, 312, 19.5)}
    >>> [gpu.name for gpu in variants("NVIDIA_A100", cards)]
    ['a100-80', 'a100-40']
    """
    words = set(re.split(r"[^a-z0-9]+", (name or "").lower()))
    found = [gpu for key, gpu in gpus.items() if key != "cpu" and "-mig-" not in key and key.split("-")[0] in words]
    return tuple(sorted(found, key=lambda gpu: (-gpu.memory_gib, gpu.name)))


def placed(seen: Observation, target: Gpu, gpus: Mapping[str, Gpu]) -> Observation:
    """A log whose GPU type is open, on the type that is planned for if its name allows that.

    A log without any name is put there, too, and stays one of unknown GPU.
    """
    cards = variants(seen.run.gpu, gpus)
    gpu = next((card for card in cards if card.name == target.name), cards[0]) if cards else target
    task = dataclasses.replace(seen.task, gpu=gpu)
    doubt = math.hypot(seen.tokens_sigma, VARIANT if cards else UNKNOWN_GPU)
    outlier = contradiction(task, seen.seconds, doubt) if seen.tokens_known else ""
    noise = math.sqrt(seen.noise**2 - UNKNOWN_GPU**2 + VARIANT**2) if cards else seen.noise
    return dataclasses.replace(seen, task=task, noise=noise, gpu_known=bool(cards), outlier=outlier)


def least_gpu(name: str | None, gpus: Mapping[str, Gpu]) -> Gpu | None:
    """The GPU type that a log names; of several that its name may mean, that with the least memory."""
    return find_gpu(name, gpus) or next(reversed(variants(name, gpus)), None)


def is_no_smaller(gpu: Gpu, other: Gpu) -> bool:
    """Whether what does not fit a GPU does not fit the other either: it has no more memory, and needs no more."""
    masked, other_masked = (one.name.startswith(torchtune_step.NO_FLEX_ATTENTION) for one in (gpu, other))
    return gpu.memory_gib >= SAME_MEMORY * other.memory_gib and masked <= other_masked


def is_no_larger(a: Architecture, other: Architecture) -> bool:
    """Whether a model is the other, or of its family and smaller in all that its memory grows with."""
    return a == other or (
        a.family == other.family and all(mine <= theirs for mine, theirs in zip(_sizes(a), _sizes(other), strict=True))
    )


def _sizes(a: Architecture) -> tuple[float, ...]:
    return a.params, a.num_hidden_layers, a.hidden_size, a.intermediate_size, a.query_size, a.vocab_size
