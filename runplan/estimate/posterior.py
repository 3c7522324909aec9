"""Speed learnt from logs: physics as the mean, its constants and its error as Gaussian unknowns.

Logarithms of step times are linear in the logarithms of a GPU's constants, near enough. So one Gaussian model holds
all logs: constants have a part that all GPUs share and a part of their own (a log of another GPU type tells about the
first only), and runs of a like shape share what the physics gets wrong. Solved exactly (one Cholesky factor of at most
`MOST` logs), relinearised a few times.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from runplan.estimate.cholesky import backward, cholesky, forward
from runplan.estimate.observation import Observation
from runplan.estimate.speed import SPREAD_OWN, SPREAD_SHARED, Constants, Task, prior, step_s
from runplan.estimate.workload import Gpu

MOST = 32
"""Logs that enter one fit: the most telling of thousands, so that sizing a run stays below a millisecond."""
SHAPE_OWN, SHAPE_SHARED = 0.06, 0.06
"""What the physics gets wrong for a shape of run: on one GPU type, and on all alike (standard deviations)."""
OUTLIER = 4.0
"""Standard deviations from what all other logs say beyond which a log is left out, and named."""
RUN = 0.03
"""One run differs from the next on the same GPU by this much."""
FREEDOM = 5.0
"""Logs that the assumed standard deviations count as: more logs than that decide themselves how much they scatter."""
_MODE_WEIGHTS = (1.0, 1.0, 4.0, 1.0, 4.0)
"""How far apart runs are that differ in checkpointing, packing, compiling, number of GPUs, number format."""
_ROUNDS = 12
_CLOSE = 0.01
"""Constants that move by less than this between rounds have been found."""
_PROCESSOR = 6.0
"""Processors differ from each other, and from the physics of GPUs, by so many times the variance of GPUs."""
_STEP = 1e-4


@dataclass
class Posterior:
    """What logs and physics together say about step times."""

    used: list[Observation]
    outliers: list[tuple[Observation, str]]
    shifts: dict[str, Constants] = field(default_factory=dict)
    rows: list[Constants] = field(default_factory=list)
    """Slopes of every used log."""
    shapes: list[_Shape] = field(default_factory=list)
    gpus: dict[str, Gpu] = field(default_factory=dict)
    factor: list[list[float]] = field(default_factory=list)
    """Cholesky factor of their covariance."""
    solved: list[float] = field(default_factory=list)
    """Inverse covariance times residuals."""
    misfits: list[float] = field(default_factory=list)
    """What each log adds to the squared residuals in units of their covariance: about 1 where the assumptions hold."""
    _cache: dict[Task, tuple[float, float]] = field(default_factory=dict)

    def constants(self, gpu: Gpu) -> Constants:
        """Median constants of a GPU type."""
        start = prior(gpu)
        shift = self.shifts.get(gpu.name)
        if shift is None:
            shift = self.shifts[gpu.name] = self.shift_of(gpu)
        return Constants(*(a + b for a, b in zip(start, shift, strict=True)))

    def shift_of(self, gpu: Gpu) -> Constants:
        """How far the logs move the constants of a GPU type from what its specification says."""
        moved = [0.0, 0.0, 0.0, 0.0]
        for row, weight, seen in zip(self.rows, self.solved, self.used, strict=True):
            for k, (shared, own) in enumerate(_spreads(gpu, seen.task.gpu)):
                moved[k] += (shared + own) * row[k] * weight
        return Constants(*moved)

    def log_step_s(self, task: Task) -> tuple[float, float]:
        """Mean and standard deviation of the logarithm of an optimizer step's seconds."""
        found = self._cache.get(task)
        if found is None:
            found = self._cache[task] = self._predict(task)
        return found

    def _predict(self, task: Task) -> tuple[float, float]:
        constants = self.constants(task.gpu)
        mean = math.log(step_s(task, constants))
        slope = _slope(task, constants)
        cross = []
        here = _shape(task)
        weighted = {name: _weighted(slope, task.gpu, gpu) for name, gpu in self.gpus.items()}
        for row, shape, weight in zip(self.rows, self.shapes, self.solved, strict=True):
            a, b, c, d = weighted[shape.gpu]
            by_shape = _shape_covariance(here, shape)
            cross.append(a * row[0] + b * row[1] + c * row[2] + d * row[3] + by_shape)
            mean += by_shape * weight
        variance = _linear_covariance(slope, task.gpu, slope, task.gpu) + _shape_covariance(here, here)
        half = forward(self.factor, cross)
        variance = max(0.0, variance - sum(x * x for x in half))
        return mean, _scale(*self.misfit(task.gpu)) * math.sqrt(variance + RUN * RUN)

    def misfit(self, gpu: Gpu) -> tuple[float, int]:
        """Squared residuals in units of their covariance, and of how many logs: of GPUs, or of processors."""
        pairs = zip(self.misfits, self.used, strict=True)
        alike = [misfit for misfit, seen in pairs if (seen.task.gpu.name == "cpu") == (gpu.name == "cpu")]
        return sum(alike), len(alike)


def fit(observations: Sequence[Observation], target: Gpu) -> Posterior:
    """The posterior of step times given logs; those that contradict physics or all others are left out and named.

    Args:
        observations: measurements, the most telling first.
        target: GPU type that will be asked about; its own logs are kept before others.
    """
    bad = [(seen, seen.outlier) for seen in observations if seen.outlier]
    good = [seen for seen in observations if not seen.outlier]
    good.sort(key=lambda seen: (seen.task.gpu.name != target.name or not seen.gpu_known, seen.tokens_sigma))
    good = _merge(good)[:MOST]
    posterior = _solve(good)
    for _ in range(3):
        worst = _worst(posterior)
        if worst is None:
            break
        seen, why = worst
        bad.append((seen, why))
        good = [other for other in good if other is not seen]
        posterior = _solve(good)
    posterior.outliers = bad
    return posterior


def _merge(observations: Sequence[Observation]) -> list[Observation]:
    """One observation a distinct task; the median of those that repeat it."""
    groups: dict[tuple[Task, bool], list[Observation]] = {}
    for seen in observations:
        groups.setdefault((seen.task, seen.gpu_known), []).append(seen)
    merged = []
    for members in groups.values():
        ranked = sorted(members, key=lambda seen: seen.seconds)
        merged.append(ranked[len(ranked) // 2])
    return merged


def _solve(observations: list[Observation]) -> Posterior:
    """The posterior at the constants that it implies itself: linearised again until they stand still."""
    if not observations:
        return Posterior(observations, [])
    gpus = {seen.task.gpu.name: seen.task.gpu for seen in observations}
    start = dict.fromkeys(gpus, Constants(0.0, 0.0, 0.0, 0.0))
    for _ in range(_ROUNDS):
        posterior = _linearised(observations, gpus, start)
        found = posterior.shifts
        if all(abs(b - a) < _CLOSE for name in gpus for a, b in zip(start[name], found[name], strict=True)):
            break
        # Half the way: where launches and throughput take turns, whole steps jump over the crossing and back.
        start = {
            name: Constants(*((a + b) / 2 for a, b in zip(start[name], found[name], strict=True))) for name in gpus
        }
    return posterior


def _linearised(observations: list[Observation], gpus: dict[str, Gpu], shifts: Mapping[str, Constants]) -> Posterior:
    """The posterior when step times are taken as linear around shifted constants."""
    rows, rest = [], []
    for seen in observations:
        shift = shifts[seen.task.gpu.name]
        at = Constants(*(a + b for a, b in zip(prior(seen.task.gpu), shift, strict=True)))
        row = _slope(seen.task, at)
        rows.append(row)
        expected = math.log(step_s(seen.task, at))
        rest.append(math.log(seen.seconds) - expected + sum(a * b for a, b in zip(row, shift, strict=True)))
    shapes = [_shape(seen.task) for seen in observations]
    factor = cholesky(_covariance(observations, rows, shapes))
    solved = backward(factor, forward(factor, rest))
    misfits = [a * b for a, b in zip(solved, rest, strict=True)]
    posterior = Posterior(observations, [], {}, rows, shapes, gpus, factor, solved, misfits)
    posterior.shifts = {name: posterior.shift_of(gpu) for name, gpu in gpus.items()}
    return posterior


def _scale(misfit: float, n: int) -> float:
    """How many times wider than assumed the errors are, as the logs themselves show.

    The scale of a multivariate Student-t process (Shah, Wilson and Ghahramani 2014, "Student-t processes as
    alternatives to Gaussian processes", equation 6). A shared or throttled machine scatters more than assumed; where
    logs agree better than assumed that may be chance, so intervals are never made narrower.
    """
    return max(1.0, math.sqrt((FREEDOM + misfit) / (FREEDOM + n)))


def _covariance(
    observations: Sequence[Observation], rows: Sequence[Constants], shapes: Sequence[_Shape]
) -> list[list[float]]:
    n = len(observations)
    matrix = [[0.0] * n for _ in range(n)]
    for i, seen in enumerate(observations):
        for j in range(i + 1):
            other = observations[j]
            value = _linear_covariance(rows[i], seen.task.gpu, rows[j], other.task.gpu)
            matrix[i][j] = matrix[j][i] = value + _shape_covariance(shapes[i], shapes[j])
        guessed = seen.tokens_sigma * _token_elasticity(rows[i])
        matrix[i][i] += seen.noise**2 + guessed**2
    return matrix


def _token_elasticity(row: Constants) -> float:
    """How far a step's time follows its tokens: the part of it that the GPU's throughput decides."""
    return min(1.0, -row.flops - row.bandwidth)


def _spreads(a: Gpu, b: Gpu) -> tuple[tuple[float, float], ...]:
    """Prior covariance of every constant between two GPU types: (shared, own)."""
    same = 1.0 if a.name == b.name else 0.0
    wide = _PROCESSOR if a.name == "cpu" and b.name == "cpu" else 1.0
    alike = 0.0 if (a.name == "cpu") != (b.name == "cpu") else 1.0
    return tuple(
        (wide * alike * shared * shared, wide * same * own * own)
        for shared, own in zip(SPREAD_SHARED, SPREAD_OWN, strict=True)
    )


def _weighted(row: Constants, gpu: Gpu, other: Gpu) -> Constants:
    """A slope times the prior covariance of the constants of two GPU types."""
    return Constants(*(a * (shared + own) for a, (shared, own) in zip(row, _spreads(gpu, other), strict=True)))


def _linear_covariance(row: Constants, gpu: Gpu, other: Constants, other_gpu: Gpu) -> float:
    return sum(a * b for a, b in zip(_weighted(row, gpu, other_gpu), other, strict=True))


class _Shape(NamedTuple):
    """What makes runs alike."""

    gpu: str
    tokens: float
    params: float
    mode: tuple[bool, bool, bool, int, str]


def _shape(task: Task) -> _Shape:
    return _Shape(
        task.gpu.name,
        math.log(max(1.0, task.batch * task.tokens)) / 1.2,
        math.log(task.architecture.params) / 1.2,
        (task.checkpointing, task.packed, task.compile, task.gpus, task.dtype),
    )


def _shape_covariance(a: _Shape, b: _Shape) -> float:
    """Covariance of the physics' own error between two runs: the more alike in shape, the higher."""
    same_gpu = a.gpu == b.gpu
    if not same_gpu and "cpu" in {a.gpu, b.gpu}:
        return 0.0
    tokens, size = a.tokens - b.tokens, a.params - b.params
    distance = tokens * tokens + size * size
    if a.mode != b.mode:
        differ = [x != y for x, y in zip(a.mode, b.mode, strict=True)]
        distance += sum(weight for weight, other in zip(_MODE_WEIGHTS, differ, strict=True) if other)
    wide = _PROCESSOR if a.gpu == "cpu" else 1.0
    return wide * math.exp(-distance / 2) * (SHAPE_SHARED**2 + (SHAPE_OWN**2 if same_gpu else 0.0))


def _slope(task: Task, at: Constants) -> Constants:
    """Derivatives of the logarithm of the step's time by the constants."""
    here = math.log(step_s(task, at))
    slopes = []
    for k, value in enumerate(at):
        moved = at._replace(**{at._fields[k]: value + _STEP})
        slopes.append((math.log(step_s(task, moved)) - here) / _STEP)
    return Constants(*slopes)


def _worst(posterior: Posterior) -> tuple[Observation, str] | None:
    """The log that the others contradict most, when that is beyond chance."""
    n = len(posterior.used)
    if n < 3:
        return None
    found, most = None, OUTLIER
    for i, seen in enumerate(posterior.used):
        unit = [0.0] * n
        unit[i] = 1.0
        precision = sum(x * x for x in forward(posterior.factor, unit))
        deviation = posterior.solved[i] / math.sqrt(precision)
        misfit, alike = posterior.misfit(seen.task.gpu)
        deviation /= _scale(misfit - deviation * deviation, alike - 1)  # in units of how much the others scatter
        if abs(deviation) > most:
            factor = math.exp(posterior.solved[i] / precision)
            found, most = (seen, f"{factor:.2g} times the step time that the other logs imply"), abs(deviation)
    return found
