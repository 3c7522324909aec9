"""Which trainers run the same kernels, and how much less a log of another one says about speed."""

from __future__ import annotations

import math
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


def heard_by(seen: Observation, trainer: str, version: str = "") -> Observation:
    """The log as a plan for a trainer takes it: with more noise where other code ran."""
    ran = seen.run.trainer or "torchtune"
    if ran == trainer:
        other = OTHER_VERSION if ran == TRL and version and seen.run.trainer_version != version else 0.0
    else:
        other = OTHER_VERSION if {ran, trainer} <= TRANSFORMERS else OTHER_KERNELS
    return replace(seen, noise=math.hypot(seen.noise, other)) if other else seen
