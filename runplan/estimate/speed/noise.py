"""How noisy logs are, as they turn out: each for itself, and all together."""

from __future__ import annotations

import math
from collections.abc import Sequence

TAILS = 4.0
"""Degrees of freedom of a log's noise (Student's t): a busy node slows a run by far more than noise usually does."""
FREEDOM = 5.0
"""Logs that the assumed standard deviations count as: more logs than that decide themselves how much they scatter."""
_ROUNDS = 12
"""Times the common scale is found anew; it has settled by then."""


def robust_noise(least: Sequence[float], errors: Sequence[float]) -> list[float]:
    """Variance of every log's noise given what it looks like now: wider where a log stands apart.

    Args:
        least: variance of every log's noise as assumed.
        errors: its noise as it looks now.

    Source: one step of expectation maximisation for noise of Student's t distribution (Lange, Little and Taylor 1989,
    "Robust statistical modeling using the t distribution"); it tells an odd log from odd constants without a threshold.
    """
    squares = [error * error / assumed for assumed, error in zip(least, errors, strict=True)]
    common = 1.0  # what all logs are noisier than assumed, as far as so few can tell
    for _ in range(_ROUNDS):
        weighed = sum(one * (TAILS + 1) * common / (TAILS * common + one) for one in squares)
        common = max(1.0, (FREEDOM + weighed) / (FREEDOM + len(squares)))
    return [assumed * (TAILS * common + one) / (TAILS + 1) for assumed, one in zip(least, squares, strict=True)]


def scale(misfit: float, n: int) -> float:
    """How many times wider than assumed the errors are, as the logs themselves show.

    The scale of a multivariate Student-t process (Shah, Wilson and Ghahramani 2014, "Student-t processes as
    alternatives to Gaussian processes", equation 6). A shared or throttled machine scatters more than assumed; where
    logs agree better than assumed that may be chance, so intervals are never made narrower.
    """
    return max(1.0, math.sqrt((FREEDOM + misfit) / (FREEDOM + n)))
