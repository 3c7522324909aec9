"""What logs of earlier evaluations teach: how long jobs take to start, models to generate, and answers get."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from runplan.estimate.chips import Constants, prior
from runplan.estimate.generation import Asked, Parts, generation_s
from runplan.estimate.observation import canonical, find_gpu
from runplan.estimate.two_parts import Timed, TwoParts, learn_parts
from runplan.estimate.workload import Gpu
from runplan.facts import Architecture
from runplan.priors.evaluated import PriorCell
from runplan.task_data import PATH_PARAMETERS

NOISE, NOISE_PROCESSOR = 0.13, 0.1
"""Standard deviation of the logarithm from one evaluation to the same again; what processors add to that."""
ROUNDING_S = 0.4
"""Inspect and job scripts write whole seconds."""
OTHER_GPU, OTHER_MODEL, OTHER_TASK = 0.35, 0.2, 0.1
"""Standard deviations that logs of another GPU type, model, or task add; all logs of one such kind err together."""
SPEED = TwoParts((0.0, 0.0), (0.2**2, 0.0, 0.8**2))
"""What is known before any log of Inspect's own waiting, and of what the model takes."""
ANSWER_SPREAD, ANSWER_NOISE = 1.0, 0.12
"""Of the logarithm of an answer's length: before any log, and from one model's answers to the same task's again."""
OTHER_MODEL_ANSWERS, OTHER_WEIGHTS_ANSWERS, OTHER_ARGS_ANSWERS = 0.35, 1.0, 0.3
"""What answers differ by from model to model, from a model as it is to a fine-tuned one, with other arguments."""
CUT = 0.9
"""Answers that are as long as this part of the longest allowed end there, and not by themselves."""
MOST_LOGS = 25
"""Newest logs of one setting that are looked at."""


class Setting(NamedTuple):
    """What decides how long an evaluation takes, and is known of a log."""

    architecture: Architecture
    gpu: Gpu
    function: str
    script: str | None
    tuned: bool | None
    batch_size: int


@dataclass(frozen=True)
class _Repeated:
    """Logs of one setting."""

    setting: Setting
    asked: Asked
    answer_tokens: float
    seconds: float
    """As the median of the logs, compared with what physics expects of each."""
    noise: float
    n: int


@dataclass(frozen=True)
class Target:
    """What is planned: its setting, and what decides on its answers."""

    setting: Setting
    max_tokens: int
    args: Mapping[str, Any]


class Answers(NamedTuple):
    """Mean length of a batch's longest answer: its median, standard deviation of its logarithm, and logs."""

    tokens: float
    sigma: float
    n: int


class Speed(NamedTuple):
    """Factors on what physics expects, and how many logs count, how many of them of the same task, model and GPU."""

    parts: TwoParts
    n: int
    same: int


class Evaluations:
    """What the logs taught, ready to be asked."""

    def __init__(self, cells: Iterable[PriorCell], models: Mapping[str, Architecture], gpus: Mapping[str, Gpu]) -> None:
        named = {canonical(name): found for name, found in models.items()} | dict(models)
        self.cells = tuple(cells)
        self._models = {cell.path: _model(cell, named) for cell in self.cells}
        self._gpus = {cell.path: find_gpu(cell.gpu, gpus) for cell in self.cells}
        self._timed = _repeated(self._seen())
        self._answered = [cell for cell in self.cells if cell.output_tokens and cell.max_tokens]

    def _seen(self) -> list[tuple[Setting, PriorCell]]:
        """Logs that measure speed."""
        found = []
        for cell in sorted(self.cells, key=lambda cell: -cell.modified_s):
            model, gpu = self._models.get(cell.path), self._gpus.get(cell.path)
            if model and gpu and cell.seconds and cell.samples and cell.output_tokens and cell.batch_size:
                found.append((Setting(model, gpu, cell.function, cell.script, cell.tuned, cell.batch_size), cell))
        return found

    def startup(self, gpu: Gpu, usual: Callable[[Architecture], tuple[float, float]], before: TwoParts) -> TwoParts:
        """What is known of start-up, seconds: of GPUs by those of GPUs, of processors by theirs.

        Args:
            gpu: what is planned for.
            usual: the two parts that a model's start-up usually has.
            before: what is known without logs of evaluations; they are trusted more than it.
        """
        seen: dict[Architecture, list[float]] = {}
        for cell in self.cells:
            model, other = self._models.get(cell.path), self._gpus.get(cell.path)
            if cell.startup_s and model and other and (other.name == "cpu") == (gpu.name == "cpu"):
                seen.setdefault(model, []).append(cell.startup_s)
        if not seen:
            return before
        first, both, second = before.covariance
        wider = TwoParts(before.factors, (first + 0.3**2, both, second + 0.1**2))
        times = [
            Timed(middle, *usual(model), _noise(gpu, middle, len(some)))
            for model, some in seen.items()
            for middle in (statistics.median(some),)
        ]
        learnt = learn_parts(times, _noise(gpu, math.inf, 1), wider)
        return TwoParts(learnt.factors, learnt.covariance, learnt.noise, sum(map(len, seen.values())))

    def speed(self, target: Setting, constants: Callable[[Gpu], Constants]) -> Speed:
        """What is known of the time of generating.

        Args:
            target: what is planned.
            constants: what is known of a GPU type.
        """
        alike = [one for one in self._timed if (one.setting.gpu.name == "cpu") == (target.gpu.name == "cpu")]
        kinds = Counter(_kinds(one.setting, target) for one in alike)
        times = []
        for one in alike:
            setting, kind = one.setting, _kinds(one.setting, target)
            parts = generation_s(
                setting.architecture, setting.gpu, one.asked, one.answer_tokens, constants(setting.gpu)
            )
            other = kinds[kind] * math.fsum(_OTHERS[name] ** 2 for name in kind)
            times.append(Timed(one.seconds, parts.waiting, parts.model, math.sqrt(one.noise**2 + other)))
        learnt = learn_parts(times, _noise(target.gpu, math.inf, 1), SPEED)
        same = sum(one.n for one in alike if not _kinds(one.setting, target))
        return Speed(learnt, sum(one.n for one in alike), same)

    def answers(self, target: Target, expected: float) -> Answers | None:
        """How long answers of the same task were; None where no log tells.

        Args:
            target: what is planned.
            expected: median of their length without logs.
        """
        kinds: dict[tuple[object, ...], list[float]] = {}
        doubts: dict[tuple[object, ...], float] = {}
        for cell in self._answered:
            if (cell.function, cell.script) != (target.setting.function, target.setting.script):
                continue
            length, doubt = _length(cell, target)
            model = self._models.get(cell.path)
            other = _other_args(cell.args, target.args)
            key = (model, cell.tuned, cell.max_tokens, cell.batch_size, other)
            doubt += OTHER_ARGS_ANSWERS**2 * other
            doubt += OTHER_MODEL_ANSWERS**2 * (model != target.setting.architecture)
            doubt += OTHER_WEIGHTS_ANSWERS**2 * (cell.tuned != target.setting.tuned)
            kinds.setdefault(key, []).append(math.log(length))
            doubts[key] = doubt
        if not kinds:
            return None
        weights = {key: 1 / (doubts[key] + ANSWER_NOISE**2 / len(some)) for key, some in kinds.items()}
        trust = ANSWER_SPREAD**-2 + math.fsum(weights.values())
        mean = math.log(expected) * ANSWER_SPREAD**-2
        mean += math.fsum(weights[key] * statistics.median(some) for key, some in kinds.items())
        tokens = min(float(target.max_tokens), math.exp(mean / trust))
        return Answers(tokens, math.sqrt(1 / trust + ANSWER_NOISE**2), sum(map(len, kinds.values())))


_OTHERS = {"gpu": OTHER_GPU, "model": OTHER_MODEL, "task": OTHER_TASK}


def _kinds(setting: Setting, target: Setting) -> tuple[str, ...]:
    """In what a log differs from what is planned."""
    task = (setting.function, setting.script, setting.tuned) != (target.function, target.script, target.tuned)
    differs = {
        "gpu": setting.gpu.name != target.gpu.name,
        "model": setting.architecture != target.architecture,
        "task": task,
    }
    return tuple(name for name, other in differs.items() if other)


def _noise(gpu: Gpu, seconds: float, n: int) -> float:
    own = math.hypot(NOISE, NOISE_PROCESSOR if gpu.name == "cpu" else 0.0, ROUNDING_S / seconds)
    return own / math.sqrt(n)


def _model(cell: PriorCell, models: Mapping[str, Architecture]) -> Architecture | None:
    """The architecture of a log's model by one of its names, as it stands or without what differs between names."""
    every = (models.get(name) or models.get(canonical(name)) for name in cell.models)
    return next((found for found in every if found is not None), None)


def _repeated(seen: Sequence[tuple[Setting, PriorCell]]) -> list[_Repeated]:
    """The logs by setting, newest first; each stands for all of its setting."""
    settings: dict[Setting, list[tuple[float, PriorCell]]] = {}
    for setting, cell in seen:
        some = settings.setdefault(setting, [])
        if len(some) < MOST_LOGS:
            some.append((math.log((cell.seconds or 1.0) / _expected(setting, cell).total), cell))
    found = []
    for setting, some in settings.items():
        some.sort(key=lambda one: one[0])
        middle = some[len(some) // 2][1]
        seconds = _expected(setting, middle).total * math.exp(statistics.median(ratio for ratio, _ in some))
        tokens = middle.output_tokens or 1.0
        noise = _noise(setting.gpu, seconds, len(some))
        found.append(_Repeated(setting, _asked(middle), tokens, seconds, noise, len(some)))
    return found


def _asked(cell: PriorCell) -> Asked:
    samples = cell.samples or 1
    return Asked(samples, samples * (cell.prompt_tokens or 0.0), cell.batch_size or 1)


def _expected(setting: Setting, cell: PriorCell) -> Parts:
    return generation_s(setting.architecture, setting.gpu, _asked(cell), cell.output_tokens or 1.0, prior(setting.gpu))


def _length(cell: PriorCell, target: Target) -> tuple[float, float]:
    """Tokens that a log's answers would have as planned, and the variance of their logarithm."""
    length, longest, batch = cell.output_tokens or 1.0, cell.max_tokens or 1, cell.batch_size or 1
    batches = 0.2 * math.log(target.setting.batch_size / batch)
    if length < CUT * longest:
        return max(1.0, min(length, target.max_tokens)), batches**2
    change = math.log(target.max_tokens / longest)
    return max(1.0, target.max_tokens * length / longest), batches**2 + max(0.0, 0.5 * change) ** 2


def _other_args(said: Mapping[str, Any], planned: Mapping[str, Any]) -> bool:
    """Whether arguments differ that both have, but for where the data are."""
    return any(said[key] != value for key, value in planned.items() if key in said and key not in PATH_PARAMETERS)
