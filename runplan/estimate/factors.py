"""Factors on what is usual, as logs teach them: log-normal, shrunk to 1, robust to single wild values."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from runplan.estimate import intervals
from runplan.estimate.workload import Interval


@dataclass(frozen=True)
class Learnt:
    """A factor on a prior median, and how far it is trusted: log-normal."""

    log_factor: float
    sigma: float
    n: int = 0

    def of(self, median: float) -> Interval:
        """The interval around a prior median."""
        return intervals.from_median(median * math.exp(self.log_factor), self.sigma)


def learn(ratios: Iterable[float], spread: float, noise: float) -> Learnt:
    """What logs say about a factor: their median, shrunk to 1, robust to single wild values.

    Args:
        ratios: observed over expected, one a log.
        spread: standard deviation of the logarithm before any log.
        noise: standard deviation of the logarithm from one run to the next.
    """
    logs = [math.log(ratio) for ratio in ratios if ratio > 0 and math.isfinite(ratio)]
    if not logs:
        return Learnt(0.0, spread)
    trust = len(logs) / (len(logs) + (noise / spread) ** 2)
    left = spread * spread * (1 - trust)
    return Learnt(trust * statistics.median(logs), math.sqrt(left + noise * noise), len(logs))


def scatter(logs: Sequence[float], middle: float) -> float:
    """Standard deviation of values around their median as most of them show it: single wild ones do not count.

    The median absolute deviation times 1.48, which makes it that of a normal distribution.
    """
    return 1.48 * statistics.median(abs(log - middle) for log in logs)


def learn_weighed(logs: Sequence[tuple[float, float]], spread: float, noise: float) -> Learnt:
    """The same of logarithms that are not all as exact: every one with its own standard deviation.

    Args:
        logs: logarithm of observed over expected and its standard deviation, one a log.
        spread: standard deviation of the logarithm of the next run before any log, its own noise included.
        noise: what of that differs from one run to the next, which no log takes away.
    """
    if not logs:
        return Learnt(0.0, spread)
    common = spread * spread - noise * noise
    weight = math.fsum(own**-2 for _, own in logs)
    trust = weight / (weight + 1 / common)
    return Learnt(trust * _weighed_median(logs, weight), math.sqrt(common * (1 - trust) + noise * noise), len(logs))


def _weighed_median(logs: Sequence[tuple[float, float]], weight: float) -> float:
    """The value with half of the weight on either side; between two where the half falls between them."""
    ordered, half = sorted(logs), weight / 2
    reached = list(accumulate(own**-2 for _, own in ordered))
    middle = next(i for i, so_far in enumerate(reached) if so_far > half or math.isclose(so_far, half, rel_tol=1e-9))
    if math.isclose(reached[middle], half, rel_tol=1e-9):
        return (ordered[middle][0] + ordered[middle + 1][0]) / 2
    return ordered[middle][0]
