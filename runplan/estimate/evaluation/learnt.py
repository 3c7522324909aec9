"""What logs of earlier evaluations teach: how long jobs take to start, models to generate, and answers get."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from runplan.estimate.evaluation.answers import Answers, Asker, learn_answers, same_size
from runplan.estimate.evaluation.generation import Asked, Parts, generation_s
from runplan.estimate.logs.settings import canonical, find_gpu
from runplan.estimate.speed.gpu_constants import Constants, prior
from runplan.estimate.wall_time.two_parts import Timed, TwoParts, learn_parts
from runplan.estimate.workload import Gpu
from runplan.facts import Architecture
from runplan.priors.evaluated import PriorCell

NOISE, NOISE_PROCESSOR = 0.13, 0.1
"""Standard deviation of the logarithm from one evaluation to the same again; what processors add to that."""
START_NOISE, START_NOISE_PROCESSOR = 0.18, 0.15
"""The same of start-up, which waits for file systems (on a CPU 6 to 13 s, and 33 to 49 s when it was busy)."""
ROUNDING_S = 0.4
"""Inspect and job scripts write whole seconds."""
OTHER_GPU, OTHER_MODEL, OTHER_TASK = 0.35, 0.2, 0.2
"""Standard deviations that logs of another GPU type, model, or task add (scorers differ); all logs of one such kind err
together."""
OTHER_IMPORTS, OTHER_READING = 0.3, 0.1
"""How far the two parts of an evaluation's start-up may differ from those of a training's (standard deviations of the
logarithm): other libraries are imported, the same files are read."""
SPEED = TwoParts((0.0, 0.0), (0.5**2, 0.0, 0.8**2))
"""What is known before any log of what Inspect and the task's scorer take, and of what the model takes."""
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
        self._answered: dict[tuple[str, str | None], list[tuple[PriorCell, Architecture | None]]] = {}
        for cell in self.cells:
            if cell.output_tokens and cell.max_tokens:
                self._answered.setdefault((cell.function, cell.script), []).append((cell, self._models[cell.path]))
        self.remembered: dict[object, Any] = {}
        """What was asked before, for whoever asks the same for every run."""

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
        noise = math.hypot(START_NOISE, START_NOISE_PROCESSOR if gpu.name == "cpu" else 0.0)
        wider = TwoParts(before.factors, (first + OTHER_IMPORTS**2, both, second + OTHER_READING**2))
        times = [
            Timed(middle, *usual(model), noise / math.sqrt(len(some)))
            for model, some in seen.items()
            for middle in (statistics.median(some),)
        ]
        learnt = learn_parts(times, noise, wider, math.inf)
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
        learnt = learn_parts(times, _noise(target.gpu, math.inf, 1), SPEED, math.inf)
        same = sum(one.n for one in alike if not _kinds(one.setting, target))
        return Speed(learnt, sum(one.n for one in alike), same)

    def answers(self, function: str, script: str | None, planned: Asker, expected: float) -> Answers | None:
        """How long answers of the same task were; None where no log tells.

        Args:
            function: the task's.
            script: its file's name with that of its folder.
            planned: who is to answer.
            expected: median of their length without logs.
        """
        return learn_answers(self._answered.get((function, script), ()), planned, expected)


_OTHERS = {"gpu": OTHER_GPU, "model": OTHER_MODEL, "task": OTHER_TASK}


def _kinds(setting: Setting, target: Setting) -> tuple[str, ...]:
    """In what a log differs from what is planned."""
    task = (setting.function, setting.script, setting.tuned) != (target.function, target.script, target.tuned)
    differs = {
        "gpu": setting.gpu.name != target.gpu.name,
        "model": not same_size(setting.architecture, target.architecture),
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
    counted = Counter(setting for setting, _ in seen)
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
        found.append(_Repeated(setting, _asked(middle), tokens, seconds, noise, counted[setting]))
    return found


def _asked(cell: PriorCell) -> Asked:
    samples = cell.samples or 1
    return Asked(samples, samples * (cell.prompt_tokens or 0.0), cell.batch_size or 1)


def _expected(setting: Setting, cell: PriorCell) -> Parts:
    return generation_s(setting.architecture, setting.gpu, _asked(cell), cell.output_tokens or 1.0, prior(setting.gpu))
