"""Times that are a constant and something in proportion to size: start-up (imports, reading), saving."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from runplan.estimate import intervals
from runplan.estimate.workload import Interval

CONSTANT_SPREAD, RATE_SPREAD = 0.6, 0.9
"""Standard deviation of the logarithm of either part before any log: machines, and file systems (of 23 published times
of reading and saving one stays above the p95 that follows)."""
_ROUNDS = 12
"""Half steps towards the mode: it is within a part in 4,000 of the way then."""
_TAILS = 4.0
"""Degrees of freedom of a time's noise (Student's t)."""


class Timed(NamedTuple):
    """One measured time, and what its two parts usually take; seconds."""

    seconds: float
    constant: float
    scaled: float
    noise: float | None = None
    """Standard deviation of the logarithm where it is not that of one run to the next."""


@dataclass(frozen=True)
class TwoParts:
    """What logs say about both parts: factors on the usual times, log-normal, with their covariance."""

    factors: tuple[float, float] = (0.0, 0.0)
    """Natural logarithms."""
    covariance: tuple[float, float, float] = (CONSTANT_SPREAD**2, 0.0, RATE_SPREAD**2)
    """Of constant with constant, constant with scaled, scaled with scaled."""
    noise: float = 0.15
    n: int = 0

    def of(self, constant: float, scaled: float) -> Interval:
        """The interval around the sum of two usual parts, seconds."""
        total, share = _mixed(self.factors, constant, scaled)
        a, b = share, 1 - share
        aa, ab, bb = self.covariance
        return intervals.from_median(total, math.sqrt(a * a * aa + 2 * a * b * ab + b * b * bb + self.noise**2))


NOTHING = TwoParts()


def learn_parts(
    times: Iterable[Timed], noise: float = 0.15, before: TwoParts = NOTHING, tails: float = _TAILS
) -> TwoParts:
    """Both factors from measured times: a small model tells of the constant part, a large one of the other.

    The mode of a Gaussian prior and noise with the tails of Student's t (single wild times bend little), by
    Gauss-Newton steps of half length.

    Args:
        times: what was measured; what is not a positive number is passed over.
        noise: standard deviation of the logarithm from one run to the next.
        before: what was known of both factors before these times.
        tails: degrees of freedom of the noise; infinite where each time is already the median of several.
    """
    seen = [one for one in times if 0 < one.seconds < math.inf]
    factors, covariance = before.factors, before.covariance
    for _ in range(_ROUNDS if seen else 0):
        target, covariance = _solved(seen, factors, (noise, tails), before)
        factors = ((factors[0] + target[0]) / 2, (factors[1] + target[1]) / 2)
    return TwoParts(factors, covariance, noise, len(seen))


def _mixed(factors: tuple[float, float], constant: float, scaled: float) -> tuple[float, float]:
    """(sum, share of the constant part, which is all of nothing)."""
    first, second = constant * math.exp(factors[0]), scaled * math.exp(factors[1])
    total = first + second
    return total, first / total if total else 1.0


def _solved(
    seen: Sequence[Timed], factors: tuple[float, float], noise: tuple[float, float], before: TwoParts
) -> tuple[tuple[float, float], tuple[float, float, float]]:
    """Factors and their covariance when times are taken as linear around some factors."""
    known = before.covariance[0] * before.covariance[2] - before.covariance[1] ** 2
    aa, ab, bb = before.covariance[2] / known, -before.covariance[1] / known, before.covariance[0] / known
    right_a = aa * before.factors[0] + ab * before.factors[1]
    right_b = ab * before.factors[0] + bb * before.factors[1]
    for one in seen:
        total, share = _mixed(factors, one.constant, one.scaled)
        a, b = share, 1 - share
        off = math.log(one.seconds / total)
        weight = _weight(noise[0] if one.noise is None else one.noise, noise[1], off)
        rest = off + a * factors[0] + b * factors[1]
        aa, ab, bb = aa + weight * a * a, ab + weight * a * b, bb + weight * b * b
        right_a, right_b = right_a + weight * a * rest, right_b + weight * b * rest
    determinant = aa * bb - ab * ab
    found = (bb * right_a - ab * right_b) / determinant, (aa * right_b - ab * right_a) / determinant
    return found, (bb / determinant, -ab / determinant, aa / determinant)


def _weight(noise: float, tails: float, off: float) -> float:
    """How much a time counts that is off by a logarithm: less, the less it fits."""
    return 1 / noise**2 if tails == math.inf else (tails + 1) / (tails * noise**2 + off * off)
