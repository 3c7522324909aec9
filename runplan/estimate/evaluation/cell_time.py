"""How long one evaluation cell takes: start-up, then generating an answer to every sample."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from runplan.estimate import intervals
from runplan.estimate.calibration import Calibration
from runplan.estimate.evaluation.answers import Asker
from runplan.estimate.evaluation.generation import Asked, generation_s
from runplan.estimate.evaluation.learnt import Setting, Speed
from runplan.estimate.memory.weights import ELEMENT_BYTES
from runplan.estimate.speed.gpu_constants import Constants, prior
from runplan.estimate.wall_time.overheads import GB, READ_GB_PER_S
from runplan.estimate.workload import Gpu, Interval
from runplan.facts import Architecture, Lengths
from runplan.units import number_of

IMPORT_S = 20.0
"""Inspect AI and transformers on a cluster's file system (7-13 s on a quiet CPU)."""
ANSWER_PART = 0.5
"""Median of the longest answer of a batch over the longest allowed, where no log of the task tells."""
SPEED_SIGMA, ANSWER_SIGMA = 0.4, 0.3
"""Standard deviations of the logarithm without logs, 0.5 together: of the machine's speed, of the answers' length."""


@dataclass(frozen=True)
class Evaluation:
    """What is evaluated, as far as it decides on time."""

    architecture: Architecture
    gpu: Gpu
    lengths: Lengths
    """Prompts of the test samples."""
    max_tokens: int
    batch_size: int
    function: str = ""
    script: str | None = None
    """Name of the task's file with that of its folder."""
    tuned: bool | None = None
    args: Mapping[str, Any] = field(default_factory=dict, compare=False)


class CellTime(NamedTuple):
    """Seconds of a cell, and what is behind them."""

    time_s: Interval
    logs: int = 0
    """Logs of earlier evaluations that count."""
    evidence: str = ""


def cell_time(evaluation: Evaluation, calibration: Calibration) -> CellTime:
    """Seconds of one evaluation cell, p50 and p95; wide without logs of evaluations, since answers may stop anywhere.

    Args:
        evaluation: what is planned.
        calibration: what logs taught.
    """
    known = calibration.evaluations.remembered
    key = (evaluation, repr(evaluation.args))
    if key not in known:
        known[key] = _cell_time(evaluation, calibration)
    found: CellTime = known[key]
    return found


def _cell_time(e: Evaluation, calibration: Calibration) -> CellTime:
    learnt = calibration.evaluations
    setting = Setting(e.architecture, e.gpu, e.function, e.script, e.tuned, max(1, e.batch_size))

    def constants(gpu: Gpu) -> Constants:
        """What training logs say of the planned GPU, papers of others."""
        return calibration.speed(gpu, e.lengths).constants(gpu) if gpu == e.gpu else prior(gpu)

    tokens = max(1.0, e.max_tokens * ANSWER_PART)
    asker = Asker(e.architecture, e.tuned, setting.batch_size, e.max_tokens, e.args)
    answers = learnt.answers(e.function, e.script, asker, tokens)
    doubt = ANSWER_SIGMA
    if answers is not None:  # no answer is longer than the longest allowed
        tokens = answers.tokens
        doubt = min(answers.sigma, math.log(max(e.max_tokens, tokens) / tokens) / intervals.Z95)
    parts = generation_s(
        e.architecture, e.gpu, Asked(e.lengths.rows, e.lengths.tokens, e.batch_size), tokens, constants(e.gpu)
    )
    speed = learnt.speed(setting, constants)
    generation = speed.parts.of(parts.waiting, parts.model)
    spread = min(SPEED_SIGMA, intervals.sigma(generation)) if speed.n else SPEED_SIGMA
    if (speed.n or answers) and generation.p50:
        doubt *= min(1.0, parts.answers * math.exp(speed.parts.factors[1]) / generation.p50)
    generation = intervals.from_median(generation.p50, math.hypot(spread, doubt))
    started = learnt.startup(e.gpu, usual_startup, calibration.overheads(e.gpu).startup)
    total = intervals.total([started.of(*usual_startup(e.architecture)), generation])
    told = answers.n if answers else 0
    return CellTime(total, max(speed.n, told), _described(speed, told, tuned=e.tuned))


def usual_startup(architecture: Architecture) -> tuple[float, float]:
    """Usual seconds of imports, and of reading a model in bf16 from where training reads it."""
    return IMPORT_S, ELEMENT_BYTES["bf16"] * architecture.params / (READ_GB_PER_S * GB)


def _described(speed: Speed, answers: int, *, tuned: bool | None) -> str:
    """What a time was learnt from, in words; empty for nothing."""
    if not speed.n:
        tell = "tells" if answers == 1 else "tell"
        return f"{number_of(answers, 'log')} of the same task, which {tell} its answers' length" if answers else ""
    alike = "this task, model and GPU" if speed.same == speed.n else f"{speed.same} of this task, model and GPU"
    alike += {True: ", fine-tuned", False: ", not fine-tuned", None: ""}[tuned]
    guess = "" if answers else "; the length of its answers is a guess"
    return f"{number_of(speed.n, 'log')} of earlier evaluations ({alike}){guess}"
