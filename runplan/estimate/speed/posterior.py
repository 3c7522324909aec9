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
from functools import cached_property

from runplan.estimate.intervals import Z95
from runplan.estimate.speed.cholesky import backward, cholesky, forward
from runplan.estimate.speed.covariance import Shape, linear_covariance, shape_covariance, shape_of, spreads, weighted
from runplan.estimate.speed.gpu_constants import NOTHING, Constants, prior
from runplan.estimate.speed.merged import merged
from runplan.estimate.speed.noise import robust_noise, scale
from runplan.estimate.speed.observation import Observation
from runplan.estimate.speed.roofline import step_s
from runplan.estimate.speed.step import Step
from runplan.estimate.workload import Gpu

MOST = 32
"""Logs that enter one fit: the most telling of thousands, so that sizing a run stays below a millisecond."""
OUTLIER = 4.0
"""Standard deviations from what all other logs say beyond which a log is left out, and named."""
RUN = 0.03
"""One run differs from the next on the same GPU by this much."""
RUN_PROCESSOR = 0.08
"""The same for processors, which share cores, caches and clocks: 0.03 of 16 pairs on a quiet machine, 0.3 on a busy
one."""
TAIL = 2.13 / 1.645
"""A coming run's noise has the tails that a log's has (noise.py): 95 % of Student's t in units of a normal."""
_ROUNDS = 12
"""Most times that the model is linearised again."""
ODD = 3.0
"""A log is odd whose noise looks so many times larger than assumed."""
CERTAIN = 0.2
"""Noise of logs whose GPU, trainer and lengths are known is below this: what others say may have other reasons."""
LOOSER = (2.0, 4.0, 8.0)
"""Times that physics may be less certain than assumed, where several logs say so together."""
_CLOSE = 0.01
"""Constants that move by less than this between rounds have been found."""
_STEP = 1e-4
"""By how much a constant is moved to see the slope."""


@dataclass
class Posterior:
    """What logs and physics together say about step times."""

    used: list[Observation]
    outliers: list[tuple[Observation, str]]
    shifts: dict[str, Constants] = field(default_factory=dict)
    rows: list[Constants] = field(default_factory=list)
    """Slopes of every used log."""
    shapes: list[Shape] = field(default_factory=list)
    gpus: dict[str, Gpu] = field(default_factory=dict)
    factor: list[list[float]] = field(default_factory=list)
    """Cholesky factor of their covariance."""
    solved: list[float] = field(default_factory=list)
    """Inverse covariance times residuals."""
    noise: list[float] = field(default_factory=list)
    """Variance of every log's own noise, as it turned out."""
    least: list[float] = field(default_factory=list)
    """The same as assumed."""
    misfits: list[float] = field(default_factory=list)
    """What each log adds to the squared residuals in units of their covariance: about 1 where the assumptions hold."""
    loose: float = 1.0
    """Times that physics is taken to be less certain than usual. Variances above are in units of its square."""
    _cache: dict[Step, tuple[float, float]] = field(default_factory=dict)

    @property
    def n_logs(self) -> int:
        """Logs that count, those that repeat others included."""
        return sum(seen.repeats for seen in self.used)

    def constants(self, gpu: Gpu) -> Constants:
        """Median constants of a GPU type."""
        start = prior(gpu)
        shift = self.shifts.get(gpu.name)
        if shift is None:
            shift = self.shifts[gpu.name] = self.shift_of(gpu)
        return Constants(*(a + b for a, b in zip(start, shift, strict=True)))

    def shift_of(self, gpu: Gpu) -> Constants:
        """How far the logs move the constants of a GPU type from what its specification says."""
        moved = [0.0] * len(NOTHING)
        for row, weight, seen in zip(self.rows, self.solved, self.used, strict=True):
            for k, (shared, own) in enumerate(spreads(gpu, seen.step.gpu)):
                moved[k] += (shared + own) * row[k] * weight
        return Constants(*moved)

    def log_step_s(self, step: Step) -> tuple[float, float]:
        """Mean and standard deviation of the logarithm of an optimizer step's seconds."""
        found = self._cache.get(step)
        if found is None:
            found = self._cache[step] = self._predict(step)
        return found

    def _predict(self, step: Step) -> tuple[float, float]:
        constants = self.constants(step.gpu)
        mean = math.log(step_s(step, constants))
        slope = _slope(step, constants)
        cross = []
        here = shape_of(step, slope)
        along = {name: weighted(slope, step.gpu, gpu) for name, gpu in self.gpus.items()}
        for row, shape, weight in zip(self.rows, self.shapes, self.solved, strict=True):
            a, b, c, d, e = along[shape.gpu]
            by_shape = shape_covariance(here, shape)
            cross.append(a * row[0] + b * row[1] + c * row[2] + d * row[3] + e * row[4] + by_shape)
            mean += by_shape * weight
        variance = linear_covariance(slope, step.gpu, slope, step.gpu) + shape_covariance(here, here)
        run = TAIL * (RUN_PROCESSOR if step.gpu.name == "cpu" else RUN)
        half = forward(self.factor, cross)
        variance = max(0.0, variance - sum(x * x for x in half))
        plain = math.hypot(self.loose * math.sqrt(variance), run)
        # However odd logs are: a run hardly takes longer than what is expected and the slowest of them together say.
        return mean, min(scale(*self.misfit(step.gpu)) * plain, plain + max([0.0, *self.errors]) / Z95)

    def misfit(self, gpu: Gpu) -> tuple[float, int]:
        """Squared residuals in units of their covariance, and of how many logs: of GPUs, or of processors."""
        pairs = zip(self.misfits, self.used, strict=True)
        alike = [misfit for misfit, seen in pairs if (seen.step.gpu.name == "cpu") == (gpu.name == "cpu")]
        return sum(alike), len(alike)

    @cached_property
    def errors(self) -> list[float]:
        """Logarithm of every log's time over what is now expected of it."""
        return [own * weight for own, weight in zip(self.noise, self.solved, strict=True)]

    @cached_property
    def surprises(self) -> list[float]:
        """The same of logs that were taken to be more certain than that, by two standard deviations; 0 of others."""
        pairs = zip(self.errors, self.least, strict=True)
        return [error if abs(error) > 2 * self.loose * math.sqrt(least) else 0.0 for error, least in pairs]

    @property
    def odd(self) -> int:
        """Logs that were taken for certain and whose noise looks far larger than assumed."""
        pairs = zip(self.noise, self.least, strict=True)
        return sum(own > ODD**2 * assumed for own, assumed in pairs if self.loose**2 * assumed < CERTAIN**2)


def fit(observations: Sequence[Observation], target: Gpu) -> Posterior:
    """The posterior of step times given logs; those that contradict physics or all others are left out and named.

    Args:
        observations: measurements, the most telling first.
        target: GPU type that will be asked about; its own logs are kept before others.
    """
    bad = [(seen, seen.outlier) for seen in observations if seen.outlier]
    good = [seen for seen in observations if not seen.outlier]
    good.sort(key=lambda seen: (seen.step.gpu.name != target.name or not seen.gpu_known, seen.tokens_sigma))
    if len(good) > MOST:
        good, apart = merged(good)
        bad += apart
    good = good[:MOST]
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


def _solve(observations: list[Observation]) -> Posterior:
    """The posterior under physics as certain as logs let it be.

    A log that stands apart alone is odd itself. Several that stand apart together are not all odd: physics is less
    certain than was assumed (nothing in it knows of shared GPUs, capped power or a slow host).
    """
    found = _solved(observations, 1.0)
    if found.odd > 1:
        for loose in LOOSER:
            other = _solved(observations, loose)
            if other.odd <= found.odd - 2:
                found = other
    return found


def _solved(observations: list[Observation], loose: float) -> Posterior:
    """The posterior at the constants that it implies itself: linearised again until they stand still."""
    if not observations:
        return Posterior(observations, [])
    gpus = {seen.step.gpu.name: seen.step.gpu for seen in observations}
    start = dict.fromkeys(gpus, NOTHING)
    least = [each / loose**2 for each in _least_noise(observations)]
    noise = least
    for _ in range(_ROUNDS):
        posterior = _linearised(observations, gpus, start, noise, least)
        errors = [own * weight / loose for own, weight in zip(posterior.noise, posterior.solved, strict=True)]
        noise = robust_noise(least, errors)
        found = posterior.shifts
        if all(abs(b - a) < _CLOSE for name in gpus for a, b in zip(start[name], found[name], strict=True)):
            break
        # Half the way: where launches and throughput take turns, whole steps jump over the crossing and back.
        start = {
            name: Constants(*((a + b) / 2 for a, b in zip(start[name], found[name], strict=True))) for name in gpus
        }
    posterior.loose, posterior.misfits = loose, [misfit / loose**2 for misfit in posterior.misfits]
    return posterior


def _least_noise(observations: Sequence[Observation]) -> list[float]:
    """Variance of every log's noise as assumed.

    How far a doubtful length makes the step's time doubtful is taken before any log: constants under which lengths
    would not matter must not make a log of unknown length a certain one.
    """
    elastic = [_token_elasticity(_slope(seen.step, prior(seen.step.gpu))) for seen in observations]
    return [seen.noise**2 + (seen.tokens_sigma * each) ** 2 for seen, each in zip(observations, elastic, strict=True)]


def _linearised(
    observations: list[Observation],
    gpus: dict[str, Gpu],
    shifts: Mapping[str, Constants],
    noise: list[float],
    least: list[float],
) -> Posterior:
    """The posterior when step times are taken as linear around shifted constants."""
    rows, rest = [], []
    for seen in observations:
        shift = shifts[seen.step.gpu.name]
        at = Constants(*(a + b for a, b in zip(prior(seen.step.gpu), shift, strict=True)))
        row = _slope(seen.step, at)
        rows.append(row)
        expected = math.log(step_s(seen.step, at))
        rest.append(math.log(seen.seconds) - expected + sum(a * b for a, b in zip(row, shift, strict=True)))
    shapes = [shape_of(seen.step, row) for seen, row in zip(observations, rows, strict=True)]
    factor = cholesky(_covariance(observations, rows, shapes, noise))
    solved = backward(factor, forward(factor, rest))
    # In units of the noise that was assumed, not of what it looks like.
    more = [
        weight * weight * own * (own / assumed - 1) for weight, own, assumed in zip(solved, noise, least, strict=True)
    ]
    misfits = [a * b + c for a, b, c in zip(solved, rest, more, strict=True)]
    posterior = Posterior(observations, [], {}, rows, shapes, gpus, factor, solved, noise, least, misfits)
    posterior.shifts = {name: posterior.shift_of(gpu) for name, gpu in gpus.items()}
    return posterior


def _covariance(
    observations: Sequence[Observation], rows: Sequence[Constants], shapes: Sequence[Shape], noise: Sequence[float]
) -> list[list[float]]:
    n = len(observations)
    matrix = [[0.0] * n for _ in range(n)]
    for i, seen in enumerate(observations):
        for j in range(i + 1):
            other = observations[j]
            value = linear_covariance(rows[i], seen.step.gpu, rows[j], other.step.gpu)
            matrix[i][j] = matrix[j][i] = value + shape_covariance(shapes[i], shapes[j])
        matrix[i][i] += noise[i]
    return matrix


def _token_elasticity(row: Constants) -> float:
    """How far a step's time follows its tokens: the part of it that the GPU's throughput decides."""
    return min(1.0, -row.flops - row.bandwidth)


def _slope(step: Step, at: Constants) -> Constants:
    """Derivatives of the logarithm of the step's time by the constants."""
    here = math.log(step_s(step, at))
    slopes = []
    for k, value in enumerate(at):
        moved = at._replace(**{at._fields[k]: value + _STEP})
        slopes.append((math.log(step_s(step, moved)) - here) / _STEP)
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
        error = posterior.solved[i] / precision
        deviation = error / math.sqrt(1 / precision - posterior.noise[i] + posterior.least[i])
        misfit, alike = posterior.misfit(seen.step.gpu)
        deviation /= posterior.loose
        deviation /= scale(misfit - deviation * deviation, alike - 1)  # in units of how much the others scatter
        if abs(deviation) > most:
            factor = math.exp(error)
            found, most = (seen, f"{factor:.2g} times the step time that the other logs imply"), abs(deviation)
    return found
