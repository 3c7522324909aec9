"""Which trainers run the same kernels, and how much less a log of another one says about speed."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from runplan.estimate.workload import TRL

if TYPE_CHECKING:
    from runplan.estimate.speed.observation import Observation

TRANSFORMERS = frozenset({TRL, "hf", "axolotl", "llama-recipes"})
"""Trainers of transformers' layers with PEFT's adapters."""
OTHER_KERNELS, OTHER_VERSION = 0.2, 0.15
"""Standard deviations (of the logarithm) that a log adds whose trainer runs other kernels for the same model; and one
of another version of TRL, or of another trainer of the same kernels. Constants that torchtune taught are 8 and 4 % off,
on average, for published runs of transformers' layers on A100 and L40S, whose stacks are 7 % apart (benchmarks/)."""


_OTHER_LOSS = (0, 3)
"""From this version on torchtune hands the loss its logits as rows: before, torch's softmax took one block a sequence,
which made steps of 8B 15 to 45 % longer (milabench's A100; benchmarks/later.py)."""


def heard_by(seen: Observation, trainer: str, version: str = "") -> Observation:
    """The log as a plan for a trainer takes it: with more noise where other code ran."""
    ran = seen.run.trainer or "torchtune"
    if ran == trainer:
        other = OTHER_VERSION if ran == TRL and version and seen.run.trainer_version != version else 0.0
        if ran == "torchtune" and _is_older(seen.run.trainer_version) and not _is_older(version):
            other = OTHER_KERNELS
    else:
        other = OTHER_VERSION if {ran, trainer} <= TRANSFORMERS else OTHER_KERNELS
    return replace(seen, noise=math.hypot(seen.noise, other)) if other else seen


def _is_older(version: str | None) -> bool:
    """Whether a version of torchtune is known to compute its loss in the old way."""
    found = re.match(r"(\d+)\.(\d+)", version or "")
    return found is not None and (int(found[1]), int(found[2])) < _OTHER_LOSS
