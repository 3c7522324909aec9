"""Arithmetic of quantities known by their median and 95th percentile, taken as log-normal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from runplan.estimate.workload import Interval

Z95 = 1.6448536269514722
"""Standard normal quantile at 0.95."""
CORRELATION = 0.5
"""Between parts of one sum: estimates of a plan share the error of one calibration, so they are wrong together."""


def from_median(p50: float, sigma: float) -> Interval:
    """The log-normal interval around a median; `sigma` is the standard deviation of the logarithm."""
    return Interval(p50, p50 * math.exp(Z95 * sigma))


def sigma(interval: Interval) -> float:
    """Standard deviation of the logarithm; 0 for a quantity that is certain or zero."""
    if interval.p50 <= 0 or interval.p95 <= interval.p50:
        return 0.0
    return math.log(interval.p95 / interval.p50) / Z95


def times(interval: Interval, factor: float) -> Interval:
    """The same quantity `factor` times over (one error for all)."""
    return Interval(interval.p50 * factor, interval.p95 * factor)


def total(intervals: Sequence[Interval], correlation: float = CORRELATION) -> Interval:
    """Median and 95th percentile of a sum of log-normal quantities.

    Mean and variance of the sum are exact for pairwise `correlation`; its shape is taken as log-normal again
    (Fenton 1960, "The sum of log-normal probability distributions"). Where a part is very uncertain that shape is
    wrong by far, but the median never lies below the sum of the medians, nor the p95 below that of any part or above
    the sum of the p95s.
    """
    certain = math.fsum(part.p50 for part in intervals if sigma(part) == 0)
    parts = [part for part in intervals if sigma(part) > 0]
    if len(parts) < 2:
        rest = parts[0] if parts else Interval(0.0, 0.0)
        return Interval(certain + rest.p50, certain + rest.p95)
    means, deviations = [], []
    for part in parts:
        spread = sigma(part)
        means.append(part.p50 * math.exp(spread * spread / 2))
        deviations.append(means[-1] * math.sqrt(math.expm1(spread * spread)))
    mean = math.fsum(means)
    own = math.fsum(d * d for d in deviations)
    variance = (1 - correlation) * own + correlation * math.fsum(deviations) ** 2
    spread = math.sqrt(math.log1p(variance / (mean * mean)))
    p50, medians = mean * math.exp(-spread * spread / 2), math.fsum(part.p50 for part in parts)
    p95 = max(p50 * math.exp(Z95 * spread), medians, *(part.p95 for part in parts))
    p95 = min(p95, math.fsum(part.p95 for part in parts))
    return Interval(certain + min(max(p50, medians), p95), certain + p95)
